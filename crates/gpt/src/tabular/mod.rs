//! Tables for a neural network: numbers as normal scores, categories as codes, and the tower that reads them.
//!
//! Belongs here: what is learned from a training table before any gradient ([`TabularEncoder`]), and the layers over it
//! ([`Tower`]): periodic or piecewise-linear embeddings, cross layers, a deep part. Not here: the history of a row (`model`), or how the two
//! meet (`fusion`).

mod cross;
mod encoder;
mod piecewise;
mod tower;

pub use cross::Cross;
pub(crate) use encoder::TabularBatch;
pub use encoder::{Encoded, TabularEncoder};
pub use piecewise::Piecewise;
pub use tower::{NumberEmbedding, Tower, TowerConfig};
