//! What a model learns, and how: the `model` object.

use serde::{Deserialize, Serialize};

use crate::time::Horizon;

/// How a model learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Regularised logistic regression over the columns.
    Logistic,
    /// Gradient-boosted trees over the columns.
    Boosting,
    /// A cross network over the columns.
    Dcn,
    /// A GPT over the history.
    GptClassifier,
    /// A frozen GPT's vector of the history beside the columns, for trees or a cross network.
    LateFusion,
    /// A GPT over the history and a cross network over the columns, trained together.
    JointFusion,
}

impl ModelKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Logistic, Self::Boosting, Self::Dcn, Self::GptClassifier, Self::LateFusion, Self::JointFusion];

    /// Whether it reads histories, so that its dataset must have them.
    pub fn reads_histories(self) -> bool {
        matches!(self, Self::GptClassifier | Self::LateFusion | Self::JointFusion)
    }
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Logistic => "logistic",
            Self::Boosting => "boosting",
            Self::Dcn => "dcn",
            Self::GptClassifier => "gpt-classifier",
            Self::LateFusion => "late-fusion",
            Self::JointFusion => "joint-fusion",
        })
    }
}

/// How much a row counts in training, by its outcome. What a model then says is corrected for it: weights steer what it
/// attends to, not how likely it calls things.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "class_weights must be \"balanced\" or two numbers, such as [1.0, 3.0]")]
pub enum ClassWeights {
    /// Of rows whose outcome did not come true, and of those whose did.
    Given([f64; 2]),
    /// A rule.
    Rule(WeightRule),
}

/// A rule that gives weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightRule {
    /// Both outcomes count as much in sum: n / (2·n_class).
    Balanced,
}

impl ClassWeights {
    /// The weights of rows without and with the outcome, of so many of each.
    pub fn of(self, counts: [usize; 2]) -> [f64; 2] {
        match self {
            Self::Given(weights) => weights,
            Self::Rule(WeightRule::Balanced) => {
                let all = (counts[0] + counts[1]) as f64;
                counts.map(|count| all / (2.0 * count.max(1) as f64))
            }
        }
    }

    fn misfits(self) -> Option<String> {
        let Self::Given(weights) = self else { return None };
        let fits = |weight: &f64| weight.is_finite() && *weight > 0.0;
        (!weights.iter().all(fits)).then(|| format!("`class_weights` is {weights:?}; both must be above 0"))
    }
}

/// Which calibrator is tried on the validation window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibratorKind {
    /// None.
    Identity,
    /// One factor on the log-odds.
    #[default]
    Temperature,
    /// A factor and an offset on the log-odds.
    Platt,
    /// A monotone step function.
    Isotonic,
    /// Three parameters on the two log-probabilities.
    Beta,
}

/// A model to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// The registered model that its versions belong to.
    pub registered_model: String,
    /// How it learns.
    pub kind: ModelKind,
    /// What it learns from.
    pub dataset: String,
    /// Settings of the kind.
    #[serde(default)]
    pub recipe: serde_json::Map<String, serde_json::Value>,
    /// Which calibrator is tried; it serves only if a still later window says that it helps.
    #[serde(default)]
    pub calibrator: CalibratorKind,
    /// How much a row counts in training, by its outcome; all the same if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// At most this many training rows, sampled by seed.
    pub max_train_rows: Option<usize>,
    /// When retrained: the validation and test windows before now, in place of the dataset's fixed split.
    pub rolling: Option<Rolling>,
    /// The seed of everything random.
    #[serde(default)]
    pub seed: u64,
}

impl Model {
    /// What is wrong with it by itself.
    pub(crate) fn misfits(&self) -> Vec<String> {
        let rows = self.max_train_rows.filter(|rows| *rows == 0);
        let rows = rows.map(|_| "`max_train_rows` is 0; nothing can be learned from nothing".to_owned());
        self.class_weights.and_then(ClassWeights::misfits).into_iter().chain(rows).collect()
    }
}

/// Windows counted back from now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rolling {
    /// The validation window, just before the test.
    pub validation: Horizon,
    /// The test window, up to now.
    pub test: Horizon,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_weights_give_both_outcomes_the_same_sum() {
        let weights: ClassWeights = serde_json::from_str("\"balanced\"").unwrap();
        assert_eq!(weights.of([90, 10]), [100.0 / 180.0, 5.0]);
        assert_eq!(serde_json::from_str::<ClassWeights>("[1, 3]").unwrap().of([90, 10]), [1.0, 3.0]);
        let refusal = serde_json::from_str::<ClassWeights>("\"even\"").unwrap_err().to_string();
        assert!(refusal.contains("class_weights must be \"balanced\" or two numbers"), "{refusal}");
    }

    #[test]
    fn kinds_are_written_as_they_are_shown() {
        for kind in ModelKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
    }
}
