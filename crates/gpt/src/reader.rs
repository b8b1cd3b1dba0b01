//! What a GPT and its tokenizer make of histories without learning: vectors, surprise, and what may come next.

use std::ops::ControlFlow;

use domain::tabular::History;

use crate::{Batch, Error, EventTokenizer, Generation, Gpt, Sampling};

/// Tokens that are read at a time, at least one sequence.
const TOKENS_AT_ONCE: usize = 8_192;

/// A GPT and the tokenizer that it was trained with.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The model.
    pub gpt: &'a Gpt,
    /// Its tokenizer.
    pub tokenizer: &'a EventTokenizer,
}

/// What a history is to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// How unexpected it was: the mean of −ln p(token | tokens before it), in nats a token.
    pub surprise: f64,
    /// Its tokens, after the one that begins every history.
    pub tokens: Vec<u32>,
    /// The final hidden state of its last token, `[width]`.
    pub vector: Vec<f32>,
}

/// Where a history leaves a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// The final hidden state before a model hears how long ago the latest event was, `[width]`: of that event's last token, or
    /// without an event of the token that begins every history. Pretraining asks it for what comes next.
    pub before: Vec<f32>,
    /// The final hidden state of the last token, which says how long ago the latest event was, `[width]`.
    pub vector: Vec<f32>,
}

impl Reader<'_> {
    /// Numbers in a vector.
    pub fn width(&self) -> usize {
        self.gpt.config().width
    }

    /// The final hidden state of each history's last token: `[rows][width]`.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] or [`Error::ColumnKind`] if the history does not have the tokenizer's fields,
    /// [`Error::Rows`] if there is not one cutoff a row.
    pub fn vectors(&self, history: &History, cutoffs: &[i64]) -> Result<Vec<Vec<f32>>, Error> {
        self.last_states(history, cutoffs, 1)
    }

    /// Where each history leaves the model, in one pass.
    ///
    /// # Errors
    /// As [`Reader::vectors`].
    pub fn endings(&self, history: &History, cutoffs: &[i64]) -> Result<Vec<Ending>, Error> {
        let mut states = self.last_states(history, cutoffs, 2)?.into_iter();
        let pairs = std::iter::from_fn(|| Some(Ending { before: states.next()?, vector: states.next()? }));
        Ok(pairs.collect())
    }

    /// The final hidden states of each history's last `count` tokens, of at least two: `[rows · count][width]`.
    fn last_states(&self, history: &History, cutoffs: &[i64], count: usize) -> Result<Vec<Vec<f32>>, Error> {
        let sequences = self.sequences(history, cutoffs)?;
        let mut states = Vec::with_capacity(count * sequences.len());
        for part in parts(&sequences) {
            let batch = Batch::new(part.iter().map(Vec::as_slice))?;
            states.extend(self.gpt.states_of_last(&batch, count)?.to_vec2::<f32>()?);
        }
        Ok(states)
    }

    /// What each history is to the model, in one pass: how unexpected, of which tokens, and where its vector lies.
    ///
    /// # Errors
    /// As [`Reader::vectors`].
    pub fn readings(&self, history: &History, cutoffs: &[i64]) -> Result<Vec<Reading>, Error> {
        let sequences = self.sequences(history, cutoffs)?;
        let mut readings = Vec::with_capacity(sequences.len());
        for part in parts(&sequences) {
            let batch = Batch::new(part.iter().map(Vec::as_slice))?;
            let hidden = self.gpt.states(&batch)?; // [tokens, width]
            let losses = self.gpt.losses_at(&hidden, &batch)?;
            let vectors = hidden.index_select(&batch.last_rows(1, hidden.device())?, 0)?.to_vec2::<f32>()?; // [sequences][width]
            let mut rest = losses.as_slice();
            for (sequence, vector) in part.iter().zip(vectors) {
                let (own, others) = rest.split_at(sequence.len());
                let nats: f64 = own.iter().copied().map(f64::from).sum();
                let surprise = nats / (sequence.len() - 1).max(1) as f64; // the first token is given
                readings.push(Reading { surprise, tokens: sequence[1..].to_vec(), vector });
                rest = others;
            }
        }
        Ok(readings)
    }

    /// Writes on after one row's latest events, as many as leave room for what is written, up to half of the context; `told` hears each new token as it comes and may break off. Writing also ends where
    /// the model says that no event follows.
    ///
    /// # Errors
    /// As [`Reader::vectors`], and as [`Gpt::generate`].
    pub fn generate(
        &self,
        history: &History,
        cutoff: i64,
        sampling: &Sampling,
        told: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generation, Error> {
        let context = self.gpt.config().context;
        let room = sampling.max_tokens.min(context / 2); // the oldest events make way for what is written
        let mut prompt = self.tokenizer.encode(history, 0, cutoff, (context + 1 - room).max(2))?;
        prompt.pop(); // how long ago the last event was: it ends a history
        let stop = sampling.stop.iter().copied().chain(self.tokenizer.ends()).collect();
        self.gpt.generate(&prompt, &Sampling { stop, ..sampling.clone() }, told)
    }

    fn sequences(&self, history: &History, cutoffs: &[i64]) -> Result<Vec<Vec<u32>>, Error> {
        self.tokenizer.encode_all(history, cutoffs, self.gpt.config().context)
    }
}

