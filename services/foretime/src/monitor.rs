//! `foretime monitor …`: comparing two files, without a server; the rest asks a running Foretime.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use monitor::compare::{Bounds, ColumnVerdict, Reference, Report, compare, page};
use service_kit::Config;

use crate::Failure;
use crate::watch::{self, Watch};

/// Has something moved?
#[derive(Debug, Subcommand)]
pub(crate) enum Monitor {
    /// Compare two Parquet files column by column, without a server.
    Compare(Compare),
    /// Keep the profiles of a Parquet file, to compare with later instead of the file itself.
    Profile(Profile),
    #[command(flatten)]
    Watch(Watch),
}

#[derive(Debug, Args)]
pub(crate) struct Profile {
    /// The Parquet file.
    file: PathBuf,
    /// Where its profiles go.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// What things are compared with: a Parquet file, or profiles kept of one.
    #[arg(long)]
    reference: PathBuf,
    /// The Parquet file that may have moved.
    #[arg(long)]
    current: PathBuf,
    /// Write everything into this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw everything into this file, as a page that stands alone.
    #[arg(long)]
    html: Option<PathBuf>,
    /// The chance that a column which did not move is called drifted.
    #[arg(long, default_value_t = Bounds::default().alpha)]
    alpha: f64,
    /// The smallest distance worth naming, between 0 and 1.
    #[arg(long, default_value_t = Bounds::default().min_effect)]
    min_effect: f64,
    /// Fewer values, on either side, give no verdict.
    #[arg(long, default_value_t = Bounds::default().min_rows)]
    min_rows: u64,
    /// Look at the columns of numbers together, too: whether they go together otherwise than they did.
    #[arg(long)]
    together: bool,
    /// End with status 1 if a column drifted or is broken.
    #[arg(long)]
    fail_on_drift: bool,
}

/// Does what was asked.
pub(crate) async fn run(config: &Config, asked: Monitor) -> Result<(), Failure> {
    match asked {
        Monitor::Compare(asked) => compare_files(&asked),
        Monitor::Profile(asked) => keep_profiles(&asked),
        Monitor::Watch(asked) => watch::run(config, asked).await,
    }
}

fn keep_profiles(asked: &Profile) -> Result<(), Failure> {
    let profiles = Reference::read(&asked.file, threads())?;
    profiles.write(&asked.out)?;
    let (rows, columns) = (profiles.rows, profiles.columns.len());
    println!("kept profiles of {columns} columns over {rows} rows in `{}`", asked.out.display());
    Ok(())
}

fn compare_files(asked: &Compare) -> Result<(), Failure> {
    if !(asked.alpha > 0.0 && asked.alpha < 1.0 && (0.0..1.0).contains(&asked.min_effect)) {
        return Err(Failure("`--alpha` must lie between 0 and 1, `--min-effect` from 0 up to 1".to_owned()));
    }
    let bounds = Bounds { alpha: asked.alpha, min_effect: asked.min_effect, min_rows: asked.min_rows };
    let mut report = compare(&asked.reference, &asked.current, bounds, threads())?;
    if asked.together {
        report.look_together(&asked.reference, &asked.current)?;
    }
    print(&report);
    if let Some(file) = &asked.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure(error.to_string()))?;
        write(file, &text)?;
    }
    if let Some(file) = &asked.html {
        write(file, &page(&report))?;
    }
    let moved = matches!(report.verdict, ColumnVerdict::Drift | ColumnVerdict::Broken);
    if asked.fail_on_drift && moved {
        return Err(Failure("the files differ: see the columns above".to_owned()));
    }
    Ok(())
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| Failure(format!("`{}`: {error}", file.display())))
}

fn print(report: &Report) {
    println!("{} rows beside {} of the reference", report.rows_current, report.rows_reference);
    for column in &report.columns {
        let verdict = named(column.verdict);
        let effect = match (column.effect, column.effect_low, column.effect_high) {
            (Some(effect), Some(low), Some(high)) => format!("{effect:.4} [{low:.4}, {high:.4}]"),
            _ => "–".to_owned(),
        };
        println!("{verdict:<18} {:<24} {effect}", column.name);
        for cause in &column.causes {
            println!("{:<18}   {}: {}", "", cause.name, cause.evidence);
        }
    }
    if let Some(together) = &report.together {
        let (verdict, auc) = (named(together.verdict), together.domain_classifier_auc);
        let (low, high) = (together.auc_low, together.auc_high);
        println!("{verdict:<18} {:<24} AUC {auc:.4} [{low:.4}, {high:.4}]", "(numbers together)");
    }
}

fn named(verdict: ColumnVerdict) -> &'static str {
    match verdict {
        ColumnVerdict::Ok => "ok",
        ColumnVerdict::InsufficientData => "insufficient data",
        ColumnVerdict::Drift => "drift",
        ColumnVerdict::Broken => "broken",
    }
}
