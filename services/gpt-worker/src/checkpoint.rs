//! What a training with a GPT keeps of itself while it goes on: its pretraining, and the fine-tuning of a classifier after it.
//! Another try of the same job goes on from there, in whatever process, and ends in the same bits.
//!
//! One folder a job, one file for what is learned from what: a try under other definitions finds nothing and begins anew.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::ids::JobId;
use gpt::classifier::ClassifierProgress;
use gpt::{
    ClassifierData, ClassifierRecipe, ClassifierTraining, Device, Gpt, GptClassifier, PretrainRecipe,
    Pretraining, Progress,
};
use serde::Serialize;
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

    /// Where a run that begins so is kept.
    fn place(&self, beginning: Beginning) -> Place {
        let file = format!("{}.safetensors", hex::encode(beginning.0.finalize()));
        Place { path: self.folder.join(file), every: self.every }
    }
}

/// Where a run is kept, and how often.
struct Place {
    path: PathBuf,
    every: Duration,
}

/// Everything that a run depends on, hashed: runs that begin in the same way end in the same bits.
struct Beginning(Sha256);

impl Beginning {
    fn of(stage: &str, gpt: &Gpt, recipe: &impl Serialize) -> Self {
        Self(Sha256::new_with_prefix(json!([stage, gpt.config(), recipe]).to_string()))
    }

    fn with_sequences(mut self, sequences: &[Vec<u32>]) -> Self {
        self.0.update((sequences.len() as u64).to_le_bytes());
        for sequence in sequences {
            self.add(sequence);
        }
        self
    }

    fn with_data(mut self, data: ClassifierData<'_>) -> Self {
        self = self.with_sequences(data.sequences);
        self.add(data.classes);
        self
    }

    fn with_weights(mut self, gpt: &Gpt) -> Result<Self, gpt::Error> {
        for (name, weights) in gpt.parameters().entries() {
            let weights: Vec<f32> = weights.flatten_all()?.to_vec1()?;
            self.0.update(name);
            self.add(&weights.into_iter().map(f32::to_bits).collect::<Vec<_>>());
        }
        Ok(self)
    }

    fn add(&mut self, numbers: &[u32]) {
        self.0.update((numbers.len() as u64).to_le_bytes());
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.0.update(bytes);
    }
}

/// A run that can be broken off after any step, kept, and gone on with.
trait Run {
    /// What it learns from.
    type Data<'a>: Copy;
    /// How far it is.
    type Now;

    /// Runs until the end or until `on_step` breaks; answers whether it is finished.
    fn go_on(
        &mut self,
        data: Self::Data<'_>,
        on_step: &mut dyn FnMut(&Self::Now) -> ControlFlow<()>,
    ) -> Result<bool, gpt::Error>;

    fn save(&self, path: &Path) -> Result<(), gpt::Error>;
}

impl Run for Pretraining {
    type Data<'a> = &'a [Vec<u32>];
    type Now = Progress;

    fn go_on(
        &mut self,
        sequences: &[Vec<u32>],
        on_step: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<bool, gpt::Error> {
        self.run(sequences, None, on_step)
    }

    fn save(&self, path: &Path) -> Result<(), gpt::Error> {
        Self::save(self, path)
    }
}

impl Run for ClassifierTraining {
    type Data<'a> = (ClassifierData<'a>, ClassifierData<'a>);
    type Now = ClassifierProgress;

    fn go_on(
        &mut self,
        data: Self::Data<'_>,
        on_step: &mut dyn FnMut(&ClassifierProgress) -> ControlFlow<()>,
    ) -> Result<bool, gpt::Error> {
        self.run(data, on_step)
    }

