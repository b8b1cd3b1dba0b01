//! Gates: which evidence a model version must show before a protected alias may point at it.

use serde::{Deserialize, Serialize};

use crate::evaluation::{Evaluation, Interval};
use crate::{Fault, Remedy};

/// What a version must show before `alias` of `model` may point at it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Its name.
    pub name: String,
    /// The registered model whose alias it guards.
    pub model: String,
    /// The alias it guards.
    #[serde(default = "champion")]
    pub alias: String,
    /// The lower end of the candidate's AUC minus the champion's (paired block bootstrap) must be at least minus this.
    #[serde(default)]
    pub champion_margin: f64,
    /// The AUC must be at least this.
    pub min_auc: Option<f64>,
    /// The expected calibration error must be at most this.
    pub max_ece: Option<f64>,
    /// No feature may surely have drifted by more than this since the training: the lower end of its effect
    /// (Kolmogorov–Smirnov distance of numbers, total variation of categories), training rows against rows served later.
    pub max_drift: Option<f64>,
    /// The version must read the features as its dataset defines them now.
    #[serde(default = "yes")]
    pub same_schema: bool,
    /// The model is trained elsewhere, with files registered by an MLflow client: no model of the definitions registers there.
    #[serde(default)]
    pub elsewhere: bool,
    /// Somebody else than the version's author must have approved it.
    #[serde(default)]
    pub approval: bool,
}

fn yes() -> bool {
    true
}

fn champion() -> String {
    "champion".to_owned()
}

/// The candidate against the reigning champion on the same rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    /// The champion's version.
    pub champion_version: i32,
    /// Rows that both were judged on.
    pub rows: u64,
    /// Candidate's AUC minus champion's; the interval is a paired bootstrap over days.
    pub auc_difference: Interval,
}

/// What is known about the champion that a candidate must beat.
#[derive(Clone, Debug, PartialEq)]
pub enum Reigning {
    /// The alias points nowhere yet.
    Nobody,
    /// Both were judged on the same rows.
    Compared(Challenge),
    /// There is a champion, but the two share no judged rows.
    Incomparable {
        /// The champion's version.
        champion_version: i32,
        /// Why not.
        why: String,
    },
}

/// How far the features have moved between a version's training and now.
#[derive(Clone, Debug, PartialEq)]
pub enum Drift {
    /// Nobody asked.
    Unasked,
    /// Too little was served since the training to tell.
    Unknown {
        /// Rows that were served since.
        rows: u64,
        /// Rows that are needed.
        needed: u64,
    },
    /// The feature that moved most surely.
    Worst {
        /// Its name.
        column: String,
        /// How far it moved.
        effect: Interval,
        /// Rows that were served since.
        rows: u64,
    },
}

/// Everything that a gate looks at.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// What its run found about the candidate.
    pub evaluation: Option<&'a Evaluation>,
    /// The champion it must beat.
    pub reigning: Reigning,
    /// What became of the features since the training.
    pub drift: Drift,
    /// The fingerprint of the features as the dataset defines them now; or why there is none.
    pub schema: Result<String, String>,
    /// Who made the version.
    pub author: Option<&'a str>,
    /// Who approved it.
    pub approved_by: &'a [String],
}

/// One question of a gate and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Stable, kebab-case: `evaluated`, `temporal-order`, `champion`, `auc`, `calibration`, `drift`, `schema` or `approval`.
    pub check: String,
    /// Whether the evidence suffices.
    pub passed: bool,
    /// The numbers, for people.
    pub evidence: String,
}

/// All answers of a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The gate that was asked.
    pub gate: String,
    /// Whether every check passed.
    pub passed: bool,
    /// The checks, in order.
    pub checks: Vec<Check>,
}

/// A gate refused a version.
#[derive(Clone, Debug, thiserror::Error)]
#[error("gate `{}` refuses version {version} of `{model}`: {}", verdict.gate, verdict.reasons())]
pub struct Refused {
    /// The registered model.
    pub model: String,
    /// The version that asked.
    pub version: i32,
    /// Why.
    pub verdict: Verdict,
}

impl Fault for Refused {
    fn remedy(&self) -> Remedy {
        Remedy::ResolveConflict
    }
    fn code(&self) -> &'static str {
        "gate-refused"
    }
    fn details(&self) -> Option<serde_json::Value> {
        Some(serde_json::json!({ "verdict": self.verdict }))
    }
}

impl Verdict {
    /// The failed checks' evidence, joined by `; `.
    pub fn reasons(&self) -> String {
        let failed: Vec<&str> =
            self.checks.iter().filter(|check| !check.passed).map(|check| check.evidence.as_str()).collect();
        failed.join("; ")
    }
}

