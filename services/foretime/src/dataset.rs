//! `foretime dataset`: training sets out of plain files, without a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use frames::Tz;
use frames::plain_join::{Knowledge, Options, Report, View, join, zone};

use crate::Failure;

/// What to do about a training set.
#[derive(Debug, Subcommand)]
pub(crate) enum Dataset {
    /// Join features in files to labels, each as of its own moment.
    ///
    /// Writes the label columns, then `VIEW__FEATURE…` and `VIEW__status` of each view, one row a label, in the labels'
    /// order. A status is PRESENT, NULL (a row was found, but all its features are null), EXPIRED (older than `max_age`),
    /// DELETED or NOT_FOUND. Files are Parquet, Arrow IPC or CSV, on a disk or at `s3://bucket/key`; `*` matches several.
    Join(Join),
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The file with one row a label.
    #[arg(long)]
    labels: String,
    /// The label column with the moment after which nothing may be seen.
    #[arg(long, value_name = "COLUMN")]
    cutoff: String,
    /// The zone of label times that name none, such as `America/New_York`; without it they are refused.
    #[arg(long, value_parser = zone, value_name = "ZONE")]
    labels_zone: Option<Tz>,
    /// Files with features; may be given more than once. Without it the labels are written as they are.
    ///
    /// As in `name=w,path=f.parquet,keys=k1+k2,event_time=ts,known_time=created,max_age=7d,boundary=inclusive,features=a+b`.
    /// Only the first four are required: a row is then known when it happened, never too old, counts at its very moment, and
    /// all its columns are features. `keys=` makes every row one about every label, `keys=origin:airport` compares the label
    /// column `origin` with the view's `airport`. `op=COLUMN` marks rows that take their entity away, `seq=COLUMN` says which
    /// of two rows with equal times was accepted later, `zone=ZONE` is the zone of times that name none.
    #[arg(long = "view", value_name = "SETTINGS")]
    views: Vec<View>,
    /// From when a label looks at what was known: `cutoff`, `off` (also at what was learned later), or `column:NAME`.
    #[arg(long, default_value = "cutoff", value_name = "WHEN")]
    as_of: Knowledge,
    /// The file to write: Arrow IPC if it ends in `.arrow`, CSV if in `.csv`, else Parquet.
    #[arg(long)]
    out: PathBuf,
}

/// Runs a `dataset` command.
pub(crate) fn run(command: Dataset) -> Result<(), Failure> {
    let Dataset::Join(asked) = command;
    let options =
        Options { cutoff: asked.cutoff, knowledge: asked.as_of, zone: asked.labels_zone, views: asked.views };
    let report = join(&asked.labels, &options, &asked.out)?;
    tell(&report);
    println!("written to `{}`", asked.out.display());
    Ok(())
}

fn tell(report: &Report) {
    println!("{} rows in, {} rows out", report.rows_in, report.rows_out);
    for view in &report.views {
        let counts: Vec<String> =
            view.statuses.iter().map(|(status, count)| format!("{} {count}", status.name())).collect();
        println!("{}: {}", view.view, counts.join(", "));
        if view.labels_after_watermark > 0 {
            eprintln!(
                "warning: labels_after_watermark: {} labels lie after the latest event of `{}`; is its file up to date?",
                view.labels_after_watermark, view.view
            );
        }
    }
}
