//! `foretime gpt encode` and `decode`: text to ids and back, whole or line by line as it comes.

use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, StdinLock, StdoutLock, Write};
use std::path::PathBuf;

use ::gpt::{Bpe, exchange};
use clap::Args;
use serde_json::json;

use crate::Failure;

#[derive(Debug, Args)]
pub(crate) struct Encode {
    /// The `tokenizer.json`.
    tokenizer: PathBuf,
    /// The text; standard input if not given.
    #[arg(long)]
    text: Option<String>,
    /// A safetensors file for `ids` `[1, time]`; as JSON on standard output if not given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Take each line of standard input for a text, without its end, and write a line of ids for it as it comes.
    #[arg(long, conflicts_with_all = ["text", "out"])]
    lines: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// The `tokenizer.json`.
    tokenizer: PathBuf,
    /// A safetensors file with `ids`, as `encode --out` writes it; a JSON list on standard input if not given.
    #[arg(long)]
    ids: Option<PathBuf>,
    /// Take each line of standard input for a list, and write its text as a line as it comes.
    #[arg(long, conflicts_with = "ids")]
    lines: bool,
}

pub(super) fn encode(asked: &Encode) -> Result<(), Failure> {
    let bpe = Bpe::load(&asked.tokenizer)?;
    if asked.lines {
        return by_line(|line, out| Ok(writeln!(out, "{}", json!(bpe.encode(line)?))));
    }
    let text = match &asked.text {
        Some(text) => text.clone(),
        None => whole_input()?,
    };
    let ids = bpe.encode(&text)?;
    match &asked.out {
        Some(out) => Ok(exchange::write_ids(&ids, out)?),
        None => written(writeln!(std::io::stdout(), "{}", json!(ids))),
    }
}

pub(super) fn decode(asked: &Decode) -> Result<(), Failure> {
    let bpe = Bpe::load(&asked.tokenizer)?;
    if asked.lines {
        return by_line(|line, out| Ok(writeln!(out, "{}", bpe.decode(&list(line)?)?)));
    }
    let ids = match &asked.ids {
        Some(path) => exchange::read_ids(path)?.concat(),
        None => list(&whole_input()?)?,
    };
    written(std::io::stdout().write_all(bpe.decode(&ids)?.as_bytes()))
}

/// Ids as `encode` writes them.
fn list(text: &str) -> Result<Vec<u32>, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure(format!("ids are a JSON list of whole numbers, such as [15496, 11]: {error}"))
    })
}

fn unread(error: &std::io::Error) -> Failure {
    Failure(format!("standard input: {error}"))
}

fn whole_input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| unread(&error))?;
    Ok(text)
}

/// What became of writing: a reader that has seen enough is no failure.
fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

type Out<'a> = BufWriter<StdoutLock<'a>>;

/// Answers each line of standard input; what was written goes out whenever nothing more has come yet.
fn by_line(
    mut answer: impl FnMut(&str, &mut Out<'_>) -> Result<std::io::Result<()>, Failure>,
) -> Result<(), Failure> {
    let mut input: BufReader<StdinLock<'_>> = BufReader::new(std::io::stdin().lock());
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut line = String::new();
    for number in 1u64.. {
        line.clear();
        let at = |failure: Failure| Failure(format!("line {number}: {failure}"));
        if input.read_line(&mut line).map_err(|error| at(unread(&error)))? == 0 {
            break;
        }
        let text = line.strip_suffix('\n').unwrap_or(&line);
        let mut done = answer(text, &mut out).map_err(at)?;
        if input.buffer().is_empty() {
            done = done.and_then(|()| out.flush());
        }
        if done.is_err() {
            return written(done);
        }
    }
    written(out.flush())
}