impl Gate {
    /// Judges a candidate. Without an evaluation nothing is known, and nothing passes.
    pub fn judge(&self, case: &Case<'_>) -> Verdict {
        let Some(evaluation) = case.evaluation else {
            let check = check("evaluated", false, "the version was never evaluated on later data".to_owned());
            return Verdict { gate: self.name.clone(), passed: false, checks: vec![check] };
        };
        let mut checks = vec![temporal_order(evaluation), self.against_champion(&case.reigning)];
        checks.extend(self.min_auc.map(|least| auc_at_least(evaluation, least)));
        checks.extend(self.max_ece.map(|most| ece_at_most(evaluation, most)));
        checks.extend(self.max_drift.map(|most| drift_at_most(&case.drift, most)));
        checks.extend(self.same_schema.then(|| same_schema(evaluation, &case.schema)));
        checks.extend(self.approval.then(|| approved(case.author, case.approved_by)));
        let passed = checks.iter().all(|check| check.passed);
        Verdict { gate: self.name.clone(), passed, checks }
    }

    fn against_champion(&self, reigning: &Reigning) -> Check {
        match reigning {
            Reigning::Nobody => check("champion", true, "no champion reigns".to_owned()),
            Reigning::Incomparable { champion_version, why } => check(
                "champion",
                false,
                format!("cannot be compared with champion version {champion_version}: {why}"),
            ),
            Reigning::Compared(challenge) => {
                let Interval { value, low, high } = challenge.auc_difference;
                let evidence = format!(
                    "AUC differs from champion version {} by {value:+.4} [{low:+.4}, {high:+.4}] over {} shared rows; \
                     the lower end must be at least {:+.4}",
                    challenge.champion_version, challenge.rows, -self.champion_margin
                );
                check("champion", low >= -self.champion_margin, evidence)
            }
        }
    }
}

fn check(name: &str, passed: bool, evidence: String) -> Check {
    Check { check: name.to_owned(), passed, evidence }
}

fn temporal_order(evaluation: &Evaluation) -> Check {
    let evidence = format!(
        "learned from outcomes through {}, judged on cutoffs from {}",
        evaluation.trained_through, evaluation.evaluated_from
    );
    // An outcome that became known at the very moment of a question was known to whoever asked: equality is in order.
    check("temporal-order", evaluation.trained_through.0 <= evaluation.evaluated_from.0, evidence)
}

fn auc_at_least(evaluation: &Evaluation, least: f64) -> Check {
    let auc = evaluation.overall.auc;
    let evidence = match auc {
        Some(auc) => format!("AUC is {:.4}, must be at least {least}", auc.value),
        None => "AUC is undefined: only one outcome occurred".to_owned(),
    };
    check("auc", auc.is_some_and(|auc| auc.value >= least), evidence)
}

fn ece_at_most(evaluation: &Evaluation, most: f64) -> Check {
    let ece = evaluation.overall.ece;
    check("calibration", ece <= most, format!("ECE is {ece:.4}, must be at most {most}"))
}

/// Drift that nobody can see yet refuses nothing: a model trained on the newest rows has served none.
fn drift_at_most(drift: &Drift, most: f64) -> Check {
    let (passed, evidence) = match drift {
        Drift::Unasked => (true, "no feature was compared".to_owned()),
        Drift::Unknown { rows, needed } => {
            (true, format!("{rows} rows were served since the training, {needed} are needed to tell"))
        }
        Drift::Worst { column, effect: Interval { value, low, high }, rows } => (
            *low <= most,
            format!(
                "`{column}` moved most: by {value:.3} [{low:.3}, {high:.3}] between the training and {rows} rows served \
                 since; the lower end must be at most {most}"
            ),
        ),
    };
    check("drift", passed, evidence)
}

fn same_schema(evaluation: &Evaluation, schema: &Result<String, String>) -> Check {
    let dataset = &evaluation.dataset;
    match schema {
        Ok(now) if *now == evaluation.schema_fingerprint => {
            check("schema", true, format!("it reads the features as dataset `{dataset}` defines them"))
        }
        Ok(now) => check(
            "schema",
            false,
            format!(
                "it was trained on features {:.12}, dataset `{dataset}` now defines {now:.12}: train it anew",
                evaluation.schema_fingerprint
            ),
        ),
        Err(why) => check("schema", false, format!("the features of dataset `{dataset}` are unknown: {why}")),
    }
}

