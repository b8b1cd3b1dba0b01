//! How loss falls with size and data on one's own tokens: a grid of small runs, a law fitted to them, and how well it
//! foretells the largest run, which it has not seen.
//!
//! Belongs here: the grid, its runs and their law. Not here: drawing it, reading text (`foretime scaling`).

mod fit;

use std::ops::ControlFlow;

use candle_core::Device;
use serde::Serialize;

pub use fit::{Law, Point};

use crate::pretrain::{PretrainRecipe, Pretraining};
use crate::{Error, Gpt, GptConfig, Precision};

/// Which runs are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The parts and the context of all models; their width, heads and layers are those of `sizes`.
    pub model: GptConfig,
    /// (layers, width) of each size.
    pub sizes: Vec<(usize, usize)>,
    /// Tokens that a run trains on.
    pub tokens: Vec<usize>,
    /// Sequences a step.
    pub batch: usize,
    /// The highest learning rate of a model of width 64; wider ones take it times 64 / width.
    pub learning_rate: f64,
    /// Decides weights and the order of sequences.
    pub seed: u64,
    /// The numbers that matrix products multiply.
    pub precision: Precision,
}

/// What the largest run was foretold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Foretold {
    /// The run, which the law of the others has not seen.
    pub run: Point,
    /// What their law said of it.
    pub predicted: f64,
    /// predicted / actual − 1.
    pub error: f64,
}

/// All runs, their law, and the test of a law on the largest of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaling {
    /// The runs, in order of size, then of tokens.
    pub runs: Vec<Point>,
    /// The law of all runs.
    pub law: Law,
    /// The law of all runs but the largest, put to the test.
    pub held_out: Foretold,
}

/// Numbers of a head, if the width can be cut so.
const HEAD: usize = 32;

impl Grid {
    /// The model of a size.
    fn config(&self, (layers, width): (usize, usize)) -> GptConfig {
        let heads = if width.is_multiple_of(HEAD) { width / HEAD } else { 1 };
        GptConfig { layers, width, heads, key_value_heads: None, ..self.model.clone() }
    }

