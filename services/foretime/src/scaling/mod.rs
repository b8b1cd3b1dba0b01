//! `foretime scaling`: a grid of small models on one's own text, the law of their losses, and its test on the largest of them.
//!
//! Belongs here: options, reading the text, keeping finished runs, what is printed. Not here: runs and laws (`gpt::scaling`).

mod picture;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use ::gpt::allocator::KeptMemory;
use ::gpt::scaling::{Cell, Corpus, Grid, Point, Recipe, Scaling};
use ::gpt::{Bpe, Device, GptConfig, Positions, device, exchange};
use clap::Args;
use frames::files;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Failure;
use crate::gpt::{Precision, modern};

/// The format of the kept files that this version writes, and the only one it reads.
const FORMAT: u32 = 1;

// What a grid is made of. No doc comment: clap would take it for the command's.
#[derive(Debug, Args)]
pub(crate) struct ScalingOptions {
    /// The folder for the runs, `scaling.json` and `scaling.svg`. A run that is there already is not made again.
    out: PathBuf,
    /// A text in UTF-8. Its last tenth is only for the losses.
    #[arg(long, required_unless_present = "ids", conflicts_with = "ids")]
    text: Option<PathBuf>,
    /// The `tokenizer.json` of the text; one is learned from it if not given.
    #[arg(long, conflicts_with = "ids")]
    tokenizer: Option<PathBuf>,
    /// Instead of text, a safetensors file with `ids` `[1, time]`, as `foretime gpt encode --out` writes it.
    #[arg(long)]
    ids: Option<PathBuf>,
    /// Distinct tokens: of a tokenizer that is learned (1024 if not given), or of the ids (one more than the largest).
    #[arg(long, conflicts_with = "tokenizer")]
    vocabulary: Option<usize>,
    /// The models, as blocks by numbers a token.
    #[arg(long, value_delimiter = ',', default_value = "1x32,2x64,3x96,4x128")]
    sizes: Vec<Size>,
    /// What each of them is trained on, in tokens.
    #[arg(long, value_delimiter = ',', value_parser = tokens, default_value = "2.5e5,5e5,1e6,2e6")]
    tokens: Vec<usize>,
    /// How many of the largest runs the law is tested on, without having seen them.
    #[arg(long, default_value_t = 2)]
    hold_out: usize,
    /// The longest sequence.
    #[arg(long, default_value_t = 128)]
    context: usize,
    /// Sequences a step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// The highest learning rate of a model of width 64; wider ones take it times 64 / width.
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f64,
    /// Decides weights and the order of sequences.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Rotary positions, RMS norm, SwiGLU and QK-norm instead of GPT-2's parts.
    #[arg(long)]
    modern: bool,
    /// The numbers that matrix products multiply; `bf16` is f32 where the processor does not multiply them.
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// What computes: `cpu`, or `cuda:0` in a program built with the Cargo feature `cuda`.
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// A model of a grid, written `2x64`.
#[derive(Clone, Copy, Debug)]
struct Size {
    layers: usize,
    width: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('x').and_then(|(layers, width)| layers.parse().ok().zip(width.parse().ok()));
        let (layers, width) = parts.ok_or("a size is blocks by numbers a token, such as 2x64")?;
        Ok(Self { layers, width })
    }
}

fn tokens(text: &str) -> Result<usize, String> {
    let count: f64 = text.parse().map_err(|_| "an amount of tokens is a number, such as 500000 or 5e5")?;
    if (1.0..1e15).contains(&count) {
        Ok(count as usize)
    } else {
        Err("an amount of tokens is at least 1".to_owned())
    }
}

/// What decides a run besides its cell; runs of another folder's are not taken for ours.
#[derive(Debug, Serialize)]
struct Shared {
    format: u32,
    recipe: Recipe,
    ids_sha256: String,
}

/// Makes the runs, writes the report and the picture, and prints what they say.
pub(crate) fn run(asked: &ScalingOptions) -> Result<(), Failure> {
    let device = device::open(&asked.device)?;
    let Read { ids, vocabulary, learned } = read(asked)?;
    let grid = asked.grid(vocabulary);
    let corpus = grid.corpus(&ids)?;
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let ids_sha256 = hex::encode(Sha256::digest(&bytes));
    let shared = Shared { format: FORMAT, recipe: grid.recipe.clone(), ids_sha256 };
    claim(&asked.out, &shared)?;
    learned.map(|bpe| bpe.save(&asked.out.join("tokenizer.json"))).transpose()?;
    let runs = runs(&asked.out, (&grid, &corpus), &device)?;
    let scaling = Scaling::of(runs.iter().map(|(_, run)| *run).collect(), grid.held_out)?;
    let cells: Vec<_> = runs.iter().map(|(cell, run)| json!({ "cell": cell, "run": run })).collect();
    let report = json!({
        "format": FORMAT, "recipe": shared.recipe, "ids": ids.len(), "ids_sha256": shared.ids_sha256,
        "runs": cells, "law": scaling.law, "tested": scaling.tested, "held_out": scaling.held_out,
    });
    files::write_bytes(&asked.out.join("scaling.json"), format!("{report:#}\n").as_bytes())?;
    files::write_bytes(&asked.out.join("scaling.svg"), picture::picture(&runs, &scaling).as_bytes())?;
    say(&scaling);
    println!("written: `{}` and `scaling.svg` beside it", asked.out.join("scaling.json").display());
    Ok(())
}

