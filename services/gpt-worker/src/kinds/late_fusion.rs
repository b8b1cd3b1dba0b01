//! Kind `late-fusion`: a GPT is pretrained and frozen; what it makes of the history stands beside the columns, for trees or a
//! cross network.
//!
//! The last token of a history says how long ago its latest event was. Pretraining never asks it what comes next, since nothing
//! does, and it knows the time in steps only. So the head is told the state before that token as well, and the time in full.

use std::path::Path;

use domain::definitions::ModelKind;
use domain::tabular::{Column, History, Table};
use gpt::{Backbone, Device, EventTokenizer, Gpt, PretrainRecipe, Reader};
use serde::{Deserialize, Serialize};

use super::dcn::{self, Dcn};
use super::history::{GptSettings, Reading};
use super::trees::Trees;
use super::{Asked, Learned, Lesson, OnStep, read_text};
use crate::Error;
use crate::training_data::Rows;

const GPT: &str = "frozen";
const TOKENIZER: &str = "events.json";
const HEAD: &str = "head.json";
/// Microseconds.
const MINUTE: f64 = 60e6;

/// What learns from columns and vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HeadKind {
    #[default]
    Boosting,
    Dcn,
}

/// What the head is told of a history, beside the table's columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    /// The vector of its last token, which is the one of `/v1/embeddings`: `history[0]`, `history[1]`, ….
    Vector,
    /// That, the state one token before: `before[0]`, `before[1]`, …, and the minutes since its latest event, missing without
    /// one: `history.age`.
    #[default]
    Ending,
}

/// What a model is beside its files, as it is kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Kept {
    head: HeadKind,
    told: Told,
}

impl Kept {
    fn from_json(text: &str) -> serde_json::Result<Self> {
        // files of before there was a choice hold the bare name of the head
        match serde_json::from_str(text) {
            Ok(head) => Ok(Self { head, told: Told::Vector }),
            Err(_) => serde_json::from_str(text),
        }
    }
}

/// The settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    head: HeadKind,
    history: Told,
    gpt: GptSettings,
    pretrain: PretrainRecipe,
    /// At most this many histories to pretrain on.
    pretrain_rows: Option<usize>,
    boosting: boosting::Recipe,
    dcn: dcn::Settings,
}

/// A frozen GPT and what learned from its vectors.
#[derive(Debug)]
pub(super) struct LateFusion {
    backbone: Backbone,
    kept: Kept,
    head: Box<dyn Learned>,
}

impl LateFusion {
    pub(super) fn learn(lesson: &Lesson<'_>, on_step: OnStep<'_>) -> Result<Self, Error> {
        let Settings { head, history: told, gpt, pretrain, pretrain_rows, boosting, dcn } =
            lesson.settings()?;
        let histories = lesson.histories()?;
        let mut backbone = Reading { gpt, pretrain, rows: pretrain_rows }.pretrained(lesson, on_step)?;
        backbone.gpt.freeze();
        backbone.gpt.settle()?;
        let seen = |rows: &Rows, history: &History| -> Result<Rows, Error> {
            let table = told.beside(&rows.table, backbone.reader(), history, &rows.cutoffs)?;
            Ok(Rows { table, ..rows.clone() })
        };
        let train = seen(lesson.train, histories.train)?;
        let validation = seen(lesson.validation, histories.validation)?;
        let kept = Kept { head, told };
        let head: Box<dyn Learned> = match head {
            HeadKind::Boosting => Box::new(Trees::on(lesson, &boosting, &train, &validation)?),
            HeadKind::Dcn => Box::new(Dcn::on(lesson, dcn, (&train, &validation), on_step)?),
        };
        Ok(Self { backbone, kept, head })
    }

    pub(super) fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        let path = folder.join(HEAD);
        let kept = Kept::from_json(&read_text(&path)?)
            .map_err(|error| Error::ModelFile { path: path.display().to_string(), why: error.to_string() })?;
        let mut gpt = Gpt::load(&folder.join(GPT), device)?;
        gpt.freeze();
        gpt.settle()?;
        let tokenizer = EventTokenizer::from_json(&read_text(&folder.join(TOKENIZER))?)?;
        let head: Box<dyn Learned> = match kept.head {
            HeadKind::Boosting => Box::new(Trees::load(folder)?),
            HeadKind::Dcn => Box::new(Dcn::load(folder, device)?),
        };
        Ok(Self { backbone: Backbone { gpt, tokenizer }, kept, head })
    }
}

impl Told {
    /// The table with what is told of the history.
    fn beside(
        self,
        table: &Table,
        reader: Reader<'_>,
        history: &History,
        cutoffs: &[i64],
    ) -> Result<Table, Error> {
        let numbered = |name, vectors: &[Vec<f32>]| numbered(name, reader.width(), vectors);
        let columns = match self {
            Self::Vector => numbered("history", &reader.vectors(history, cutoffs)?),
            Self::Ending => {
                let endings = reader.endings(history, cutoffs)?;
                let (before, vectors): (Vec<_>, Vec<_>) =
                    endings.into_iter().map(|ending| (ending.before, ending.vector)).unzip();
                let age = ("history.age".to_owned(), Column::Number(ages(history, cutoffs)));
                [numbered("history", &vectors), numbered("before", &before), vec![age]].concat()
            }
        };
        table.with(columns).map_err(|error| Error::BadRequest(error.to_string()))
    }
}

/// A column for each place of vectors, one vector a row: `name[0]`, `name[1]`, ….
fn numbered(name: &str, width: usize, vectors: &[Vec<f32>]) -> Vec<(String, Column)> {
    let column = |place: usize| {
        let values = vectors.iter().map(|vector| f64::from(vector[place])).collect();
        (format!("{name}[{place}]"), Column::Number(values))
    };
    (0..width).map(column).collect()
}

/// Minutes since each row's latest event; NaN without one.
fn ages(history: &History, cutoffs: &[i64]) -> Vec<f64> {
    let age = |(row, &cutoff)| history.age(row, cutoff).map_or(f64::NAN, |micros| micros as f64 / MINUTE);
    cutoffs.iter().enumerate().map(age).collect()
}

impl Learned for LateFusion {
    fn log_odds(&self, asked: Asked<'_>) -> Result<Vec<f64>, Error> {
        let history = asked.history(ModelKind::LateFusion)?;
        let table = self.kept.told.beside(asked.table, self.backbone.reader(), history, asked.cutoffs)?;
        self.head.log_odds(Asked { table: &table, ..asked })
    }

    fn importance(&self) -> Vec<(String, f64)> {
        self.head.importance()
    }

    fn reader(&self) -> Option<Reader<'_>> {
        Some(self.backbone.reader())
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        self.backbone.gpt.save(&folder.join(GPT))?;
        let tokenizer = self.backbone.tokenizer.to_json()?;
        frames::files::write_bytes(&folder.join(TOKENIZER), tokenizer.as_bytes())?;
        self.head.save(folder)?;
        let kept = serde_json::json!(self.kept).to_string();
        frames::files::write_bytes(&folder.join(HEAD), kept.as_bytes())?;
        Ok(())
    }
}
