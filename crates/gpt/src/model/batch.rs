//! Token sequences stored end to end.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::Error;
use crate::kernels::IGNORED;

/// Sequences of any lengths, packed: sequence s owns the tokens `offsets[s]..offsets[s + 1]`.
#[derive(Clone, Debug)]
pub struct Batch {
    ids: Vec<u32>,
    offsets: Arc<[usize]>,
}

impl Batch {
    /// Packs sequences.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is no sequence or one has no token.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Result<Self, Error> {
        let (mut ids, mut offsets) = (Vec::new(), vec![0]);
        for sequence in sequences {
            if sequence.is_empty() {
                return Err(Error::Empty { what: "a token sequence" });
            }
            ids.extend_from_slice(sequence);
            offsets.push(ids.len());
        }
        if ids.is_empty() {
            Err(Error::Empty { what: "a batch" })
        } else {
            Ok(Self { ids, offsets: offsets.into() })
        }
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The number of sequences.
    pub fn sequences(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Where each sequence starts, and the end of the last.
    pub(crate) fn offsets(&self) -> &Arc<[usize]> {
        &self.offsets
    }

    pub(crate) fn longest(&self) -> usize {
        self.offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// The ids, end to end.
    pub(crate) fn raw_ids(&self) -> &[u32] {
        &self.ids
    }

    pub(crate) fn ids(&self, device: &Device) -> Result<Tensor, Error> {
        Ok(Tensor::from_slice(&self.ids, self.ids.len(), device)?)
    }

    /// The place of each token within its sequence.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        self.offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0])
    }

    /// [`Batch::places`] as a tensor.
    pub(crate) fn positions(&self, device: &Device) -> Result<Tensor, Error> {
        let places: Vec<u32> = self.places().map(|place| place as u32).collect();
        Ok(Tensor::from_vec(places, self.ids.len(), device)?)
    }

    /// The row of each sequence's last token.
    pub(crate) fn last(&self, device: &Device) -> Result<Tensor, Error> {
        let rows: Vec<u32> = self.offsets[1..].iter().map(|&end| end as u32 - 1).collect();
        Ok(Tensor::from_vec(rows, self.sequences(), device)?)
    }

    /// The next token of each token; [`IGNORED`] at the end of a sequence.
    pub(crate) fn targets(&self) -> Arc<[u32]> {
        let mut targets: Vec<u32> = self.ids[1..].iter().copied().chain([IGNORED]).collect();
        for &end in &self.offsets[1..] {
            targets[end - 1] = IGNORED;
        }
        targets.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_predicts_the_next_of_its_own_sequence_only() {
        let batch = Batch::new([&[1u32, 2, 3][..], &[7][..], &[8, 9][..]]).unwrap();
        assert_eq!(*batch.targets(), [2, 3, IGNORED, IGNORED, 9, IGNORED]);
        let last = batch.last(&Device::Cpu).unwrap();
        assert_eq!(last.to_vec1::<u32>().unwrap(), [2, 3, 5]);
    }

    #[test]
    fn an_empty_sequence_is_refused() {
        assert!(matches!(Batch::new([&[1u32][..], &[][..]]), Err(Error::Empty { .. })));
    }
}
