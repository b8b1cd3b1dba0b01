//! A GPT that tells classes of sequences: its pooled hidden state through one linear layer, trained whole or by LoRA.
//!
//! Belongs here: the model, its training with early stopping on a later window, prediction and its files. Not here:
//! calibration and evaluation (`statistics`), and which sequences are later (the caller splits by time).

mod checkpoint;
mod recipe;
mod storage;
mod train;

use candle_core::{D, Device, Tensor};

pub use recipe::{ClassifierRecipe, Pooling};
pub use train::{ClassifierData, ClassifierProgress, ClassifierRound, ClassifierTraining};

use crate::layers::{Linear, Noise, Parameters};
use crate::{Batch, Error, Gpt, LoraGpt};

/// A GPT with a head that tells classes.
#[derive(Debug)]
pub struct GptClassifier {
    recipe: ClassifierRecipe,
    body: Body,
    head: Head,
    classes: usize,
    curve: Vec<ClassifierRound>,
}

/// What reads the sequences.
#[derive(Debug)]
enum Body {
    /// All weights learn.
    Whole(Gpt),
    /// Only adapters learn.
    Adapted(LoraGpt),
}

impl Body {
    fn gpt(&self) -> &Gpt {
        match self {
            Self::Whole(gpt) => gpt,
            Self::Adapted(adapted) => adapted.gpt(),
        }
    }

    /// As [`Gpt::settle`].
    fn settle(&mut self) -> Result<(), Error> {
        match self {
            Self::Whole(gpt) => gpt.settle(),
            Self::Adapted(adapted) => adapted.settle(),
        }
    }

    /// What learns.
    fn parameters(&self) -> &Parameters {
        match self {
            Self::Whole(gpt) => gpt.parameters(),
            Self::Adapted(adapted) => adapted.parameters(),
        }
    }
}

#[derive(Debug)]
struct Head {
    parameters: Parameters,
    linear: Linear,
}

impl Head {
    fn new(gpt: &Gpt, classes: usize, seed: u64) -> Result<Self, Error> {
        let mut parameters = Parameters::new(gpt.parameters().device(), seed ^ 0x6865_6164);
        let sizes = (gpt.config().width, classes);
        let linear = Linear::normal(&mut parameters, "score", sizes, 0.02, gpt.kernels())?;
        Ok(Self { parameters, linear })
    }
}

impl GptClassifier {
    /// A classifier whose head knows nothing yet.
    fn untrained(gpt: Gpt, recipe: ClassifierRecipe, classes: usize) -> Result<Self, Error> {
        recipe.check(classes)?;
        let head = Head::new(&gpt, classes, recipe.seed)?;
        let body = match &recipe.lora {
            Some(lora) => Body::Adapted(LoraGpt::new(gpt, lora.clone(), recipe.seed)?),
            None => Body::Whole(gpt),
        };
        Ok(Self { recipe, body, head, classes, curve: Vec::new() })
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The rounds of training, in order.
    pub fn curve(&self) -> &[ClassifierRound] {
        &self.curve
    }

    /// The model that reads the sequences, adapters included.
    pub fn gpt(&self) -> &Gpt {
        self.body.gpt()
    }

    /// The recipe it was trained with.
    pub fn recipe(&self) -> &ClassifierRecipe {
        &self.recipe
    }

    /// The number of numbers that learned: body or adapters, and head.
    pub fn trained_count(&self) -> usize {
        self.body.parameters().count() + self.head.parameters.count()
    }

    /// Log-probabilities of each sequence's classes, `[sequences][classes]`.
    ///
    /// # Errors
    /// [`Error::Empty`] for a sequence without tokens, [`Error::Token`] for an id beyond the vocabulary,
    /// [`Error::Recipe`] for a sequence longer than the context.
    pub fn predict(&self, sequences: &[Vec<u32>]) -> Result<Vec<Vec<f64>>, Error> {
        let mut rows = Vec::with_capacity(sequences.len());
        for part in sequences.chunks(self.recipe.batch) {
            let batch = Batch::new(part.iter().map(Vec::as_slice))?;
            let logits = self.read(&batch)?;
            let likely = candle_nn::ops::log_softmax(&logits, D::Minus1)?.to_vec2::<f32>()?;
            rows.extend(likely.into_iter().map(|row| row.into_iter().map(f64::from).collect::<Vec<_>>()));
        }
        Ok(rows)
    }

    /// Scores of the classes, `[sequences, classes]`, without a way back.
    fn read(&self, batch: &Batch) -> Result<Tensor, Error> {
        let gpt = self.body.gpt();
        let pooled = match self.recipe.pooling {
            Pooling::Last => gpt.last_states(batch)?,
            Pooling::Mean => mean(&gpt.states(batch)?, batch, gpt.parameters().device())?,
        };
        self.head.linear.forward(&pooled)
    }

    /// Scores of the classes, `[sequences, classes]`.
    fn logits(&self, batch: &Batch, noise: &mut Noise) -> Result<Tensor, Error> {
        let gpt = self.body.gpt();
        let pooled = match self.recipe.pooling {
            Pooling::Last => gpt.pooled(batch, noise)?,
            Pooling::Mean => mean(&gpt.hidden(batch, noise)?, batch, gpt.parameters().device())?,
        };
        self.head.linear.forward(&pooled)
    }
}

/// The mean of each sequence's rows: `[tokens, width]` → `[sequences, width]`.
fn mean(hidden: &Tensor, batch: &Batch, device: &Device) -> Result<Tensor, Error> {
    let (sequences, width) = (batch.sequences(), hidden.dim(1)?);
    let lengths: Vec<usize> = batch.offsets().windows(2).map(|pair| pair[1] - pair[0]).collect();
    let owners: Vec<u32> =
        lengths.iter().zip(0u32..).flat_map(|(&length, owner)| std::iter::repeat_n(owner, length)).collect();
    let owners = Tensor::from_vec(owners, batch.tokens(), device)?;
    let sums = Tensor::zeros((sequences, width), hidden.dtype(), device)?.index_add(&owners, hidden, 0)?;
    let shares: Vec<f32> = lengths.iter().map(|&length| 1.0 / length as f32).collect();
    Ok(sums.broadcast_mul(&Tensor::from_vec(shares, (sequences, 1), device)?)?)
}

#[cfg(test)]
mod tests;
