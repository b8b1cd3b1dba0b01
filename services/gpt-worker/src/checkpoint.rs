//! What a training keeps of itself while it goes on: its pretraining, which takes longest. Another try of the same job goes on
//! from there, in whatever process, and ends in the same bits.
//!
//! One folder a job, one file for what is learned from what: a try under other definitions finds nothing and begins anew.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::ids::JobId;
use gpt::{Device, Gpt, PretrainRecipe, Pretraining, Progress};
use serde_json::json;
use service_kit::Context;
use sha2::{Digest, Sha256};

use crate::Error;

/// Where the checkpoints of all jobs lie, below the data directory.
const FOLDER: &str = "checkpoints";

/// Where a job keeps how far it is, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    every: Duration,
}

impl Checkpoints {
    /// Those of a job.
    pub(crate) fn of(context: &Context, job: JobId) -> Self {
        let every = Duration::from_secs(context.config.worker.checkpoint_seconds);
        Self { folder: context.data_dir.join(FOLDER).join(job.to_string()), every }
    }

    /// The file of a run from the first step on: named by everything that it depends on.
    fn path(&self, begun: &Gpt, recipe: &PretrainRecipe, sequences: &[Vec<u32>]) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(json!([begun.config(), recipe]).to_string());
        for sequence in sequences {
            hash.update((sequence.len() as u64).to_le_bytes());
            sequence.iter().for_each(|token| hash.update(token.to_le_bytes()));
        }
        self.folder.join(format!("{}.safetensors", hex::encode(hash.finalize())))
    }
}

/// Pretrains a GPT that has learned nothing yet, from wherever an earlier try came to.
///
/// # Errors
/// [`Error::Cancelled`] if `on_step` breaks; what pretraining says.
pub(crate) fn pretrain(
    gpt: Gpt,
    recipe: PretrainRecipe,
    sequences: &[Vec<u32>],
    (checkpoints, device): (Option<&Checkpoints>, &Device),
    on_step: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Gpt, Error> {
    let kept = checkpoints.map(|checkpoints| (checkpoints.path(&gpt, &recipe, sequences), checkpoints.every));
    let mut run = match kept.as_ref().and_then(|(path, _)| taken_up(path, device)) {
        Some(run) => run,
        None => Pretraining::new(gpt, recipe)?,
    };
    loop {
        let (mut ended, since) = (false, Instant::now());
        let finished = run.run(sequences, None, &mut |now| {
            ended = on_step(now).is_break();
            let due = kept.as_ref().is_some_and(|(_, every)| since.elapsed() >= *every);
            if ended || due { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if finished {
            return Ok(run.into_gpt());
        }
        if let Some((path, _)) = &kept {
            keep(&run, path);
        }
        if ended {
            return Err(Error::Cancelled);
        }
    }
}

/// The run of a checkpoint, if there is one that can be read.
fn taken_up(path: &Path, device: &Device) -> Option<Pretraining> {
    let resumed = path.exists().then(|| Pretraining::resume(path, device))?;
    let unread = |error: &gpt::Error| tracing::warn!(path = %path.display(), %error, "training begins anew");
    resumed.inspect_err(unread).ok()
}

/// Writes how far a run is. Without room for it, training goes on all the same.
fn keep(run: &Pretraining, path: &Path) {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let kept = folder.map_err(|error| error.to_string());
    if let Err(error) = kept.and_then(|()| run.save(path).map_err(|error| error.to_string())) {
        tracing::warn!(path = %path.display(), error, "there will be no checkpoint of this training");
    }
}

/// Removes the checkpoints of a job that has done its work, and of those that nobody tries again.
pub(crate) async fn forget(context: &Context, done: JobId) {
    let all = context.data_dir.join(FOLDER);
    let forgotten = async {
        let Ok(folders) = all.read_dir() else { return Ok(()) };
        let kept: Vec<JobId> =
            folders.flatten().filter_map(|one| one.file_name().to_str()?.parse().ok()).collect();
        let mut conn = context.db.acquire().await?;
        let live = storage::jobs::live_of(&mut conn, &kept).await?;
        for job in kept.into_iter().filter(|job| *job == done || !live.contains(job)) {
            let _ = std::fs::remove_dir_all(all.join(job.to_string())); // the next one that is done tries again
        }
        Ok(())
    };
    if let Err(error) = forgotten.await {
        let error: storage::Error = error;
        tracing::warn!(%error, "checkpoints of jobs that are over were kept");
    }
}

#[cfg(test)]
mod tests {
    use gpt::GptConfig;

    use super::*;

    fn gpt() -> Gpt {
        let sizes =
            GptConfig { vocabulary: 11, context: 8, width: 16, heads: 2, layers: 1, ..GptConfig::default() };
        Gpt::new(sizes, 7, &Device::Cpu).unwrap()
    }

    fn sequences() -> Vec<Vec<u32>> {
        (0..40).map(|row| (0..4 + row % 5).map(|place| (row + place) % 11).collect()).collect()
    }

    /// Pretrains until so many steps were told of; answers them, and whether that was the end.
    fn learn(
        kept: Option<&Checkpoints>,
        recipe: &PretrainRecipe,
        most: usize,
    ) -> (Vec<usize>, Result<Gpt, Error>) {
        let mut told = Vec::new();
        let gpt = pretrain(gpt(), recipe.clone(), &sequences(), (kept, &Device::Cpu), &mut |now| {
            told.push(now.step);
            if told.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (told, gpt)
    }

    fn files(gpt: &Gpt) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        gpt.save(folder.path()).unwrap();
        let file = |entry: std::fs::DirEntry| (entry.file_name(), std::fs::read(entry.path()).unwrap());
        let mut files: Vec<_> = folder.path().read_dir().unwrap().flatten().map(file).collect();
        files.sort();
        files
    }

    #[test]
    fn another_try_goes_on_where_the_last_one_was_and_ends_in_the_same_bits() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Checkpoints { folder: folder.path().join("job"), every: Duration::ZERO };
        let recipe =
            PretrainRecipe { batch: 16, epochs: 100.0, max_steps: Some(12), ..PretrainRecipe::default() };
        let undisturbed = learn(None, &recipe, usize::MAX).1.unwrap();
        let (told, cut_off) = learn(Some(&kept), &recipe, 5);
        assert!(told == [1, 2, 3, 4, 5] && matches!(cut_off, Err(Error::Cancelled)));
        let (told, finished) = learn(Some(&kept), &recipe, usize::MAX);
        assert_eq!(told, [6, 7, 8, 9, 10, 11, 12]);
        assert!(files(&finished.unwrap()) == files(&undisturbed));

        let other = PretrainRecipe { seed: 1, ..recipe };
        assert_eq!(learn(Some(&kept), &other, 1).0, [1], "another recipe went on with what it did not begin");
    }
}
