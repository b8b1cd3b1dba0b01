//! Kind `boosting`: gradient-boosted trees over the columns.

use std::path::Path;

use boosting::{Recipe, Trees as Boosted};

use super::{Asked, Learned, Lesson, read_text};
use crate::Error;
use crate::training_data::Rows;

const FILE: &str = "boosting.json";

/// Trees, of the library that the recipe names.
#[derive(Debug)]
pub(super) struct Trees(Boosted);

impl Trees {
    pub(super) fn learn(lesson: &Lesson<'_>) -> Result<Self, Error> {
        Self::on(lesson, &lesson.settings()?, lesson.train, lesson.validation)
    }

    /// Learns under a recipe, from rows that may have more columns than the lesson's.
    pub(super) fn on(
        lesson: &Lesson<'_>,
        recipe: &Recipe,
        train: &Rows,
        validation: &Rows,
    ) -> Result<Self, Error> {
        let recipe = Recipe { seed: lesson.model.seed, ..recipe.clone() };
        let (weights, judging) = (lesson.row_weights(train), lesson.row_weights(validation));
        let trees = Boosted::train(
            &train.table,
            &train.targets(),
            weights.as_deref(),
            Some((&validation.table, &validation.targets(), judging.as_deref())),
            &recipe,
        )?;
        Ok(Self(trees))
    }

    pub(super) fn load(folder: &Path) -> Result<Self, Error> {
        Ok(Self(Boosted::from_json(&read_text(&folder.join(FILE))?)?))
    }
}

impl Learned for Trees {
    fn log_odds(&self, asked: Asked<'_>) -> Result<Vec<f64>, Error> {
        Ok(self.0.predict(asked.table)?)
    }

    fn importance(&self) -> Vec<(String, f64)> {
        self.0.importance()
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        frames::files::write_bytes(&folder.join(FILE), self.0.to_json()?.as_bytes())?;
        Ok(())
    }
}
