//! Event histories and tables in, probabilities out: a decoder-only GPT, its tokenizer, and the fusion with a table.
//!
//! Belongs here: the event tokenizer, the tensor kernels with their gradients, the model, pretraining, the tabular
//! tower and joint fusion. Not here: Arrow files (`frames`), SQL (`storage`), HTTP and jobs (`gpt-worker`), calibration
//! and evaluation (`statistics`).
//!
//! Invariants:
//! - Only this crate names candle. Data comes as [`domain::tabular`] values, progress leaves by a callback.
//! - Every trainable tensor receives a gradient; a test holds each model to that.
//! - A run is a pure function of its data, recipe and seed: batch and dropout of step *s* depend on (seed, s) only, and
//!   sums are taken in a fixed order, so a resumed run ends in the same bits on a CPU.
//! - Every file carries a format number, and an unknown one is refused.

pub mod allocator;
pub mod bpe;
pub mod classifier;
pub mod device;
pub mod error;
pub mod exchange;
pub mod files;
pub mod fusion;
pub mod generator;
pub mod kernels;
pub mod layers;
pub mod lora;
pub mod measure;
pub mod model;
pub mod optimizer;
pub mod pretrain;
mod quantiles;
pub mod reader;
pub mod scaling;
pub mod tabular;
pub mod tokenizer;

pub use bpe::Bpe;
pub use candle_core::Device;
pub use classifier::{ClassifierData, ClassifierRecipe, ClassifierTraining, GptClassifier, Pooling};
pub use error::Error;
pub use fusion::{Backbone, FusionData, FusionRecipe, JointFusion};
pub use kernels::{Kernels, Precision};
pub use lora::{LoraConfig, LoraGpt};
pub use model::{
    Activation, Batch, Decoder, Ended, Generation, Gpt, GptConfig, NormKind, Positions, Sampling,
};
pub use pretrain::{PretrainRecipe, Pretraining, Progress};
pub use reader::{Ending, Reader, Reading};
pub use tabular::TabularEncoder;
pub use tokenizer::{EventField, EventSpec, EventTokenizer, FieldKind, Meaning};