    fn save(&self, path: &Path) -> Result<(), gpt::Error> {
        Self::save(self, path)
    }
}

/// Pretrains a GPT that has learned nothing yet, from wherever an earlier try came to. What comes of it is kept too, for what is
/// learned after it.
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
    let place = checkpoints.map(|checkpoints| {
        checkpoints.place(Beginning::of("pretrain", &gpt, &recipe).with_sequences(sequences))
    });
    let resumed = taken_up(place.as_ref(), |path| Pretraining::resume(path, device));
    let mut run = match resumed {
        Some(run) => run,
        None => Pretraining::new(gpt, recipe)?,
    };
    let steps_before = run.step();
    to_its_end(&mut run, sequences, place.as_ref(), on_step)?;
    if let Some(place) = place.filter(|_| run.step() > steps_before) {
        keep(&run, &place.path);
    }
    Ok(run.into_gpt())
}

/// Makes a classifier of a pretrained GPT, from wherever an earlier try came to.
///
/// # Errors
/// [`Error::Cancelled`] if `on_step` breaks; what training says.
pub(crate) fn fine_tune(
    gpt: Gpt,
    (classes, recipe): (usize, ClassifierRecipe),
    data: (ClassifierData<'_>, ClassifierData<'_>),
    checkpoints: Option<&Checkpoints>,
    on_step: &mut dyn FnMut(&ClassifierProgress) -> ControlFlow<()>,
) -> Result<GptClassifier, Error> {
    let beginning = || -> Result<Beginning, Error> {
        let begun = Beginning::of("classifier", &gpt, &(&recipe, classes)).with_weights(&gpt)?;
        Ok(begun.with_data(data.0).with_data(data.1))
    };
    let place = match checkpoints {
        Some(checkpoints) => Some(checkpoints.place(beginning()?)),
        None => None,
    };
    let resumed = taken_up(place.as_ref(), |path| ClassifierTraining::resume(&gpt, path));
    let mut run = match resumed {
        Some(run) => run,
        None => ClassifierTraining::new(gpt, classes, recipe)?,
    };
    to_its_end(&mut run, data, place.as_ref(), on_step)?;
    Ok(run.finish()?)
}