impl ScalingOptions {
    fn grid(&self, vocabulary: usize) -> Grid {
        let positions = Positions::Learned;
        let gpt2 = GptConfig { vocabulary, context: self.context, positions, ..GptConfig::default() };
        Grid {
            recipe: Recipe {
                model: if self.modern { modern(&gpt2) } else { gpt2 },
                batch: self.batch,
                learning_rate: self.learning_rate,
                seed: self.seed,
                precision: self.precision.numbers(),
            },
            sizes: self.sizes.iter().map(|size| (size.layers, size.width)).collect(),
            tokens: self.tokens.clone(),
            held_out: self.hold_out,
        }
    }
}

/// What there is to learn from.
struct Read {
    ids: Vec<u32>,
    vocabulary: usize,
    /// A tokenizer that was learned from the text.
    learned: Option<Bpe>,
}

fn read(asked: &ScalingOptions) -> Result<Read, Failure> {
    if let Some(path) = &asked.ids {
        let ids = exchange::read_ids(path)?.concat();
        let least = ids.iter().max().map_or(0, |&id| id as usize + 1);
        return Ok(Read { ids, vocabulary: asked.vocabulary.unwrap_or(least), learned: None });
    }
    let path = asked.text.as_deref().unwrap_or(Path::new(""));
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure(format!("`{}`: {error}", path.display())))?;
    let (bpe, new) = match &asked.tokenizer {
        Some(path) => (Bpe::load(path)?, false),
        None => (Bpe::train(text.lines(), asked.vocabulary.unwrap_or(1024), &[])?, true),
    };
    Ok(Read { ids: bpe.encode(&text)?, vocabulary: bpe.vocabulary_size(), learned: new.then_some(bpe) })
}

/// Says in the folder whose runs it keeps, or refuses a folder of others.
fn claim(out: &Path, shared: &Shared) -> Result<(), Failure> {
    let path = out.join("grid.json");
    let written = format!("{:#}\n", json!(shared));
    match std::fs::read(&path) {
        Ok(kept) if kept == written.as_bytes() => Ok(()),
        Ok(_) => Err(Failure(format!(
            "`{}` keeps runs of another text or another recipe; name another folder, or remove this one",
            out.display()
        ))),
        Err(_) => {
            files::write_bytes(&path, written.as_bytes())?;
            Ok(())
        }
    }
}

/// The runs of a grid: those that are kept, and the others made and kept now.
fn runs(
    out: &Path,
    (grid, corpus): (&Grid, &Corpus),
    device: &Device,
) -> Result<Vec<(Cell, Point)>, Failure> {
    let _kept = KeptMemory::hold();
    println!("{:<10} {:>12} {:>12} {:>8} {:>9}", "size", "parameters", "tokens", "loss", "seconds");
    let run = |cell: Cell| {
        let Cell { layers, width, tokens } = cell;
        let path = out.join("runs").join(format!("{layers}x{width}-{tokens}.json"));
        let (run, seconds) = match kept(&path)? {
            Some(run) => (run, "kept".to_owned()),
            None => {
                let began = Instant::now();
                let going = &mut || ControlFlow::Continue(());
                let run = grid.recipe.run(cell, corpus, device, going).map_err(|error| {
                    Failure(format!("{layers}x{width} on {tokens} tokens: {}", Failure::from(error)))
                })?;
                files::write_bytes(&path, json!(run).to_string().as_bytes())?;
                (run, format!("{:.1}", began.elapsed().as_secs_f64()))
            }
        };
        let size = format!("{layers}x{width}");
        println!("{size:<10} {:>12} {tokens:>12} {:>8.4} {seconds:>9}", run.parameters, run.loss);
        Ok((cell, run))
    };
    grid.cells().into_iter().map(run).collect()
}

/// A run of an earlier call, if there is one.
fn kept(path: &Path) -> Result<Option<Point>, Failure> {
    let Ok(bytes) = std::fs::read(path) else { return Ok(None) };
    let read = serde_json::from_slice(&bytes).map(Some);
    read.map_err(|error| Failure(format!("`{}` is no run ({error}); remove it", path.display())))
}

fn say(scaling: &Scaling) {
    let law = &scaling.law;
    println!(
        "L(N, D) = {:.4} + {:.4} / N^{:.4} + {:.4} / D^{:.4}, in nats a token",
        law.floor, law.a, law.alpha, law.b, law.beta
    );
    for told in &scaling.held_out {
        println!(
            "held out: {} parameters on {} tokens: foretold {:.4}, seen {:.4}, off by {:+.2} %",
            told.run.parameters,
            told.run.tokens,
            told.predicted,
            told.run.loss,
            told.error * 100.0
        );
    }
    let largest = scaling.runs.iter().map(|run| 6.0 * run.parameters * run.tokens).fold(0.0, f64::max);
    if law.alpha > 0.0 && law.beta > 0.0 {
        let (parameters, tokens) = law.best(10.0 * largest);
        println!(
            "ten times the largest run's operations go furthest with {parameters:.2e} parameters on {tokens:.2e} tokens: loss \
             {:.4}",
            law.loss(parameters, tokens)
        );
    } else {
        println!("on these runs size or data does not help: make the grid wider before building on its law");
    }
}
