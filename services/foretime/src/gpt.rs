//! `foretime gpt …` and `foretime plan`: a model's numbers from outside, its speed on this machine, and what a training
//! run will take.

mod text;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::gpt::measure::{Measurement, Plan, Work, measure};
use ::gpt::{Activation, Bpe, GptConfig, Kernels, NormKind, Positions, Sampling, exchange};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::Failure;

/// Models of text and events, without a server.
#[derive(Debug, Subcommand)]
pub(crate) enum GptCommand {
    /// Compute the logits of ids, for comparison with another implementation.
    Logits(Logits),
    /// Turn text into ids.
    Encode(text::Encode),
    /// Turn ids into text.
    Decode(text::Decode),
    /// Write on after a prompt.
    Generate(Generate),
    /// Measure tokens a second and memory on random sequences.
    Bench(Bench),
}

#[derive(Debug, Args)]
pub(crate) struct Logits {
    /// A directory with `config.json` and `model.safetensors`, under GPT-2's names.
    model: PathBuf,
    /// A safetensors file with `ids`, whole numbers `[batch, time]`.
    #[arg(long)]
    ids: PathBuf,
    /// Where `logits`, f32 `[batch, time, vocabulary]`, go.
    #[arg(long)]
    out: PathBuf,
    /// A directory with a PEFT adapter, to be merged first.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Compute with composed operations instead of our kernels.
    #[arg(long)]
    reference: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// A directory with `config.json` and `model.safetensors`.
    model: PathBuf,
    /// The prompt as text; needs a tokenizer.
    #[arg(long, conflicts_with = "ids")]
    prompt: Option<String>,
    /// The prompt as ids, such as `15496,11`.
    #[arg(long, value_delimiter = ',')]
    ids: Vec<u32>,
    /// The tokenizer; `tokenizer.json` beside the model if it is there. Without one, ids are written.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// A directory with a PEFT adapter, to be merged first.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// At most this many new tokens.
    #[arg(long, default_value_t = 32)]
    max_tokens: usize,
    /// 0 takes the most likely token each time.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Draw from so many of the most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Draw from the fewest tokens that hold this share of the probability.
    #[arg(long)]
    top_p: Option<f64>,
    /// Decides the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End with this token.
    #[arg(long, value_delimiter = ',')]
    stop: Vec<u32>,
    /// Compute with composed operations instead of our kernels.
    #[arg(long)]
    reference: bool,
}

// The size of a model. No doc comment: clap would take it for the command's.
#[derive(Debug, Args)]
struct Size {
    /// `a` (4 blocks of 128, vocabulary 1024, context 256), `b` (6 of 384, 4096, 512) or `c` (GPT-2: 12 of 768, 50257,
    /// 512); the options below change it.
    #[arg(long, default_value = "a")]
    preset: Preset,
    /// Blocks.
    #[arg(long)]
    layers: Option<usize>,
    /// Numbers per token.
    #[arg(long)]
    width: Option<usize>,
    /// Attention heads.
    #[arg(long)]
    heads: Option<usize>,
    /// Heads of keys and values.
    #[arg(long)]
    key_value_heads: Option<usize>,
    /// The longest sequence.
    #[arg(long)]
    context: Option<usize>,
    /// Distinct tokens.
    #[arg(long)]
    vocabulary: Option<usize>,
    /// Rotary positions, RMS norm, SwiGLU and QK-norm instead of GPT-2's parts.
    #[arg(long)]
    modern: bool,
    /// Sequences per step.
    #[arg(long)]
    batch: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    A,
    B,
    C,
}

impl Preset {
    fn sizes(self) -> ::gpt::measure::Preset {
        match self {
            Self::A => ::gpt::measure::Preset::A,
            Self::B => ::gpt::measure::Preset::B,
            Self::C => ::gpt::measure::Preset::C,
        }
    }
}

impl Size {
    fn config(&self) -> GptConfig {
        let preset = self.preset.sizes().config();
        let gpt2 = GptConfig {
            layers: self.layers.unwrap_or(preset.layers),
            width: self.width.unwrap_or(preset.width),
            heads: self.heads.unwrap_or(preset.heads),
            key_value_heads: self.key_value_heads,
            context: self.context.unwrap_or(preset.context),
            vocabulary: self.vocabulary.unwrap_or(preset.vocabulary),
            ..preset
        };
        if self.modern { modern(&gpt2) } else { gpt2 }
    }

    fn batch(&self) -> usize {
        self.batch.unwrap_or(self.preset.sizes().sequences()).max(1)
    }
}