fn approved(author: Option<&str>, approved_by: &[String]) -> Check {
    let other = approved_by.iter().find(|name| Some(name.as_str()) != author);
    let evidence = match (other, author) {
        (Some(other), _) => format!("approved by {other}"),
        (None, Some(author)) => format!("nobody but its author ({author}) approved it"),
        (None, None) => "nobody approved it".to_owned(),
    };
    check("approval", other.is_some(), evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{CalibratorChoice, Scores};
    use crate::ids::TrainingSetId;
    use crate::time::{Cutoff, LabelTime};

    fn gate() -> Gate {
        Gate {
            name: "late".into(),
            model: "late-arrival".into(),
            alias: champion(),
            champion_margin: 0.002,
            min_auc: Some(0.7),
            max_ece: Some(0.03),
            max_drift: None,
            same_schema: true,
            elsewhere: false,
            approval: false,
        }
    }

    fn case(evaluation: Option<&Evaluation>, reigning: Reigning) -> Case<'_> {
        Case {
            evaluation,
            reigning,
            drift: Drift::Unasked,
            schema: Ok(String::new()),
            author: Some("ana"),
            approved_by: &[],
        }
    }

    fn judge(gate: &Gate, evaluation: Option<&Evaluation>, reigning: Reigning) -> Verdict {
        gate.judge(&case(evaluation, reigning))
    }

    fn evaluation(trained_through: &str, evaluated_from: &str) -> Evaluation {
        let at = |text: &str| format!("{text}T00:00:00Z").parse().unwrap();
        let overall = Scores {
            rows: 1_000,
            base_rate: 0.25,
            auc: Some(Interval { value: 0.75, low: 0.74, high: 0.76 }),
            average_precision: Some(0.5),
            log_loss: 0.47,
            brier: 0.15,
            ece: 0.02,
            ece_null_high: 0.01,
            slope: None,
            intercept: None,
        };
        Evaluation {
            training_set: TrainingSetId::new(),
            dataset: "late".into(),
            schema_fingerprint: String::new(),
            trained_through: LabelTime(at(trained_through)),
            evaluated_from: Cutoff(at(evaluated_from)),
            evaluated_through: Cutoff(at("2013-12-31")),
            overall,
            by_month: Default::default(),
            reliability: vec![],
            calibrator: CalibratorChoice {
                kind: "identity".into(),
                kept: true,
                log_loss_without: 0.5,
                log_loss_with: 0.5,
            },
            predictions_path: String::new(),
            predictions_sha256: String::new(),
            reference_path: String::new(),
            reference_rate: 0.25,
        }
    }

    fn challenge(low: f64) -> Reigning {
        let auc_difference = Interval { value: low + 0.003, low, high: low + 0.006 };
        Reigning::Compared(Challenge { champion_version: 1, rows: 500, auc_difference })
    }

    #[test]
    fn a_version_that_was_never_evaluated_does_not_pass() {
        assert!(!judge(&gate(), None, Reigning::Nobody).passed);
    }

    #[test]
    fn a_version_judged_on_what_it_learned_from_does_not_pass() {
        let verdict = judge(&gate(), Some(&evaluation("2013-11-05", "2013-11-01")), Reigning::Nobody);
        assert!(!verdict.passed && verdict.reasons().contains("2013-11-05"), "{verdict:?}");
    }

    #[test]
    fn an_outcome_known_at_the_moment_of_the_first_question_is_in_order() {
        assert!(judge(&gate(), Some(&evaluation("2013-11-01", "2013-11-01")), Reigning::Nobody).passed);
    }

    #[test]
    fn a_version_clearly_below_the_champion_does_not_pass_and_the_reason_has_the_interval() {
        let verdict = judge(&gate(), Some(&evaluation("2013-10-31", "2013-11-01")), challenge(-0.02));
        assert!(!verdict.passed && verdict.reasons().contains("[-0.0200, -0.0140]"), "{verdict:?}");
    }

    #[test]
    fn a_version_within_the_margin_of_the_champion_passes() {
        assert!(judge(&gate(), Some(&evaluation("2013-10-31", "2013-11-01")), challenge(-0.001)).passed);
    }

    #[test]
    fn a_champion_that_cannot_be_compared_stands() {
        let reigning = Reigning::Incomparable { champion_version: 3, why: "no shared rows".into() };
        assert!(!judge(&gate(), Some(&evaluation("2013-10-31", "2013-11-01")), reigning).passed);
    }

    #[test]
    fn features_that_changed_since_the_training_do_not_pass() {
        let evaluation = evaluation("2013-10-31", "2013-11-01");
        let mut case = case(Some(&evaluation), Reigning::Nobody);
        case.schema = Ok("other".into());
        assert!(gate().judge(&case).reasons().contains("train it anew"));
        case.schema = Err("it is no longer defined".into());
        assert!(!gate().judge(&case).passed);
        assert!(Gate { same_schema: false, ..gate() }.judge(&case).passed);
    }

    #[test]
    fn only_drift_that_is_sure_refuses() {
        let evaluation = evaluation("2013-10-31", "2013-11-01");
        let gate = Gate { max_drift: Some(0.1), ..gate() };
        let judged = |low: f64| {
            let effect = Interval { value: 0.2, low, high: 0.3 };
            let drift = Drift::Worst { column: "fare".into(), effect, rows: 900 };
            gate.judge(&Case { drift, ..case(Some(&evaluation), Reigning::Nobody) })
        };
        assert!(judged(0.09).passed);
        assert!(judged(0.11).reasons().contains("`fare` moved most"));
        let drift = Drift::Unknown { rows: 3, needed: 500 };
        assert!(gate.judge(&Case { drift, ..case(Some(&evaluation), Reigning::Nobody) }).passed);
    }

    #[test]
    fn an_author_cannot_approve_alone() {
        let evaluation = evaluation("2013-10-31", "2013-11-01");
        let gate = Gate { approval: true, ..gate() };
        let judged = |approved_by: &[String]| {
            gate.judge(&Case { approved_by, ..case(Some(&evaluation), Reigning::Nobody) }).passed
        };
        assert!(!judged(&[]) && !judged(&["ana".into()]) && judged(&["ana".into(), "ben".into()]));
    }
}