/// Runs to the end, and keeps how far it is every so often, and when it is broken off.
fn to_its_end<R: Run>(
    run: &mut R,
    data: R::Data<'_>,
    place: Option<&Place>,
    on_step: &mut dyn FnMut(&R::Now) -> ControlFlow<()>,
) -> Result<(), Error> {
    loop {
        let (mut ended, since) = (false, Instant::now());
        let finished = run.go_on(data, &mut |now| {
            ended = on_step(now).is_break();
            let due = place.is_some_and(|place| since.elapsed() >= place.every);
            if ended || due { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if finished && !ended {
            return Ok(());
        }
        if let Some(place) = place {
            keep(run, &place.path);
        }
        if ended {
            return Err(Error::Cancelled);
        }
    }
}

/// The run of a checkpoint, if there is one that can be read.
fn taken_up<R>(place: Option<&Place>, resume: impl FnOnce(&Path) -> Result<R, gpt::Error>) -> Option<R> {
    let path = place.map(|place| place.path.as_path()).filter(|path| path.exists())?;
    let unread = |error: &gpt::Error| tracing::warn!(path = %path.display(), %error, "training begins anew");
    resume(path).inspect_err(unread).ok()
}

/// Writes how far a run is. Without room for it, training goes on all the same.
fn keep(run: &impl Run, path: &Path) {
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

    /// As [`learn`], of a classifier of sequences that begin with an even token.
    fn classify(
        kept: Option<&Checkpoints>,
        recipe: &ClassifierRecipe,
        most: usize,
    ) -> (Vec<usize>, Result<GptClassifier, Error>) {
        let sequences = sequences();
        let classes: Vec<u32> = sequences.iter().map(|sequence| sequence[0] % 2).collect();
        let data = |rows: std::ops::Range<usize>| ClassifierData {
            sequences: &sequences[rows.clone()],
            classes: &classes[rows],
        };
        let mut told = Vec::new();
        let data = (data(0..30), data(30..40));
        let model = fine_tune(gpt(), (2, recipe.clone()), data, kept, &mut |now| {
            told.push(now.step);
            if told.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (told, model)
    }

    /// What is written into a folder, by name.
    fn files(write: impl FnOnce(&Path)) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let (mut folders, mut files) = (vec![folder.path().to_owned()], Vec::new());
        while let Some(inner) = folders.pop() {
            for path in inner.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push((
                        path.strip_prefix(folder.path()).unwrap().to_owned(),
                        std::fs::read(&path).unwrap(),
                    )),
                }
            }
        }
        files.sort();
        files
    }

    fn kept_in(folder: &tempfile::TempDir) -> Checkpoints {
        Checkpoints { folder: folder.path().join("job"), every: Duration::ZERO }
    }

    #[test]
    fn another_try_goes_on_where_the_last_one_was_and_ends_in_the_same_bits() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept_in(&folder);
        let recipe =
            PretrainRecipe { batch: 16, epochs: 100.0, max_steps: Some(12), ..PretrainRecipe::default() };
        let undisturbed = learn(None, &recipe, usize::MAX).1.unwrap();
        let (told, cut_off) = learn(Some(&kept), &recipe, 5);
        assert!(told == [1, 2, 3, 4, 5] && matches!(cut_off, Err(Error::Cancelled)));
        let (told, finished) = learn(Some(&kept), &recipe, usize::MAX);
        assert_eq!(told, [6, 7, 8, 9, 10, 11, 12]);
        let written = |gpt: &Gpt| files(|folder| gpt.save(folder).unwrap());
        assert!(written(&finished.unwrap()) == written(&undisturbed));

        let (told, again) = learn(Some(&kept), &recipe, usize::MAX);
        assert_eq!(told, [0; 0], "what was pretrained is pretrained");
        assert!(written(&again.unwrap()) == written(&undisturbed));
        let other = PretrainRecipe { seed: 1, ..recipe };
        assert_eq!(learn(Some(&kept), &other, 1).0, [1], "another recipe went on with what it did not begin");
    }

    #[test]
    fn another_try_of_a_fine_tuning_goes_on_where_the_last_one_was_and_ends_in_the_same_bits() {
        let lora = gpt::LoraConfig { dropout: 0.1, ..gpt::LoraConfig::default() };
        for lora in [None, Some(lora)] {
            let folder = tempfile::tempdir().unwrap();
            let kept = kept_in(&folder);
            // three steps a round
            let recipe = ClassifierRecipe { batch: 10, rounds: 4, lora, ..ClassifierRecipe::default() };
            let written = |model: &GptClassifier| files(|folder| model.save(folder).unwrap());
            let undisturbed = classify(None, &recipe, usize::MAX).1.unwrap();
            let (told, cut_off) = classify(Some(&kept), &recipe, 5);
            assert!(told == [1, 2, 3, 4, 5] && matches!(cut_off, Err(Error::Cancelled)));
            let (told, finished) = classify(Some(&kept), &recipe, usize::MAX);
            assert_eq!(told.first(), Some(&6));
            assert!(written(&finished.unwrap()) == written(&undisturbed));

            let other = ClassifierRecipe { seed: 1, ..recipe };
            assert_eq!(classify(Some(&kept), &other, 1).0, [1], "it went on with what it did not begin");
        }
    }

    #[test]
    fn a_checkpoint_that_cannot_be_read_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept_in(&folder);
        let recipe = ClassifierRecipe { batch: 10, rounds: 2, ..ClassifierRecipe::default() };
        assert_eq!(classify(Some(&kept), &recipe, 4).0, [1, 2, 3, 4]);
        let file = kept.folder.read_dir().unwrap().next().unwrap().unwrap().path();
        std::fs::write(&file, &std::fs::read(&file).unwrap()[..2_000]).unwrap();
        let (told, model) = classify(Some(&kept), &recipe, usize::MAX);
        assert!(told == [1, 2, 3, 4, 5, 6] && model.is_ok());
    }
}
