//! Kind `late-fusion`: a GPT is pretrained and frozen; its vector of the history stands beside the columns, for trees or a
//! cross network.

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

/// What learns from columns and vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HeadKind {
    #[default]
    Boosting,
    Dcn,
}

/// The settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    head: HeadKind,
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
    kind: HeadKind,
    head: Box<dyn Learned>,
}

impl LateFusion {
    pub(super) fn learn(lesson: &Lesson<'_>, on_step: OnStep<'_>) -> Result<Self, Error> {
        let Settings { head: kind, gpt, pretrain, pretrain_rows, boosting, dcn } = lesson.settings()?;
        let histories = lesson.histories()?;
        let mut backbone = Reading { gpt, pretrain, rows: pretrain_rows }.pretrained(lesson, on_step)?;
        backbone.gpt.freeze();
        backbone.gpt.settle()?;
        let seen = |rows: &Rows, history: &History| -> Result<Rows, Error> {
            let table = beside(&rows.table, backbone.reader(), history, &rows.cutoffs)?;
            Ok(Rows { table, ..rows.clone() })
        };
        let train = seen(lesson.train, histories.train)?;
        let validation = seen(lesson.validation, histories.validation)?;
        let head: Box<dyn Learned> = match kind {
            HeadKind::Boosting => Box::new(Trees::on(lesson, &boosting, &train, &validation)?),
            HeadKind::Dcn => Box::new(Dcn::on(lesson, dcn, (&train, &validation), on_step)?),
        };
        Ok(Self { backbone, kind, head })
    }

    pub(super) fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        let path = folder.join(HEAD);
        let kind = serde_json::from_str(&read_text(&path)?)
            .map_err(|error| Error::ModelFile { path: path.display().to_string(), why: error.to_string() })?;
        let mut gpt = Gpt::load(&folder.join(GPT), device)?;
        gpt.freeze();
        gpt.settle()?;
        let tokenizer = EventTokenizer::from_json(&read_text(&folder.join(TOKENIZER))?)?;
        let head: Box<dyn Learned> = match kind {
            HeadKind::Boosting => Box::new(Trees::load(folder)?),
            HeadKind::Dcn => Box::new(Dcn::load(folder, device)?),
        };
        Ok(Self { backbone: Backbone { gpt, tokenizer }, kind, head })
    }
}

/// The table with the history's vector: `history[0]`, `history[1]`, ….
fn beside(table: &Table, reader: Reader<'_>, history: &History, cutoffs: &[i64]) -> Result<Table, Error> {
    let vectors = reader.vectors(history, cutoffs)?;
    let column = |place: usize| {
        let values = vectors.iter().map(|vector| f64::from(vector[place])).collect();
        (format!("history[{place}]"), Column::Number(values))
    };
    table.with((0..reader.width()).map(column)).map_err(|error| Error::BadRequest(error.to_string()))
}

impl Learned for LateFusion {
    fn log_odds(&self, asked: Asked<'_>) -> Result<Vec<f64>, Error> {
        let history = asked.history(ModelKind::LateFusion)?;
        let table = beside(asked.table, self.backbone.reader(), history, asked.cutoffs)?;
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
        let kind = serde_json::json!(self.kind).to_string();
        frames::files::write_bytes(&folder.join(HEAD), kind.as_bytes())?;
        Ok(())
    }
}
