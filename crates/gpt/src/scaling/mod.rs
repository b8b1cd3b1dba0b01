//! How loss falls with size and data on one's own tokens: a grid of small runs, a law fitted to them, and how well
//! the law of the smaller runs foretells the largest ones.
//!
//! Belongs here: the grid, its runs and their law. Not here: keeping runs, drawing them, reading text (`foretime scaling`).

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
    /// What all runs share.
    pub recipe: Recipe,
    /// (layers, width) of each size.
    pub sizes: Vec<(usize, usize)>,
    /// Tokens that a run trains on.
    pub tokens: Vec<usize>,
    /// Runs of most operations that the tested law does not see.
    pub held_out: usize,
}

/// What all runs of a grid share.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe {
    /// The parts and the context of all models; their width, heads and layers are those of the cell.
    pub model: GptConfig,
    /// Sequences a step.
    pub batch: usize,
    /// The highest learning rate of a model of width 64; wider ones take it times 64 / width.
    pub learning_rate: f64,
    /// Decides weights and the order of sequences.
    pub seed: u64,
    /// The numbers that matrix products multiply.
    pub precision: Precision,
}

/// One run of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Blocks.
    pub layers: usize,
    /// Numbers per token.
    pub width: usize,
    /// Tokens that it trains on: what was asked for, in whole steps.
    pub tokens: usize,
}

/// A text's ids in sequences of the context; the last tenth is only for the losses.
#[derive(Debug)]
pub struct Corpus {
    train: Vec<Vec<u32>>,
    validation: Vec<Vec<u32>>,
}

/// What a run was foretold.
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
    /// The runs, as they were given.
    pub runs: Vec<Point>,
    /// The law of all runs.
    pub law: Law,
    /// The law of all runs but the largest.
    pub tested: Law,
    /// What it says of the largest runs, the one of most operations first.
    pub held_out: Vec<Foretold>,
}

/// Numbers of a head, if the width can be cut so.
const HEAD: usize = 32;

impl Recipe {
    /// The model of a size.
    fn config(&self, layers: usize, width: usize) -> GptConfig {
        let heads = if width.is_multiple_of(HEAD) { width / HEAD } else { 1 };
        GptConfig { layers, width, heads, key_value_heads: None, ..self.model.clone() }
    }

    /// Tokens of a step.
    fn step(&self) -> usize {
        self.batch * self.model.context
    }

    /// Makes one run; `going` is asked at each step whether to go on. What it shows is its loss on the validation sequences at
    /// the end of its schedule.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it was broken off, and as [`Pretraining::run`].
    pub fn run(
        &self,
        cell: Cell,
        corpus: &Corpus,
        device: &Device,
        going: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Point, Error> {
        let config = self.config(cell.layers, cell.width);
        let parameters = config.parameters() as f64;
        let recipe = PretrainRecipe {
            seed: self.seed,
            batch: self.batch,
            epochs: 5.0,
            max_steps: Some(cell.tokens / self.step()),
            learning_rate: self.learning_rate * 64.0 / cell.width.max(64) as f64,
            precision: self.precision,
            ..PretrainRecipe::default()
        };
        let mut run = Pretraining::new(Gpt::new(config, self.seed, device)?, recipe)?;
        if !run.run(&corpus.train, None, &mut |_| going())? {
            return Err(Error::Stopped { step: run.step() });
        }
        Ok(Point { parameters, tokens: cell.tokens as f64, loss: run.mean_loss(&corpus.validation)? })
    }
}

impl Grid {
    /// The runs, in order of size, then of tokens.
    pub fn cells(&self) -> Vec<Cell> {
        let step = self.recipe.step();
        let of_size = |&(layers, width): &(usize, usize)| {
            self.tokens.iter().map(move |tokens| Cell { layers, width, tokens: tokens / step * step })
        };
        self.sizes.iter().flat_map(of_size).collect()
    }