    /// Refuses a grid that the text is too short for, or that cannot be fitted.
    fn check(&self, sequences: usize) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Recipe { reason });
        let runs = self.sizes.len() * self.tokens.len();
        if runs < 7 || self.sizes.len() < 2 || self.tokens.len() < 2 {
            return refuse(format!(
                "{} sizes by {} amounts of tokens: a law and its test need at least 2 of each and 7 runs",
                self.sizes.len(),
                self.tokens.len()
            ));
        }
        let (step, most) = (self.batch * self.model.context, self.tokens.iter().max().copied().unwrap_or(0));
        if self.tokens.iter().any(|&tokens| tokens < 2 * step) {
            return refuse(format!("a run takes at least two steps of {step} tokens"));
        }
        let there = sequences * self.model.context;
        if most > 4 * there {
            return refuse(format!(
                "{most} tokens are more than four passes over the {there} there are: past that, repetition shows"
            ));
        }
        Ok(())
    }

    /// One run: its loss on the validation sequences at the end of its schedule.
    fn run(
        &self,
        config: GptConfig,
        tokens: usize,
        (train, validation): (&[Vec<u32>], &[Vec<u32>]),
        told: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Point, Error> {
        let steps = tokens / (self.batch * self.model.context);
        let (parameters, width) = (config.parameters() as f64, config.width as f64);
        let recipe = PretrainRecipe {
            seed: self.seed,
            batch: self.batch,
            epochs: 5.0,
            max_steps: Some(steps),
            learning_rate: self.learning_rate * 64.0 / width.max(64.0),
            precision: self.precision,
            ..PretrainRecipe::default()
        };
        let mut run = Pretraining::new(Gpt::new(config, self.seed, &Device::Cpu)?, recipe)?;
        if !run.run(train, None, &mut |_| told())? {
            return Err(Error::Stopped { step: run.step() });
        }
        let tokens = (steps * self.batch * self.model.context) as f64;
        Ok(Point { parameters, tokens, loss: run.mean_loss(validation)? })
    }

    /// Makes all runs over one text's ids, whose last tenth is only for the losses; `told` hears each run, and `going` is asked
    /// at each step whether to go on.
    ///
    /// # Errors
    /// [`Error::Recipe`] for a grid that cannot be fitted or more tokens than four passes over the text,
    /// [`Error::Stopped`] if it was broken off, and as [`Pretraining::run`].
    pub fn measure(
        &self,
        ids: &[u32],
        told: &mut dyn FnMut(&Point),
        going: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Scaling, Error> {
        let sequences: Vec<Vec<u32>> = ids.chunks_exact(self.model.context).map(<[u32]>::to_vec).collect();
        let split = sequences.len() - sequences.len().div_ceil(10).min(sequences.len());
        let (train, validation) = sequences.split_at(split);
        self.check(train.len())?;
        let mut runs = Vec::new();
        for &size in &self.sizes {
            for &tokens in &self.tokens {
                let point = self.run(self.config(size), tokens, (train, validation), going)?;
                told(&point);
                runs.push(point);
            }
        }
        Scaling::of(runs)
    }
}

impl Scaling {
    /// The law of runs, and its test on the one of most operations.
    ///
    /// # Errors
    /// As [`Law::fit`].
    pub fn of(runs: Vec<Point>) -> Result<Self, Error> {
        let operations = |run: &Point| run.parameters * run.tokens;
        let largest = (0..runs.len()).max_by(|&x, &y| operations(&runs[x]).total_cmp(&operations(&runs[y])));
        let largest = largest.ok_or(Error::Empty { what: "the grid" })?;
        let mut others = runs.clone();
        let run = others.remove(largest);
        let predicted = Law::fit(&others)?.loss(run.parameters, run.tokens);
        let held_out = Foretold { run, predicted, error: predicted / run.loss - 1.0 };
        Ok(Self { law: Law::fit(&runs)?, runs, held_out })
    }
}

/// A text of a source with known structure, named for what it is: each token follows its last two by a table of a few
/// likely successors, with noise. More size and more data both help on it.
pub fn synthetic_ids(vocabulary: usize, count: usize, seed: u64) -> Vec<u32> {
    let mut draws = crate::generator::Generator::new(seed, 0x7363_616c);
    let successor = |before: [u32; 2], choice: usize| {
        let key = u64::from(before[0]) << 34 | u64::from(before[1]) << 4 | choice as u64;
        crate::generator::Generator::new(key, 0x7375_6363).below(vocabulary) as u32
    };
    let mut last = [0u32, 1];
    (0..count)
        .map(|_| {
            // successors of the last token alone are learned from little data, those of the last two take more
            let context = if draws.uniform() < 0.5 { [0, last[1]] } else { [last[0] % 16 + 1, last[1]] };
            let choice = (draws.uniform() * draws.uniform() * 4.0) as usize;
            let next = if draws.uniform() < 0.1 {
                draws.below(vocabulary) as u32
            } else {
                successor(context, choice)
            };
            last = [last[1], next];
            next
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid {
            model: GptConfig { vocabulary: 64, context: 32, ..GptConfig::default() },
            sizes: vec![(1, 8), (1, 16), (2, 32)],
            tokens: vec![2_048, 8_192, 32_768],
            batch: 8,
            learning_rate: 5e-3,
            seed: 1,
            precision: Precision::F32,
        }
    }

    #[test]
    fn a_grid_of_real_runs_gives_a_law_under_which_size_and_data_help_and_foretells_its_largest_run() {
        let ids = synthetic_ids(64, 40_000, 3);
        let mut heard = 0;
        let going = &mut || ControlFlow::Continue(());
        let scaling = grid().measure(&ids, &mut |_| heard += 1, going).unwrap();
        assert_eq!((scaling.runs.len(), heard), (9, 9));
        let Law { alpha, beta, floor, .. } = scaling.law;
        assert!(beta > 0.0 && alpha > -0.5 && floor > 0.0, "{scaling:?}");
        let held_out = scaling.held_out;
        assert_eq!(held_out.run, scaling.runs[8], "the largest run is left out");
        assert!(held_out.error.abs() < 0.15, "{held_out:?}");
        assert_eq!(grid().measure(&ids, &mut |_| (), &mut || ControlFlow::Continue(())).unwrap(), scaling);
    }

    #[test]
    fn the_test_of_a_law_does_not_see_the_run_it_is_tested_on() {
        let law = Law { floor: 1.0, a: 20.0, alpha: 0.3, b: 50.0, beta: 0.4 };
        let sizes = [1e3, 1e4, 1e5];
        let runs = |last: f64| -> Vec<Point> {
            let all = sizes.into_iter().flat_map(|n| [1e4, 1e5, 1e6].into_iter().map(move |d| (n, d)));
            all.map(|(n, d)| {
                let factor = if (n, d) == (1e5, 1e6) { last } else { 1.0 };
                Point { parameters: n, tokens: d, loss: law.loss(n, d) * factor }
            })
            .collect()
        };
        let [true_run, wrong_run] = [1.0, 1.25].map(|last| Scaling::of(runs(last)).unwrap().held_out);
        assert!(true_run.error.abs() < 1e-3, "{true_run:?}");
        assert_eq!(true_run.predicted, wrong_run.predicted);
        assert!((wrong_run.error - (1.0 / 1.25 - 1.0)).abs() < 1e-3, "{wrong_run:?}");
    }

    #[test]
    fn grids_that_cannot_be_fitted_or_repeat_their_text_too_often_and_broken_off_ones_are_refused() {
        let ids = synthetic_ids(64, 40_000, 3);
        let refusal = |grid: Grid| {
            let going = &mut || ControlFlow::Break(());
            grid.measure(&ids, &mut |_| (), going).unwrap_err().to_string()
        };
        assert!(refusal(Grid { sizes: vec![(1, 8)], ..grid() }).contains("1 sizes by 3 amounts"));
        assert!(refusal(Grid { tokens: vec![300, 8_192, 9_000], ..grid() }).contains("two steps of 256"));
        assert!(refusal(Grid { tokens: vec![2_048, 8_192, 900_000], ..grid() }).contains("four passes"));
        assert!(refusal(grid()).contains("step 1"));
    }
}
