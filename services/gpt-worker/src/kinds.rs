//! The kinds of model behind one interface: learn from rows, answer with log-odds.

use std::ops::ControlFlow;
use std::path::Path;

use boosting::Boosting;
use domain::definitions::{EventStream, Model, ModelKind, TokenKind};
use domain::tabular::{History, Table};
use gpt::tokenizer::CalendarPart;
use gpt::{
    Backbone, Device, EventField, EventSpec, EventTokenizer, FieldKind, FusionData, FusionRecipe, Gpt,
    GptConfig, JointFusion, PretrainRecipe, Pretraining,
};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::training_data::Rows;

/// One step of a training, for progress bars and curves.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// Which part is learning: `pretrain`, `tabular` or `joint`.
    pub(crate) stage: String,
    /// Steps done.
    pub(crate) step: usize,
    /// Steps in all.
    pub(crate) steps: usize,
    /// Loss of this step, in nats.
    pub(crate) loss: f64,
    /// Validation loss, where one was computed.
    pub(crate) validation_loss: Option<f64>,
}

/// Tells how far training is; `Break` asks it to end.
pub(crate) type OnStep<'a> = &'a mut dyn FnMut(Step) -> ControlFlow<()>;

/// A trained model, before calibration.
#[derive(Debug)]
pub(crate) enum Learned {
    /// Trees.
    Boosting(Box<Boosting>),
    /// A GPT and a tower.
    Fusion(Box<JointFusion>),
}

/// The settings of a joint fusion.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FusionSettings {
    gpt: GptSettings,
    pretrain: PretrainRecipe,
    fusion: FusionRecipe,
    /// At most this many histories to pretrain on.
    pretrain_rows: Option<usize>,
}

/// The size of the GPT; its vocabulary follows from the tokenizer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GptSettings {
    context: usize,
    width: usize,
    layers: usize,
    heads: usize,
    dropout: f64,
}

impl Default for GptSettings {
    fn default() -> Self {
        let GptConfig { context, width, layers, heads, dropout, .. } = GptConfig::default();
        Self { context, width, layers, heads, dropout }
    }
}

impl Learned {
    /// Learns from `train`, stopping early by `validation`.
    pub(crate) fn train(
        model: &Model,
        stream: Option<&EventStream>,
        train: &Rows,
        validation: &Rows,
        on_step: OnStep<'_>,
    ) -> Result<Self, Error> {
        match model.kind {
            ModelKind::Boosting => Self::train_boosting(model, train, validation),
            ModelKind::JointFusion => Self::train_fusion(model, stream, train, validation, on_step),
        }
    }

    fn train_boosting(model: &Model, train: &Rows, validation: &Rows) -> Result<Self, Error> {
        let mut recipe: boosting::Recipe = settings(model)?;
        recipe.seed = model.seed;
        let judge = validation.targets();
        let trees = Boosting::train(
            &train.table,
            &train.targets(),
            None,
            Some((&validation.table, &judge)),
            &recipe,
        )?;
        Ok(Self::Boosting(Box::new(trees)))
    }

    fn train_fusion(
        model: &Model,
        stream: Option<&EventStream>,
        train: &Rows,
        validation: &Rows,
        on_step: OnStep<'_>,
    ) -> Result<Self, Error> {
        let no_history = || Error::NoHistory(model.name.clone());
        let (Some(stream), Some(history), Some(judging)) = (stream, &train.history, &validation.history)
        else {
            return Err(no_history());
        };
        let mut settings: FusionSettings = settings(model)?;
        settings.fusion.seed = model.seed;
        settings.pretrain.seed = model.seed;
        let backbone = pretrained(&settings, stream, history, &train.cutoffs, model.seed, on_step)?;
        let (targets, judge) = (train.targets(), validation.targets());
        let data = FusionData {
            table: &train.table,
            history,
            cutoffs: &train.cutoffs,
            labels: &targets,
            weights: None,
        };
        let later = FusionData {
            table: &validation.table,
            history: judging,
            cutoffs: &validation.cutoffs,
            labels: &judge,
            weights: None,
        };
        let fusion =
            JointFusion::train(data, later, Some(backbone), settings.fusion, &Device::Cpu, &mut |now| {
                on_step(Step {
                    stage: format!("{:?}", now.stage).to_lowercase(),
                    step: now.step,
                    steps: now.steps,
                    loss: now.loss,
                    validation_loss: now.round.map(|round| round.validation_loss),
                })
            })?;
        Ok(Self::Fusion(Box::new(fusion)))
    }

