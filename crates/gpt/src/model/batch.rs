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

    /// The sequences in parts of at most so many tokens, or of one sequence that is longer; with the tokens before each.
    pub(crate) fn parts(&self, most: usize) -> Vec<(usize, Self)> {
        let (mut parts, mut first) = (Vec::new(), 0);
        for last in 1..self.offsets.len() {
            let ends = |end: usize| self.offsets[end] - self.offsets[first];
            if last == self.sequences() || ends(last + 1) > most {
                let (start, end) = (self.offsets[first], self.offsets[last]);
                let offsets = self.offsets[first..=last].iter().map(|at| at - start).collect();
                parts.push((start, Self { ids: self.ids[start..end].to_vec(), offsets }));
                first = last;
            }
        }
        parts
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

    /// The number of tokens that have a next one.
    pub(crate) fn counted_targets(&self) -> usize {
        self.tokens() - self.sequences()
    }

    /// Refuses to speak of the last `count` tokens of each sequence where one has fewer.
    pub(crate) fn check_last(&self, count: usize) -> Result<(), Error> {
        let shortest = self.offsets.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(0);
        if count <= shortest {
            return Ok(());
        }
        let reason =
            format!("the last {count} tokens of each sequence are asked for, and one has {shortest}");
        Err(Error::Recipe { reason })
    }

    /// The rows of each sequence's last `count` tokens, in their order.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = usize> {
        self.offsets[1..].iter().flat_map(move |&end| end - count..end)
    }

    /// Their places within their sequences.
    pub(crate) fn last_places(&self, count: usize) -> impl Iterator<Item = usize> {
        self.offsets.windows(2).map(|pair| pair[1] - pair[0]).flat_map(move |size| size - count..size)
    }

    /// [`Batch::last`] as a tensor.
    pub(crate) fn last_rows(&self, count: usize, device: &Device) -> Result<Tensor, Error> {
        let rows: Vec<u32> = self.last(count).map(|row| row as u32).collect();
        Ok(Tensor::from_vec(rows, self.sequences() * count, device)?)
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
        let last = batch.last_rows(1, &Device::Cpu).unwrap();
        assert_eq!(last.to_vec1::<u32>().unwrap(), [2, 3, 5]);
        let said = batch.check_last(2).unwrap_err().to_string();
        assert!(said.contains("the last 2 tokens") && said.contains("one has 1"), "{said}");
        let longer = Batch::new([&[1u32, 2, 3][..], &[8, 9][..]]).unwrap();
        longer.check_last(2).unwrap();
        assert!(longer.last(2).eq([1, 2, 3, 4]));
    }

    #[test]
    fn parts_hold_all_tokens_in_order_and_no_more_than_asked_unless_a_sequence_is_longer() {
        let batch = Batch::new([&[1u32, 2][..], &[3][..], &[4, 5, 6, 7, 8][..], &[9][..]]).unwrap();
        for (most, sizes) in [(1, vec![2, 1, 5, 1]), (3, vec![3, 5, 1]), (6, vec![3, 6]), (9, vec![9])] {
            let parts = batch.parts(most);
            assert_eq!(parts.iter().map(|(_, part)| part.tokens()).collect::<Vec<_>>(), sizes);
            let ids: Vec<u32> = parts.iter().flat_map(|(_, part)| part.ids.clone()).collect();
            assert_eq!(ids, batch.ids);
            let before = sizes.iter().scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size)));
            assert!(parts.iter().map(|(before, _)| *before).eq(before));
        }
    }

    #[test]
    fn an_empty_sequence_is_refused() {
        assert!(matches!(Batch::new([&[1u32][..], &[][..]]), Err(Error::Empty { .. })));
    }
}
