//! One face for both libraries: trains by the one that a recipe names, and reads what either wrote.

use domain::tabular::Table;
use serde::Deserialize;

#[cfg(feature = "lightgbm")]
use crate::lightgbm::LightGbm;
use crate::{Boosting, Error, Judging, Library, Recipe};

/// Trained trees of the library that their recipe names.
#[derive(Debug)]
pub enum Trees {
    /// Those of forust-ml.
    Forust(Box<Boosting>),
    /// Those of LightGBM.
    #[cfg(feature = "lightgbm")]
    LightGbm(Box<LightGbm>),
}

/// What every model file says of its library.
#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    recipe: Written,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    library: Library,
}

#[cfg(not(feature = "lightgbm"))]
fn without<T>() -> Result<T, Error> {
    Err(Error::NoLightGbm(
        "this program was built without it; build it with the Cargo feature `lightgbm`, or say `library = \"forust\"`"
            .to_owned(),
    ))
}

impl Trees {
    /// As [`Boosting::train`], by the recipe's library.
    ///
    /// # Errors
    /// As there, and [`Error::NoLightGbm`] if LightGBM is asked for and not there.
    pub fn train(
        train: &Table,
        labels: &[f64],
        weights: Option<&[f64]>,
        validation: Option<Judging<'_>>,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        match recipe.library {
            Library::Forust => {
                let trees = Boosting::train(train, labels, weights, validation, recipe)?;
                Ok(Self::Forust(Box::new(trees)))
            }
            #[cfg(feature = "lightgbm")]
            Library::Lightgbm => {
                let trees = LightGbm::train(train, labels, weights, validation, recipe)?;
                Ok(Self::LightGbm(Box::new(trees)))
            }
            #[cfg(not(feature = "lightgbm"))]
            Library::Lightgbm => without(),
        }
    }

    /// As [`Boosting::predict`].
    ///
    /// # Errors
    /// As there.
    pub fn predict(&self, table: &Table) -> Result<Vec<f64>, Error> {
        match self {
            Self::Forust(trees) => trees.predict(table),
            #[cfg(feature = "lightgbm")]
            Self::LightGbm(trees) => trees.predict(table),
        }
    }

    /// As [`Boosting::importance`].
    pub fn importance(&self) -> Vec<(String, f64)> {
        match self {
            Self::Forust(trees) => trees.importance(),
            #[cfg(feature = "lightgbm")]
            Self::LightGbm(trees) => trees.importance(),
        }
    }

    /// As [`Boosting::to_json`].
    ///
    /// # Errors
    /// As there.
    pub fn to_json(&self) -> Result<String, Error> {
        match self {
            Self::Forust(trees) => trees.to_json(),
            #[cfg(feature = "lightgbm")]
            Self::LightGbm(trees) => trees.to_json(),
        }
    }

    /// Reads a model file of either library.
    ///
    /// # Errors
    /// As [`Boosting::from_json`], and [`Error::NoLightGbm`] for a model of LightGBM where that is not there.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let Header { recipe } = serde_json::from_str(json).map_err(Error::Unreadable)?;
        match recipe.library {
            Library::Forust => Ok(Self::Forust(Box::new(Boosting::from_json(json)?))),
            #[cfg(feature = "lightgbm")]
            Library::Lightgbm => Ok(Self::LightGbm(Box::new(LightGbm::from_json(json)?))),
            #[cfg(not(feature = "lightgbm"))]
            Library::Lightgbm => without(),
        }
    }
}
