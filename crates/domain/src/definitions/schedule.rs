//! Schedules: what starts by itself, when, and what happens if it could not or is still at work.

use serde::{Deserialize, Serialize};

use crate::Horizon;

/// What a schedule starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Build a training set and train this model on it; it serves if its gate lets it.
    Train(String),
    /// Run this monitor.
    Monitor(String),
    /// Bring what this view's parts hold into its online table.
    Materialize(String),
    /// Let go of what is past this view's retention.
    Retain(String),
    /// Write everything into a new folder.
    Backup(BackupTo),
    /// Remove what is finished and older than the settings keep, in all projects.
    Collect(Garbage),
}

impl Action {
    /// The kind of what is started, and its name.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Train(name) => ("train", name),
            Self::Monitor(name) => ("monitor", name),
            Self::Materialize(name) => ("materialize", name),
            Self::Retain(name) => ("retain", name),
            Self::Backup(_) => ("backup", "everything"),
            Self::Collect(_) => ("collect", "garbage"),
        }
    }
}

/// What is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// Finished jobs, old ticks and answers kept for repeated requests, each by its age in the settings.
    Garbage,
}

/// Where backups go, and how many are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupTo {
    /// A folder below the data directory's `backups`, in which each backup gets a folder of its own.
    #[serde(default = "daily")]
    pub folder: String,
    /// So many of the latest stay; older ones are removed once a newer one is whole.
    #[serde(default = "seven")]
    pub keep: u32,
}

impl BackupTo {
    pub(super) fn misfits(&self) -> Vec<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let mut wrong = Vec::new();
        if self.folder.is_empty() || !self.folder.chars().all(plain) {
            wrong.push(format!("`folder` is `{}`; name it with letters, digits, `-` and `_`", self.folder));
        }
        if self.keep == 0 {
            wrong.push("`keep` is 0, so that no backup would stay; keep at least 1".to_owned());
        }
        wrong
    }
}

/// What becomes of ticks that nobody looked after in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUp {
    /// They are let go.
    Skip,
    /// The latest is made up for.
    #[default]
    One,
    /// The latest `catch_up_limit` are made up for, oldest first.
    All,
}

/// What becomes of a tick while what an earlier one started is still at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// It is let go.
    Skip,
    /// It waits for the end of that; at most `catch_up_limit` wait.
    #[default]
    Queue,
    /// That is asked to end, and then it is its turn.
    CancelRunning,
}

/// When something happens by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// Six fields: second minute hour day-of-month month day-of-week.
    pub cron: String,
    /// The zone that the fields are read in, such as `America/New_York`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// What becomes of missed ticks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub catch_up: CatchUp,
    /// How many ticks are made up for, and how many may wait, at most.
    #[serde(default = "ten", skip_serializing_if = "is_ten")]
    pub catch_up_limit: u32,
    /// What becomes of a tick while the last one's work goes on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// Each tick happens up to this much later, always the same for the same tick: so that not everything starts at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Horizon>,
    /// What it starts.
    pub action: Action,
}

impl Schedule {
    pub(super) fn misfits(&self) -> Vec<String> {
        match self.catch_up_limit {
            1..=1_000 => vec![],
            other => vec![format!("`catch_up_limit` is {other}, it must lie between 1 and 1000")],
        }
    }
}

fn utc() -> String {
    "UTC".to_owned()
}
fn daily() -> String {
    "scheduled".to_owned()
}
fn seven() -> u32 {
    7
}
fn ten() -> u32 {
    10
}
fn is_ten(limit: &u32) -> bool {
    *limit == ten()
}
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
