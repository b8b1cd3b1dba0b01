//! What the demo shows while it runs: a bar on a terminal, plain lines otherwise; and the record of its steps.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::report::Step;

/// The steps so far, and the bar of the one in hand.
pub(super) struct Steps {
    pub(super) done: Vec<Step>,
    bar: ProgressBar,
    fancy: bool,
}

impl Steps {
    pub(super) fn start() -> Self {
        let fancy = std::io::stderr().is_terminal();
        let bar = if fancy { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if fancy {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {pos}/{len}") {
            bar.set_style(style);
        }
        Self { done: vec![], bar, fancy }
    }

    /// Says what is being done now, out of `length`.
    pub(super) fn doing(&self, what: &str, length: u64) {
        self.bar.set_length(length);
        self.bar.set_position(0);
        self.bar.set_message(what.to_owned());
    }

    /// Says how far it is.
    pub(super) fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Shows what a training job reports.
    pub(super) fn training(&self, reported: &Value) {
        if let (Some(stage), Some(step), Some(steps)) =
            (reported["stage"].as_str(), reported["step"].as_u64(), reported["steps"].as_u64())
        {
            self.bar.set_message(stage.to_owned());
            self.bar.set_length(steps);
            self.bar.set_position(step);
        }
    }

    /// Records a step that ended.
    pub(super) fn done(&mut self, name: &str, measured: &str, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        let line = format!("{:>3}. {name} ({seconds:.1} s): {measured}", self.done.len() + 1);
        if self.fancy {
            self.bar.println(line);
        } else {
            println!("{line}");
        }
        self.done.push(Step { name: name.to_owned(), measured: measured.to_owned(), seconds });
    }
}
