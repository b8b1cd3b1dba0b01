//! Writing on: the next token drawn again and again, told to the caller as it comes.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Decoder, Gpt};
use crate::Error;
use crate::generator::Generator;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Scores are divided by this first; 0 takes the most likely token.
    pub temperature: f64,
    /// Only the so many most likely tokens, if given.
    pub top_k: Option<usize>,
    /// Only the fewest most likely tokens that hold this share of the probability, if given.
    pub top_p: Option<f64>,
    /// Decides the draws.
    pub seed: u64,
    /// At most this many new tokens.
    pub max_tokens: usize,
    /// Writing ends with any of these; it is part of the result.
    pub stop: Vec<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: None, seed: 0, max_tokens: 32, stop: Vec::new() }
    }
}

/// Why writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// A stop token came.
    Stop,
    /// `max_tokens` were written.
    Length,
    /// The context is full.
    Context,
    /// The caller broke off.
    Caller,
}

/// What was written after the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The new tokens.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub ended: Ended,
}

impl Sampling {
    /// The most likely token each time.
    pub fn greedy(max_tokens: usize) -> Self {
        Self { temperature: 0.0, max_tokens, ..Self::default() }
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Recipe { reason: reason.to_owned() });
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return refuse("the temperature is a finite number from 0");
        }
        if self.top_k == Some(0) {
            return refuse("top_k is at least 1");
        }
        if self.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return refuse("top_p is above 0 and at most 1");
        }
        Ok(())
    }

    /// The next token under scores; equal scores go to the lower id.
    fn choose(&self, scores: &[f32], generator: &mut Generator) -> u32 {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        let first = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
        if self.temperature == 0.0 {
            return order.into_iter().min_by(first).unwrap_or_default();
        }
        order.sort_unstable_by(first);
        order.truncate(self.top_k.unwrap_or(order.len()));
        let top = f64::from(scores[order[0] as usize]);
        let weight = |id: &u32| ((f64::from(scores[*id as usize]) - top) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let kept = nucleus(&weights, self.top_p.unwrap_or(1.0));
        order[draw(&weights[..kept], generator)]
    }
}

/// How many of the descending weights hold this share of their sum; at least 1.
fn nucleus(weights: &[f64], share: f64) -> usize {
    let wanted = share * weights.iter().sum::<f64>();
    let mut held = 0.0;
    let before = weights.iter().take_while(|&&weight| {
        held += weight;
        held < wanted
    });
    (before.count() + 1).min(weights.len())
}

/// An index with probability in proportion to its weight.
fn draw(weights: &[f64], generator: &mut Generator) -> usize {
    let mut left = generator.uniform() * weights.iter().sum::<f64>();
    let found = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    found.unwrap_or(weights.len() - 1)
}

impl Gpt {
    /// Writes on after a prompt; `told` hears each new token as it comes and may break off.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the sampling is impossible or the prompt exceeds the context, [`Error::Empty`] without a
    /// prompt, [`Error::Token`] for an id beyond the vocabulary.
    pub fn generate(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
        told: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generation, Error> {
        sampling.check()?;
        let mut decoder = Decoder::new(self);
        let mut scores = decoder.push(prompt)?;
        let mut generator = Generator::new(sampling.seed, 0x6765_6e65);
        let mut tokens = Vec::new();
        let mut ended = Ended::Length;
        while tokens.len() < sampling.max_tokens {
            let token = sampling.choose(&scores, &mut generator);
            tokens.push(token);
            if told(token).is_break() {
                ended = Ended::Caller;
                break;
            }
            if sampling.stop.contains(&token) {
                ended = Ended::Stop;
                break;
            }
            if tokens.len() == sampling.max_tokens {
                break;
            }
            if decoder.length() == self.config().context {
                ended = Ended::Context;
                break;
            }
            scores = decoder.push(&[token])?;
        }
        Ok(Generation { tokens, ended })
    }

    /// The prompt followed by the `count` most likely tokens, one after the other.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the sequence outgrows the context.
    pub fn greedy(&self, prompt: &[u32], count: usize) -> Result<Vec<u32>, Error> {
        self.check_length(prompt.len() + count)?;
        let written = self.generate(prompt, &Sampling::greedy(count), &mut |_| ControlFlow::Continue(()))?;
        Ok([prompt, &written.tokens].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nucleus_is_the_fewest_tokens_that_hold_the_share() {
        assert_eq!(nucleus(&[0.5, 0.3, 0.2], 0.5), 1);
        assert_eq!(nucleus(&[0.5, 0.3, 0.2], 0.51), 2);
        assert_eq!(nucleus(&[0.5, 0.3, 0.2], 1.0), 3);
    }

    #[test]
    fn draws_follow_the_softmax_of_the_scores_over_the_temperature() {
        let sampling = Sampling { temperature: 2.0, ..Sampling::default() };
        let (scores, mut generator) = ([2.0f32, 0.0, -2.0], Generator::new(5, 0));
        let mut counts = [0f64; 3];
        for _ in 0..20_000 {
            counts[sampling.choose(&scores, &mut generator) as usize] += 1.0;
        }
        let mass = 1f64.exp() + 1.0 + (-1f64).exp();
        for (count, score) in counts.iter().zip([1.0f64, 0.0, -1.0]) {
            assert!((count / 20_000.0 - score.exp() / mass).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_leave_only_the_most_likely_and_temperature_0_takes_the_first() {
        let scores = [0.0f32, 3.0, 2.0, 3.0];
        let mut generator = Generator::new(1, 0);
        let mut drawn = |sampling: &Sampling| {
            let mut seen: Vec<u32> = (0..500).map(|_| sampling.choose(&scores, &mut generator)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(drawn(&Sampling { top_k: Some(2), ..Sampling::default() }), [1, 3]);
        assert_eq!(drawn(&Sampling { top_p: Some(0.4), ..Sampling::default() }), [1]);
        assert_eq!(drawn(&Sampling::greedy(1)), [1]);
        assert_eq!(drawn(&Sampling::default()), [0, 1, 2, 3]);
    }
}