    /// The log-odds of each row.
    pub(crate) fn log_odds(
        &self,
        table: &Table,
        history: Option<&History>,
        cutoffs: &[i64],
    ) -> Result<Vec<f64>, Error> {
        match (self, history) {
            (Self::Boosting(trees), _) => Ok(trees.predict(table)?),
            (Self::Fusion(fusion), Some(history)) => Ok(fusion.predict(table, history, cutoffs)?),
            (Self::Fusion(_), None) => Err(Error::NoHistory("joint-fusion".to_owned())),
        }
    }

    /// How much each input mattered, most first, if the kind can say.
    pub(crate) fn importance(&self) -> Vec<(String, f64)> {
        match self {
            Self::Boosting(trees) => trees.importance(),
            Self::Fusion(_) => vec![],
        }
    }

    /// Writes the model into `folder`.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), Error> {
        match self {
            Self::Boosting(trees) => {
                let text = trees.to_json()?;
                frames::files::write_bytes(&folder.join("boosting.json"), text.as_bytes())?;
                Ok(())
            }
            Self::Fusion(fusion) => Ok(fusion.save(&folder.join("fusion"))?),
        }
    }

    /// Reads the model of that kind from `folder`.
    pub(crate) fn load(kind: ModelKind, folder: &Path) -> Result<Self, Error> {
        match kind {
            ModelKind::Boosting => {
                let path = folder.join("boosting.json");
                let text = std::fs::read_to_string(&path).map_err(|error| Error::ModelFile {
                    path: path.display().to_string(),
                    why: error.to_string(),
                })?;
                Ok(Self::Boosting(Box::new(Boosting::from_json(&text)?)))
            }
            ModelKind::JointFusion => {
                Ok(Self::Fusion(Box::new(JointFusion::load(&folder.join("fusion"), &Device::Cpu)?)))
            }
        }
    }
}

fn settings<T: serde::de::DeserializeOwned>(model: &Model) -> Result<T, Error> {
    serde_json::from_value(serde_json::Value::Object(model.recipe.clone()))
        .map_err(|error| Error::Recipe { model: model.name.clone(), why: error.to_string() })
}

/// A GPT that has read the training rows' histories.
fn pretrained(
    settings: &FusionSettings,
    stream: &EventStream,
    history: &History,
    cutoffs: &[i64],
    seed: u64,
    on_step: OnStep<'_>,
) -> Result<Backbone, Error> {
    let tokenizer = EventTokenizer::fit(&spec(stream)?, history)?;
    let GptSettings { context, width, layers, heads, dropout } = settings.gpt;
    let vocabulary = tokenizer.vocabulary_size();
    let config = GptConfig { vocabulary, context, width, layers, heads, dropout, ..GptConfig::default() };
    let places = crate::training_data::sample((0..history.rows()).collect(), settings.pretrain_rows, seed);
    let read = history.take(&places);
    let asked: Vec<i64> = places.iter().map(|&row| cutoffs[row]).collect();
    let sequences: Vec<Vec<u32>> =
        tokenizer.encode_all(&read, &asked, context)?.into_iter().filter(|tokens| tokens.len() > 2).collect();
    let mut run = Pretraining::new(Gpt::new(config, seed, &Device::Cpu)?, settings.pretrain.clone())?;
    let finished = run.run(&sequences, None, &mut |now| {
        on_step(Step {
            stage: "pretrain".to_owned(),
            step: now.step,
            steps: now.steps,
            loss: now.loss,
            validation_loss: now.validation_loss,
        })
    })?;
    if finished { Ok(Backbone { gpt: run.into_gpt(), tokenizer }) } else { Err(Error::Cancelled) }
}

fn spec(stream: &EventStream) -> Result<EventSpec, Error> {
    let part = |name: &str| match name {
        "month" => Ok(CalendarPart::Month),
        "weekday" => Ok(CalendarPart::Weekday),
        "hour" => Ok(CalendarPart::Hour),
        other => Err(Error::Recipe {
            model: stream.name.clone(),
            why: format!("`{other}` is no part of a time; there are: month, weekday, hour"),
        }),
    };
    let fields = stream
        .fields
        .iter()
        .map(|field| {
            let kind = match &field.kind {
                TokenKind::Category { max_levels } => FieldKind::Category { max_levels: *max_levels },
                TokenKind::Number { bins } => FieldKind::Number { bins: *bins },
                TokenKind::Calendar { part: name } => FieldKind::Calendar { part: part(name)? },
                TokenKind::Gap { bins } => FieldKind::Gap { bins: *bins },
            };
            Ok(EventField { name: field.name.clone(), kind })
        })
        .collect::<Result<_, Error>>()?;
    Ok(EventSpec { fields })
}
