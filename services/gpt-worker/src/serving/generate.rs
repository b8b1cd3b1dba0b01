//! `/v1/generate`: the GPT of a served model writes on after a history, token by token, as server-sent events.
//!
//! Each event `token` holds the id, what it says, and which of the new events it belongs to; the last event is `end`. A client
//! that goes away ends the writing.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use gpt::{Ended, Meaning, Sampling};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use service_kit::{JsonBody, Problem};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::question::Question;
use super::{Naming, Serving};
use crate::{Error, Worker};

/// New tokens of one request, at most.
const MOST_TOKENS: usize = 4_096;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    model: String,
    #[serde(default)]
    alias: Option<String>,
    #[serde(default)]
    version: Option<i32>,
    /// The keys of a history, or the `history` itself.
    row: Map<String, Value>,
    #[serde(default = "one")]
    temperature: f64,
    #[serde(default)]
    top_k: Option<usize>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    seed: u64,
    #[serde(default = "usual")]
    max_tokens: usize,
    /// Ends after so many whole events.
    #[serde(default)]
    max_events: Option<usize>,
    /// All at once as JSON, if false.
    #[serde(default = "yes")]
    stream: bool,
}

fn one() -> f64 {
    1.0
}

fn usual() -> usize {
    64
}

fn yes() -> bool {
    true
}

/// A token as it is told.
#[derive(Clone, Debug, Serialize)]
struct Token {
    index: usize,
    token: u32,
    /// Which of the new events it belongs to, from 0.
    event: usize,
    #[serde(flatten)]
    meaning: Option<Meaning>,
}

/// How writing ended.
#[derive(Clone, Debug, Serialize)]
struct End {
    model: String,
    version: i32,
    ended: Ended,
    tokens: usize,
    statuses: Map<String, Value>,
}

#[tracing::instrument(name = "gpt_worker.generate", skip_all, fields(model = request.model))]
pub(crate) async fn generate(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<Request>,
) -> Result<Response, Problem> {
    let which = Naming { alias: request.alias.clone(), version: request.version }.which()?;
    if request.max_tokens == 0 || request.max_tokens > MOST_TOKENS || request.max_events == Some(0) {
        let why = format!("`max_tokens` is 1 to {MOST_TOKENS}, and `max_events` at least 1");
        return Err(Error::BadRequest(why).into());
    }
    let serving = worker.serving(&request.model, &which).await?;
    serving.servable.reader(&request.model)?;
    let busy = || Error::Busy { model: request.model.clone() };
    let permit = Arc::clone(&worker.generations).try_acquire_owned().map_err(|_| busy())?;
    let question = worker.question(&serving, std::slice::from_ref(&request.row)).await?;
    let (tell, told) = mpsc::channel(16);
    let stream = request.stream;
    let writer = Writer { serving, request, question, tell, permit };
    let writing = tokio::task::spawn_blocking(move || writer.write());
    if stream {
        let events = ReceiverStream::new(told).map(|told: Told| Ok::<_, Infallible>(told.event()));
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    let answer = gathered(told).await?;
    writing.await.map_err(Error::from)?;
    Ok(Json(answer).into_response())
}

/// What comes through the channel.
enum Told {
    Token(Token),
    End(End),
    Failed(Error),
}

impl Told {
    fn event(self) -> Event {
        let (name, data) = match self {
            Self::Token(token) => ("token", json!(token)),
            Self::End(end) => ("end", json!(end)),
            Self::Failed(error) => ("error", json!({ "detail": error.to_string() })),
        };
        Event::default().event(name).data(data.to_string())
    }
}

async fn gathered(mut told: mpsc::Receiver<Told>) -> Result<Value, Error> {
    let mut tokens = Vec::new();
    while let Some(one) = told.recv().await {
        match one {
            Told::Token(token) => tokens.push(token),
            Told::Failed(error) => return Err(error),
            Told::End(end) => {
                let mut answer = json!(end);
                answer["tokens"] = json!(tokens);
                return Ok(answer);
            }
        }
    }
    Err(Error::Cancelled)
}

struct Writer {
    serving: Arc<Serving>,
    request: Request,
    question: Question,
    tell: mpsc::Sender<Told>,
    permit: OwnedSemaphorePermit,
}

impl Writer {
    fn write(self) {
        let last = match self.written() {
            Ok(end) => Told::End(end),
            Err(error) => Told::Failed(error),
        };
        let _ = self.tell.blocking_send(last); // who went away needs no end
        drop(self.permit);
    }

    fn written(&self) -> Result<End, Error> {
        let Request { model, temperature, top_k, top_p, seed, max_tokens, max_events, .. } = &self.request;
        let reader = self.serving.servable.reader(model)?;
        let no_history = || Error::NoHistory(model.clone());
        let history = self.question.asked.history.as_ref().ok_or_else(no_history)?;
        let sampling = Sampling {
            temperature: *temperature,
            top_k: *top_k,
            top_p: *top_p,
            seed: *seed,
            max_tokens: *max_tokens,
            stop: vec![],
        };
        let (mut index, mut event, mut field, mut enough) = (0, 0, None, false);
        let mut hear = |token: u32| {
            let now = reader.tokenizer.field(token);
            if now.is_some() && field.is_some() && now < field {
                event += 1;
            }
            if max_events.is_some_and(|most| event >= most) {
                enough = true;
                return ControlFlow::Break(());
            }
            field = now.or(field);
            let told = Token { index, token, event, meaning: reader.tokenizer.meaning(token) };
            index += 1;
            match self.tell.blocking_send(Told::Token(told)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let cutoff = self.question.asked.cutoffs[0];
        let written = reader.generate(history, cutoff, &sampling, &mut hear)?;
        Ok(End {
            model: model.clone(),
            version: self.serving.version,
            ended: if enough { Ended::Length } else { written.ended },
            tokens: index,
            statuses: self.question.statuses.of(0),
        })
    }
}