    /// Cuts a text's ids for the grid's runs.
    ///
    /// # Errors
    /// [`Error::Recipe`] for a grid that cannot be fitted or more tokens than four passes over the text, [`Error::Token`] for
    /// an id beyond the vocabulary.
    pub fn corpus(&self, ids: &[u32]) -> Result<Corpus, Error> {
        let Recipe { model, .. } = &self.recipe;
        self.check()?;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= model.vocabulary) {
            return Err(Error::Token { id, vocabulary: model.vocabulary });
        }
        let mut train: Vec<Vec<u32>> = ids.chunks_exact(model.context).map(<[u32]>::to_vec).collect();
        let validation = train.split_off(train.len() - train.len().div_ceil(10));
        let (most, there) = (self.tokens.iter().max().copied().unwrap_or(0), train.len() * model.context);
        if most > 4 * there {
            return refuse(format!(
                "{most} tokens are more than four passes over the {there} there are: past that, repetition shows"
            ));
        }
        Ok(Corpus { train, validation })
    }

    /// Refuses what cannot be run or fitted.
    fn check(&self) -> Result<(), Error> {
        let (sizes, budgets, step) = (self.sizes.len(), self.tokens.len(), self.recipe.step());
        if step == 0 || self.recipe.learning_rate.is_nan() || self.recipe.learning_rate <= 0.0 {
            return refuse("the batch, the context and the learning rate are more than 0".to_owned());
        }
        let runs = sizes * budgets;
        if self.held_out == 0 || runs < 6 + self.held_out || sizes < 2 || budgets < 2 {
            return refuse(format!(
                "{sizes} sizes by {budgets} amounts of tokens, {} held out: a law needs at least 2 of each and 6 runs, and its \
                 test at least one more",
                self.held_out
            ));
        }
        let cells = self.cells();
        if let Some(twice) = (1..cells.len()).find(|&at| cells[..at].contains(&cells[at])) {
            let Cell { layers, width, tokens } = cells[twice];
            return refuse(format!("{layers} layers of {width} on {tokens} tokens is in the grid twice"));
        }
        if self.tokens.iter().any(|&tokens| tokens < 2 * step) {
            return refuse(format!("a run takes at least two steps of {step} tokens"));
        }
        self.sizes.iter().try_for_each(|&(layers, width)| self.recipe.config(layers, width).check())
    }
}

fn refuse<T>(reason: String) -> Result<T, Error> {
    Err(Error::Recipe { reason })
}

