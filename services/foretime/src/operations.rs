//! What the platform does for itself by schedule: backups, and forgetting what is over.

use std::path::{Path, PathBuf};

use domain::definitions::BackupTo;
use serde_json::json;
use service_kit::Context;
use service_kit::jobs::{Failure, Handlers, Job, Outcome, start};

use crate::{backup, garbage};

/// The job kind of backups; never renamed.
const BACKUP: &str = "backup";
/// Where scheduled backups lie, below the data directory; a backup leaves this folder out.
const FOLDER: &str = "backups";

/// Works on the jobs of this kind; they run in the process that runs the monitor.
pub(crate) fn work(context: &Context) {
    let (backing, collecting) = (context.clone(), context.clone());
    let handlers = Handlers::default()
        .heavy(BACKUP, move |job| back_up(backing.clone(), job))
        .on(garbage::JOB_KIND, move |_| collect(collecting.clone()));
    start(context, handlers);
}

async fn collect(context: Context) -> Result<Outcome, Failure> {
    let kept = &context.config.retention;
    let done = garbage::collect(&context.db, &context.data_dir, kept, &*context.clock).await;
    let done = done.map_err(|error| Failure::passing(error.to_string()))?;
    Ok(Outcome { answer: json!(done), next: vec![] })
}

/// A backup in a folder of its own, and then the removal of those that are too many. One that was killed is begun anew in
/// another folder; what it left has no manifest and goes too.
async fn back_up(context: Context, job: Job) -> Result<Outcome, Failure> {
    let to: BackupTo = job.payload()?;
    let folder = context.data_dir.join(FOLDER).join(&to.folder);
    let name = format!(
        "{}-{}",
        context.machine_clock.now().format("%Y%m%dT%H%M%S%3fZ"),
        job.leased.token.0.simple()
    );
    let here = folder.join(&name);
    let taken = backup::take_from(&context.db, &context.config, &here).await;
    let taken = taken.map_err(|error| Failure::passing(error.to_string()))?;
    job.say(format!("{taken} into {}", here.display()));
    if job.cancelled.is_cancelled() {
        return Err(Failure::passing("the lease was lost, or somebody asked that it end"));
    }
    let removed = remove_older(&folder, &name, to.keep).map_err(|error| {
        Failure::passing(format!("older backups in `{}` cannot be removed: {error}", folder.display()))
    })?;
    let answer = json!({ "folder": format!("{FOLDER}/{}/{name}", to.folder), "removed": removed });
    Ok(Outcome { answer, next: vec![] })
}

/// Removes what is no whole backup, and whole ones but the latest `keep`. Their names sort by time.
fn remove_older(folder: &Path, newest: &str, keep: u32) -> std::io::Result<usize> {
    let mut whole: Vec<PathBuf> = Vec::new();
    let mut gone: Vec<PathBuf> = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == newest) || backup::is_whole(&path) {
            whole.push(path);
        } else {
            gone.push(path);
        }
    }
    whole.sort();
    gone.extend(whole.drain(..whole.len().saturating_sub(keep as usize)));
    for path in &gone {
        std::fs::remove_dir_all(path)?;
    }
    Ok(gone.len())
}
