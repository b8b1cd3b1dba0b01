//! `foretime dataset`: training sets out of plain files, without a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use frames::plain_join::{Knowledge, Options, Report, View, join};

use crate::Failure;

/// What to do about a training set.
#[derive(Debug, Subcommand)]
pub(crate) enum Dataset {
    /// Join features in Parquet files to labels, each as of its own moment.
    ///
    /// Writes the label columns, then `VIEW__FEATURE…` and `VIEW__status` of each view, one row a label, in the labels'
    /// order. A status is PRESENT, EXPIRED (older than `max_age`) or NOT_FOUND.
    Join(Join),
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The Parquet file with one row a label.
    #[arg(long)]
    labels: PathBuf,
    /// The label column with the moment after which nothing may be seen.
    #[arg(long, value_name = "COLUMN")]
    cutoff: String,
    /// A file with features; may be given more than once.
    ///
    /// As in `name=w,path=f.parquet,keys=k1+k2,event_time=ts,known_time=created,max_age=7d,boundary=inclusive`. The last
    /// three may be left out: a row is then known when it happened, never too old, and counts at its very moment.
    /// `keys=` makes every row one about every label.
    #[arg(long = "view", required = true, value_name = "SETTINGS")]
    views: Vec<View>,
    /// From when a label looks at what was known: `cutoff`, `off` (also at what was learned later), or `column:NAME`.
    #[arg(long, default_value = "cutoff", value_name = "WHEN")]
    as_of: Knowledge,
    /// The Parquet file to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs a `dataset` command.
pub(crate) fn run(command: Dataset) -> Result<(), Failure> {
    let Dataset::Join(asked) = command;
    let options = Options { cutoff: asked.cutoff, knowledge: asked.as_of, views: asked.views };
    let report = join(&asked.labels, &options, &asked.out)?;
    tell(&report);
    println!("written to `{}`", asked.out.display());
    Ok(())
}

fn tell(report: &Report) {
    println!("{} rows in, {} rows out", report.rows_in, report.rows_out);
    for (view, counts) in &report.statuses {
        let counts: Vec<String> =
            counts.iter().map(|(status, count)| format!("{} {count}", status.name())).collect();
        println!("{view}: {}", counts.join(", "));
    }
}