impl Scaling {
    /// The law of runs, and the test of the others' law on the `held_out` ones of most operations.
    ///
    /// # Errors
    /// As [`Law::fit`].
    pub fn of(runs: Vec<Point>, held_out: usize) -> Result<Self, Error> {
        let mut largest = runs.clone();
        largest.sort_by(|x, y| (y.parameters * y.tokens).total_cmp(&(x.parameters * x.tokens)));
        let others = largest.split_off(held_out.min(largest.len()));
        let tested = Law::fit(&others)?;
        let foretell = |run: Point| {
            let predicted = tested.loss(run.parameters, run.tokens);
            Foretold { run, predicted, error: predicted / run.loss - 1.0 }
        };
        Ok(Self {
            law: Law::fit(&runs)?,
            tested,
            held_out: largest.into_iter().map(foretell).collect(),
            runs,
        })
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
            recipe: Recipe {
                model: GptConfig { vocabulary: 64, context: 32, ..GptConfig::default() },
                batch: 8,
                learning_rate: 5e-3,
                seed: 1,
                precision: Precision::F32,
            },
            sizes: vec![(1, 8), (1, 16), (2, 32)],
            tokens: vec![2_048, 8_192, 32_768],
            held_out: 1,
        }
    }

    fn on() -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn a_grid_of_real_runs_gives_a_law_under_which_size_and_data_help_and_foretells_its_largest_run() {
        let (grid, ids) = (grid(), synthetic_ids(64, 40_000, 3));
        let corpus = grid.corpus(&ids).unwrap();
        let run = |cell: Cell| grid.recipe.run(cell, &corpus, &Device::Cpu, &mut on).unwrap();
        let runs: Vec<Point> = grid.cells().into_iter().map(run).collect();
        let scaling = Scaling::of(runs, 1).unwrap();
        assert_eq!(scaling.runs.len(), 9);
        let Law { alpha, beta, floor, .. } = scaling.law;
        assert!(beta > 0.0 && alpha > -0.5 && floor > 0.0, "{scaling:?}");
        let held_out = scaling.held_out[0];
        assert_eq!(held_out.run, scaling.runs[8], "the largest run is left out");
        assert!(held_out.error.abs() < 0.15, "{held_out:?}");
        assert_eq!(run(grid.cells()[2]), scaling.runs[2], "a run repeats itself");
    }

    #[test]
    fn the_test_of_a_law_does_not_see_the_runs_it_is_tested_on() {
        let law = Law { floor: 1.0, a: 20.0, alpha: 0.3, b: 50.0, beta: 0.4 };
        let sizes = [1e3, 1e4, 1e5];
        let runs = |last: f64| -> Vec<Point> {
            let all = sizes.into_iter().flat_map(|n| [1e4, 1e5, 1e6].into_iter().map(move |d| (n, d)));
            all.map(|(n, d)| {
                let factor = if n * d >= 1e10 { last } else { 1.0 };
                Point { parameters: n, tokens: d, loss: law.loss(n, d) * factor }
            })
            .collect()
        };
        let [true_runs, wrong_runs] = [1.0, 1.25].map(|last| Scaling::of(runs(last), 3).unwrap());
        assert_eq!(true_runs.held_out.len(), 3);
        assert_eq!(true_runs.held_out[0].run, true_runs.runs[8], "most operations first");
        assert_eq!(true_runs.tested, wrong_runs.tested);
        for (told, wrong) in true_runs.held_out.iter().zip(&wrong_runs.held_out) {
            assert!(told.error.abs() < 1e-3, "{told:?}");
            assert_eq!(told.predicted, wrong.predicted);
            assert!((wrong.error - (1.0 / 1.25 - 1.0)).abs() < 1e-3, "{wrong:?}");
        }
    }

    #[test]
    fn grids_that_cannot_be_fitted_or_repeat_their_text_too_often_and_broken_off_runs_are_refused() {
        let ids = synthetic_ids(64, 40_000, 3);
        let refusal = |grid: Grid| grid.corpus(&ids).unwrap_err().to_string();
        assert!(refusal(Grid { sizes: vec![(1, 8)], ..grid() }).contains("1 sizes by 3 amounts"));
        assert!(refusal(Grid { held_out: 4, ..grid() }).contains("4 held out"));
        assert!(refusal(Grid { held_out: 0, ..grid() }).contains("0 held out"));
        assert!(refusal(Grid { sizes: vec![(1, 8), (1, 8), (2, 32)], ..grid() }).contains("twice"));
        assert!(refusal(Grid { sizes: vec![(1, 8), (0, 16), (2, 32)], ..grid() }).contains("at least 1"));
        assert!(refusal(Grid { tokens: vec![300, 8_192, 9_000], ..grid() }).contains("two steps of 256"));
        assert!(refusal(Grid { tokens: vec![2_048, 8_192, 900_000], ..grid() }).contains("four passes"));
        assert!(grid().corpus(&[64]).unwrap_err().to_string().contains("token 64"));
        let (corpus, cell) = (grid().corpus(&ids).unwrap(), grid().cells()[0]);
        let stop = &mut || ControlFlow::Break(());
        let stopped = grid().recipe.run(cell, &corpus, &Device::Cpu, stop).unwrap_err();
        assert!(stopped.to_string().contains("step 1"), "{stopped}");
    }
}