/// Runs of sequences of a bounded number of tokens.
fn parts(sequences: &[Vec<u32>]) -> impl Iterator<Item = &[Vec<u32>]> {
    let mut rest = sequences;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fit = rest.iter().take_while(|sequence| {
            tokens += sequence.len();
            tokens <= TOKENS_AT_ONCE
        });
        let count = fit.count().max(1).min(rest.len());
        let (part, later) = rest.split_at(count);
        rest = later;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use domain::tabular::{Column, Table};

    use super::*;
    use crate::layers::Noise;
    use crate::{EventSpec, GptConfig};

    fn history(letters: &[&[&str]]) -> History {
        let events: Vec<&str> = letters.iter().flat_map(|row| row.iter().copied()).collect();
        let kinds = Column::from_text(events.iter().map(|kind| Some(*kind)));
        let mut offsets = vec![0];
        offsets.extend(letters.iter().scan(0, |end, row| {
            *end += row.len();
            Some(*end)
        }));
        let times = (0..events.len() as i64).map(|event| event * 60_000_000).collect();
        History { offsets, times, fields: Table::new(events.len(), vec![("kind".into(), kinds)]).unwrap() }
    }

    fn model() -> (Gpt, EventTokenizer) {
        let spec: EventSpec =
            serde_json::from_str(r#"{"fields":[{"name":"kind","kind":{"category":{"max_levels":4}}}]}"#)
                .unwrap();
        let tokenizer = EventTokenizer::fit(&spec, &history(&[&["A", "B", "C"]])).unwrap();
        let vocabulary = tokenizer.vocabulary_size();
        let config =
            GptConfig { vocabulary, context: 8, width: 16, layers: 2, heads: 2, ..GptConfig::default() };
        (Gpt::new(config, 5, &Device::Cpu).unwrap(), tokenizer)
    }

    #[test]
    fn a_row_is_read_the_same_alone_and_among_others() {
        let (gpt, tokenizer) = model();
        let reader = Reader { gpt: &gpt, tokenizer: &tokenizer };
        let all = history(&[&["A", "B"], &[], &["C", "A", "B", "A"]]);
        let cutoffs = [i64::from(u32::MAX) * 1_000; 3];
        let together = reader.vectors(&all, &cutoffs).unwrap();
        let readings = reader.readings(&all, &cutoffs).unwrap();
        let surprise: Vec<f64> = readings.iter().map(|reading| reading.surprise).collect();
        assert_eq!((together.len(), together[0].len(), reader.width()), (3, 16, 16));
        for row in 0..3 {
            let one = all.take(&[row]);
            let alone = reader.vectors(&one, &cutoffs[..1]).unwrap();
            assert!(together[row].iter().zip(&alone[0]).all(|(a, b)| (a - b).abs() < 1e-5), "{row}");
            let own = &reader.readings(&one, &cutoffs[..1]).unwrap()[0];
            assert!((surprise[row] - own.surprise).abs() < 1e-5);
            assert_eq!(own.tokens, readings[row].tokens);
            assert!(own.vector.iter().zip(&alone[0]).all(|(a, b)| (a - b).abs() < 1e-5), "{row}");
        }
        let endings = reader.endings(&all, &cutoffs).unwrap();
        let mut sequences = tokenizer.encode_all(&all, &cutoffs, 8).unwrap();
        for (row, ending) in endings.iter().enumerate() {
            assert_eq!(ending.vector, together[row], "{row}");
            assert_eq!(*ending, reader.endings(&all.take(&[row]), &cutoffs[..1]).unwrap()[0], "{row}");
            sequences[row].pop(); // how long ago the last event was
            let shorter = gpt.states(&Batch::new([sequences[row].as_slice()]).unwrap()).unwrap();
            let state = shorter.to_vec2::<f32>().unwrap().pop().unwrap();
            assert!(state.iter().zip(&ending.before).all(|(a, b)| (a - b).abs() < 1e-5), "{row}");
        }
        assert_eq!(sequences[1].len(), 1, "without an event the state is that of the token that begins");
        // the mean loss of the batch is the mean over tokens that have a target
        let sequences = tokenizer.encode_all(&all, &cutoffs, 8).unwrap();
        let told: Vec<f64> = sequences.iter().map(|s| (s.len() - 1) as f64).collect();
        let batch = Batch::new(sequences.iter().map(Vec::as_slice)).unwrap();
        let loss = gpt.loss(&batch, &mut Noise::off()).unwrap().to_scalar::<f32>().unwrap();
        let mean = surprise.iter().zip(&told).map(|(s, t)| s * t).sum::<f64>() / told.iter().sum::<f64>();
        assert!((f64::from(loss) - mean).abs() < 1e-4, "{loss} {mean}");
    }

    #[test]
    fn what_is_written_on_follows_the_events_and_ends_with_them() {
        let (gpt, tokenizer) = model();
        let reader = Reader { gpt: &gpt, tokenizer: &tokenizer };
        let one = history(&[&["A", "B"]]);
        let sampling = Sampling { max_tokens: 4, seed: 3, ..Sampling::default() };
        let mut told = Vec::new();
        let mut hear = |token: u32| {
            told.push(token);
            ControlFlow::Continue(())
        };
        let written = reader.generate(&one, i64::MAX / 2, &sampling, &mut hear).unwrap();
        assert_eq!(written.tokens, told);
        let ends = tokenizer.ends();
        assert!(written.tokens[..written.tokens.len() - 1].iter().all(|token| !ends.contains(token)));
        let prompt = &tokenizer.encode(&one, 0, i64::MAX / 2, 8).unwrap()[..3];
        let plain = Sampling { stop: tokenizer.ends().collect(), ..sampling };
        let expected = gpt.generate(prompt, &plain, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(written, expected);

        let full = history(&[&["A", "B", "A", "B", "A", "B", "A", "B", "C"]]);
        let greedy = Sampling { max_tokens: 4, temperature: 0.0, ..Sampling::default() };
        let written =
            reader.generate(&full, i64::MAX / 2, &greedy, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(written.ended != crate::Ended::Context, "a full history leaves no room: {written:?}");
    }
}