/// The model with newer parts than GPT-2's.
pub(crate) fn modern(config: &GptConfig) -> GptConfig {
    let (norm, activation) = (NormKind::Rms, Activation::Swiglu);
    GptConfig { positions: Positions::Rotary, norm, activation, qk_norm: true, ..config.clone() }
}

// Which implementation computes. No doc comment, as above.
#[derive(Debug, Args)]
struct Implementation {
    /// Composed operations instead of our kernels.
    #[arg(long)]
    reference: bool,
    /// The numbers that matrix products multiply; `bf16` is f32 where the processor does not multiply them.
    #[arg(long, default_value = "f32")]
    precision: Precision,
}

/// The numbers that matrix products multiply.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Precision {
    F32,
    Bf16,
}

impl Precision {
    pub(crate) fn numbers(self) -> ::gpt::Precision {
        match self {
            Self::F32 => ::gpt::Precision::F32,
            Self::Bf16 => ::gpt::Precision::Bf16,
        }
    }
}

impl Implementation {
    fn kernels(&self) -> Kernels {
        let kernels = if self.reference { Kernels::Reference } else { Kernels::Fused };
        kernels.with_precision(self.precision.numbers())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    implementation: Implementation,
    /// What to repeat.
    #[arg(long, default_value = "train")]
    work: Repeated,
    /// Threads; all processors if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// How long to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// `cpu`, or `cuda:0` in a program built for GPUs, which computes by the reference.
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Repeated {
    Train,
    TrainRecomputed,
    Forward,
    Embed,
}

#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    implementation: Implementation,
    /// Tokens of the whole run, such as `1e9`.
    #[arg(long, default_value_t = 1e8)]
    tokens: f64,
    /// How long to measure this machine.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Runs one of the commands.
pub(crate) fn run(command: GptCommand) -> Result<(), Failure> {
    match command {
        GptCommand::Logits(asked) => {
            let kernels = if asked.reference { Kernels::Reference } else { Kernels::Fused };
            let model = exchange::model(&asked.model, asked.adapter.as_deref(), kernels)?;
            Ok(exchange::logits(&model, &asked.ids, &asked.out)?)
        }
        GptCommand::Encode(asked) => text::encode(&asked),
        GptCommand::Decode(asked) => text::decode(&asked),
        GptCommand::Generate(asked) => generate(&asked),
        GptCommand::Bench(asked) => bench(&asked),
    }
}

/// The tokenizer that was named, or the one beside the model.
fn tokenizer(named: Option<&Path>, model: &Path) -> Result<Option<Bpe>, Failure> {
    let beside = model.join("tokenizer.json");
    match named {
        Some(path) => Ok(Some(Bpe::load(path)?)),
        None if beside.exists() => Ok(Some(Bpe::load(&beside)?)),
        None => Ok(None),
    }
}

fn generate(asked: &Generate) -> Result<(), Failure> {
    let kernels = if asked.reference { Kernels::Reference } else { Kernels::Fused };
    let model = exchange::model(&asked.model, asked.adapter.as_deref(), kernels)?;
    let bpe = tokenizer(asked.tokenizer.as_deref(), &asked.model)?;
    let prompt = match (&asked.prompt, &bpe) {
        (Some(text), Some(bpe)) => bpe.encode(text)?,
        (Some(_), None) => return Err(Failure("a prompt of text needs --tokenizer".to_owned())),
        (None, _) => asked.ids.clone(),
    };
    let sampling = Sampling {
        temperature: asked.temperature,
        top_k: asked.top_k,
        top_p: asked.top_p,
        seed: asked.seed,
        max_tokens: asked.max_tokens,
        stop: asked.stop.clone(),
    };
    let mut shown = Shown { bpe: bpe.as_ref(), tokens: Vec::new(), text: String::new() };
    model.generate(&prompt, &sampling, &mut |token| shown.push(token))?;
    println!();
    Ok(())
}

/// What has been written so far, shown as it comes.
struct Shown<'a> {
    bpe: Option<&'a Bpe>,
    tokens: Vec<u32>,
    text: String,
}

impl Shown<'_> {
    /// Shows a token; characters that are not complete yet wait for the next one.
    fn push(&mut self, token: u32) -> ControlFlow<()> {
        self.tokens.push(token);
        let piece = match self.bpe.map(|bpe| bpe.decode(&self.tokens)) {
            Some(Ok(text)) if !text.ends_with('\u{fffd}') => {
                let piece = text.strip_prefix(&self.text).unwrap_or_default().to_owned();
                self.text = text;
                piece
            }
            Some(Ok(_)) => return ControlFlow::Continue(()),
            _ => format!("{token} "),
        };
        let mut out = std::io::stdout();
        match out.write_all(piece.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

fn seconds(asked: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(asked).map_err(|error| Failure(format!("--seconds {asked}: {error}")))
}

fn bench(asked: &Bench) -> Result<(), Failure> {
    if let Some(threads) = asked.threads {
        // rayon reads this when its pool starts, which is at the first tensor
        ::gpt::measure::use_threads(threads)?;
    }
    let work = match asked.work {
        Repeated::Train => Work::Train,
        Repeated::TrainRecomputed => Work::TrainRecomputed,
        Repeated::Forward => Work::Forward,
        Repeated::Embed => Work::Embed,
    };
    let how = (asked.implementation.kernels(), work);
    let (time, device) = (seconds(asked.seconds)?, ::gpt::device::open(&asked.device)?);
    let seen: Measurement = measure(&asked.size.config(), how, asked.size.batch(), time, &device)?;
    println!("{}", json!(seen));
    Ok(())
}

/// Prints what a training run will take.
pub(crate) fn plan(asked: &PlanOptions) -> Result<(), Failure> {
    let (config, kernels) = (asked.size.config(), asked.implementation.kernels());
    let time = seconds(asked.seconds)?;
    let plan = Plan::new(&config, asked.size.batch(), asked.tokens as u64, kernels, time)?;
    let gib = |bytes: usize| bytes as f64 / 1024f64.powi(3);
    println!("parameters                {:>14}", plan.parameters);
    println!("operations a token        {:>14.3e}", plan.flops_per_token);
    println!("operations in all         {:>14.3e}  for {} tokens", plan.flops, plan.tokens);
    println!("weights and moments, GiB  {:>14.3}", gib(plan.weights_bytes));
    println!("activations, GiB          {:>14.3}", gib(plan.activation_bytes));
    println!("  if computed again, GiB  {:>14.3}", gib(plan.recomputed_activation_bytes));
    println!("this machine, GFLOP/s     {:>14.1}  measured", plan.measured_flops_per_second / 1e9);
    println!("predicted time, hours     {:>14.3}", plan.seconds / 3600.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: GptCommand,
    }

    fn ran(line: &[&str]) -> Result<(), Failure> {
        run(Line::try_parse_from([&["gpt"], line].concat()).unwrap().command)
    }

    fn path(directory: &Path, name: &str) -> String {
        directory.join(name).to_string_lossy().into_owned()
    }

    #[test]
    fn text_becomes_ids_and_ids_become_logits_in_files() {
        let directory = tempfile::tempdir().unwrap();
        let [model, tokenizer, ids, out] = ["model", "tokenizer.json", "ids.safetensors", "out.safetensors"]
            .map(|name| path(directory.path(), name));
        let config = GptConfig { vocabulary: 256, ..GptConfig::default() };
        ::gpt::Gpt::new(config, 1, &::gpt::Device::Cpu).unwrap().save(Path::new(&model)).unwrap();
        Bpe::train(["some text"].iter(), 256, &[]).unwrap().save(Path::new(&tokenizer)).unwrap();
        ran(&["encode", &tokenizer, "--text", "abc", "--out", &ids]).unwrap();
        for also in [&[][..], &["--reference"]] {
            ran(&[&["logits", &model, "--ids", &ids, "--out", &out], also].concat()).unwrap();
            let written = std::fs::read(&out).unwrap();
            let header = String::from_utf8_lossy(&written[8..120]).into_owned();
            assert!(header.contains("\"logits\"") && header.contains("\"shape\":[1,3,256]"), "{header}");
        }
        ran(&["generate", &model, "--ids", "1,2", "--max-tokens", "3", "--temperature", "0"]).unwrap();
        exchange::write_ids(&[256], Path::new(&ids)).unwrap();
        let refusal = ran(&["logits", &model, "--ids", &ids, "--out", &out]).unwrap_err();
        assert!(refusal.0.contains("token 256 is beyond the vocabulary of 256"), "{refusal}");
        let refusal = ran(&["generate", &model, "--prompt", "text"]).unwrap_err();
        assert!(refusal.0.contains("--tokenizer"), "{refusal}");
    }

    #[test]
    fn the_presets_are_the_sizes_they_say() {
        let sizes = ["a", "b", "c"].map(|preset| {
            match Line::try_parse_from(["gpt", "bench", "--preset", preset]).unwrap().command {
                GptCommand::Bench(bench) => bench.size.config().parameters(),
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(sizes, [957_184, 12_417_024, 124_046_592]);
    }
}
