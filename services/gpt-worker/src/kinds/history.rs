//! What kinds with a GPT share: its size, its pretraining on the training rows' histories, and how events become tokens.

use domain::definitions::{EventStream, TokenKind};
use domain::tabular::History;
use gpt::tokenizer::CalendarPart;
use gpt::{
    Activation, Backbone, EventField, EventSpec, EventTokenizer, FieldKind, Gpt, GptConfig, NormKind,
    Positions, PretrainRecipe,
};
use serde::Deserialize;

use super::{Lesson, OnStep, Step};
use crate::{Error, checkpoint};

/// The size of the GPT; its vocabulary follows from the tokenizer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GptSettings {
    context: usize,
    width: usize,
    layers: usize,
    heads: usize,
    dropout: f64,
    positions: Positions,
    norm: NormKind,
    activation: Activation,
}

impl Default for GptSettings {
    fn default() -> Self {
        let GptConfig { context, width, layers, heads, dropout, positions, norm, activation, .. } =
            GptConfig::default();
        Self { context, width, layers, heads, dropout, positions, norm, activation }
    }
}

impl GptSettings {
    fn config(&self, vocabulary: usize) -> GptConfig {
        let Self { context, width, layers, heads, dropout, positions, norm, activation } = *self;
        GptConfig {
            vocabulary,
            context,
            width,
            layers,
            heads,
            dropout,
            positions,
            norm,
            activation,
            ..GptConfig::default()
        }
    }
}

/// How to pretrain.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) gpt: GptSettings,
    pub(super) pretrain: PretrainRecipe,
    /// At most this many histories to pretrain on.
    pub(super) rows: Option<usize>,
}

impl Reading {
    /// A GPT that has read the training rows' histories.
    pub(super) fn pretrained(&self, lesson: &Lesson<'_>, on_step: OnStep<'_>) -> Result<Backbone, Error> {
        let (histories, seed) = (lesson.histories()?, lesson.model.seed);
        let history: &History = histories.train;
        let tokenizer = EventTokenizer::fit(&spec(lesson, histories.stream)?, history)?;
        let config = self.gpt.config(tokenizer.vocabulary_size());
        let places = crate::training_data::sample((0..history.rows()).collect(), self.rows, seed);
        let asked: Vec<i64> = places.iter().map(|&row| lesson.train.cutoffs[row]).collect();
        let read = tokenizer.encode_all(&history.take(&places), &asked, self.gpt.context)?;
        let sequences: Vec<Vec<u32>> = read.into_iter().filter(|tokens| tokens.len() > 2).collect();
        if sequences.is_empty() {
            return Err(Error::EmptyHistories { stream: histories.stream.name.clone() });
        }
        let recipe = PretrainRecipe { seed, ..self.pretrain.clone() };
        let gpt = Gpt::new(config, seed, &lesson.device)?;
        let kept = (lesson.checkpoints, &lesson.device);
        let gpt = checkpoint::pretrain(gpt, recipe, &sequences, kept, &mut |now| {
            on_step(Step {
                stage: "pretrain".to_owned(),
                step: now.step,
                steps: now.steps,
                loss: now.loss,
                validation_loss: now.validation_loss,
            })
        })?;
        Ok(Backbone { gpt, tokenizer })
    }
}

fn spec(lesson: &Lesson<'_>, stream: &EventStream) -> Result<EventSpec, Error> {
    let part = |name: &str| match name {
        "month" => Ok(CalendarPart::Month),
        "weekday" => Ok(CalendarPart::Weekday),
        "hour" => Ok(CalendarPart::Hour),
        other => {
            let stream = &stream.name;
            let why = format!(
                "event stream `{stream}` asks for `{other}`, which is no part of a time; there are: month, weekday, hour"
            );
            Err(lesson.refused(&why))
        }
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
