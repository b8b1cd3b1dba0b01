//! What is over and older than the settings keep is forgotten: by a schedule's job, or by `foretime gc`.

use std::path::Path;

use chrono::TimeDelta;
use domain::{Clock, SystemClock};
use serde::Serialize;
use service_kit::Config;
use service_kit::config::RetentionConfig;
use sqlx::PgPool;
use storage::garbage::{self, OldLog};

use crate::Failure;
use crate::up::Database;

/// The job kind; never renamed.
pub(crate) const JOB_KIND: &str = "collect-garbage";
/// So many files of served predictions go in one transaction.
const LOGS_AT_ONCE: i64 = 100;

/// What was forgotten, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Finished jobs, with their logs.
    pub jobs: i64,
    /// Ticks of schedules.
    pub ticks: i64,
    /// Answers kept for batches that are sent again.
    pub answers: i64,
    /// Files of served predictions.
    pub prediction_files: i64,
}

/// `foretime gc`: forgets it, or only says what would be.
pub(crate) async fn run(config: &Config, dry_run: bool) -> Result<(), Failure> {
    let database = Database::attach(config)?;
    let pool = storage::connect(database.url(), 2).await?;
    let kept = &config.retention;
    let Collected { jobs, ticks, answers, prediction_files } = match dry_run {
        true => look(&pool, kept, &SystemClock).await?,
        false => collect(&pool, &config.data_dir, kept, &SystemClock).await?,
    };
    println!("{jobs:>8} finished jobs, with their logs, older than {} days", kept.jobs_days);
    println!("{ticks:>8} ticks of schedules older than {} days", kept.ticks_days);
    println!("{answers:>8} answers kept for repeated batches older than {} days", kept.answers_days);
    println!("{prediction_files:>8} files of served predictions older than {} days", kept.predictions_days);
    println!("{}", if dry_run { "nothing was removed: this was a dry run" } else { "removed" });
    println!("files that no row names are collected by the services every hour");
    pool.close().await;
    database.close()
}

/// Says what would be forgotten now.
///
/// # Errors
/// If the database refuses.
pub async fn look(db: &PgPool, kept: &RetentionConfig, clock: &dyn Clock) -> Result<Collected, Failure> {
    let mut conn = db.acquire().await.map_err(storage::Error::from)?;
    let before = |days| clock.now() - age(days);
    Ok(Collected {
        jobs: garbage::old_jobs(&mut conn, age(kept.jobs_days)).await?,
        ticks: garbage::old_ticks(&mut conn, age(kept.ticks_days)).await?,
        answers: garbage::old_answers(&mut conn, before(kept.answers_days)).await?,
        prediction_files: garbage::old_logs(&mut conn, before(kept.predictions_days), i64::MAX).await?.len()
            as i64,
    })
}

/// Forgets it.
///
/// # Errors
/// If the database refuses or a file cannot be removed; what is left goes the next time.
pub async fn collect(
    db: &PgPool,
    data_dir: &Path,
    kept: &RetentionConfig,
    clock: &dyn Clock,
) -> Result<Collected, Failure> {
    let mut conn = db.acquire().await.map_err(storage::Error::from)?;
    let mut done = Collected::default();
    loop {
        let gone = garbage::forget_jobs(&mut conn, age(kept.jobs_days)).await?;
        if gone.is_empty() {
            break;
        }
        done.jobs += gone.len() as i64;
    }
    done.ticks = garbage::forget_ticks(&mut conn, age(kept.ticks_days)).await?.cast_signed();
    let before = clock.now() - age(kept.answers_days);
    done.answers = garbage::forget_answers(&mut conn, before).await?.cast_signed();
    drop(conn);
    loop {
        let gone = forget_logs(db, data_dir, clock.now() - age(kept.predictions_days)).await?;
        if gone == 0 {
            return Ok(done);
        }
        done.prediction_files += gone;
    }
}

/// Files first, rows second: killed in between, the rows bring it back here.
async fn forget_logs(
    db: &PgPool,
    data_dir: &Path,
    before: chrono::DateTime<chrono::Utc>,
) -> Result<i64, Failure> {
    let mut tx = db.begin().await.map_err(storage::Error::from)?;
    let old = garbage::old_logs(&mut tx, before, LOGS_AT_ONCE).await?;
    for OldLog { path, .. } in &old {
        let file = data_dir.join(path);
        match tokio::fs::remove_file(&file).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure(format!("`{}` cannot be removed: {error}", file.display())));
            }
            _ => {}
        }
    }
    garbage::forget_logs(&mut tx, &old).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok(old.len() as i64)
}

fn age(days: u32) -> TimeDelta {
    TimeDelta::days(days.into())
}
