//! Delivery: how one message reaches one channel, whatever its kind.
//!
//! Belongs here: rendering a message for a receiver and asking it to take it. Not here: when and how often that is tried
//! (`courier`), what is told at all (`incidents`). Secrets come from the environment, for the moment of the sending.

pub(crate) mod alertmanager;
mod authority;
pub(crate) mod courier;
mod email;
pub(crate) mod message;
pub(crate) mod secrets;
mod slack;
mod webhook;

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::{CHANNEL_SECRETS as SECRETS, Channel, Target};
use domain::ids::NotificationId;
use reqwest::StatusCode;
use service_kit::Context;
use service_kit::config::WebhooksConfig;
use service_kit::receivers::{self, told};

use message::Message;
use secrets::Secrets;

/// A message in the hands of a sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel<'a> {
    /// Receivers see it as the idempotency key: a message whose answer got lost arrives twice under one key.
    pub(crate) id: NotificationId,
    /// What is said.
    pub(crate) message: &'a Message,
    /// The machine's time: receivers live by it.
    pub(crate) now: DateTime<Utc>,
}

/// Why a receiver did not take a message.
#[derive(Debug, thiserror::Error)]
#[error("channel `{channel}`: {why}")]
pub(crate) struct Refusal {
    channel: String,
    why: String,
    /// Whether trying again may help.
    pub(crate) again: Again,
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// The receiver is away, or the channel is set up wrong.
    Later,
    /// The receiver said when.
    After(TimeDelta),
    /// The receiver does not want this very message.
    Unlikely,
}

impl domain::Fault for Refusal {
    fn remedy(&self) -> domain::Remedy {
        domain::Remedy::RetryLater
    }
    fn code(&self) -> &'static str {
        "not-delivered"
    }
}

/// Sends messages; made once a process.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    http: reqwest::Client,
    secrets: Secrets,
    webhooks: WebhooksConfig,
}

impl Sender {
    /// A sender that follows no redirects and does not wait for long.
    ///
    /// # Errors
    /// If the machine's certificates cannot be read.
    pub(crate) fn new(context: &Context) -> Result<Self, reqwest::Error> {
        let webhooks = context.config.webhooks.clone();
        Ok(Self { http: receivers::client().build()?, secrets: Secrets::of(context), webhooks })
    }

    /// Asks the receiver of `channel` to take a message.
    pub(crate) async fn send(&self, channel: &Channel, parcel: Parcel<'_>) -> Result<(), Refusal> {
        let linked = parcel.message.linked_to(channel.links.as_deref());
        let parcel = Parcel { message: &linked, ..parcel };
        let sent = match channel.target() {
            Some(Target::Webhook(address)) => self.webhook(channel, address, parcel).await,
            Some(Target::Alertmanager(address)) => {
                let alerts = [alertmanager::Alert::of(parcel.message, channel.resend_seconds, parcel.now)];
                self.alerts(channel, address, &alerts).await
            }
            Some(Target::Slack(variable)) => self.slack(channel, variable, parcel).await,
            Some(Target::Email(settings)) => self.mail(channel, settings, parcel).await,
            None => Err(Trouble::unlikely("it names no way to deliver, or several")),
        };
        sent.map_err(|trouble| trouble.at(channel))
    }

    /// The secret that an environment variable holds.
    fn secret(&self, variable: &str) -> Result<String, Trouble> {
        if !variable.starts_with(SECRETS) {
            return Err(Trouble::later(format!("${variable} does not begin with `{SECRETS}`")));
        }
        self.secrets.find(variable).ok_or_else(|| {
            Trouble::later(format!("its secret is in ${variable}, which is not set where Foretime runs"))
        })
    }

    /// Tells an Alertmanager what is still so.
    pub(crate) async fn stands(
        &self,
        channel: &Channel,
        address: &str,
        alerts: &[alertmanager::Alert],
    ) -> Result<(), Refusal> {
        self.alerts(channel, address, alerts).await.map_err(|trouble| trouble.at(channel))
    }
}

/// A refusal before it is known whose.
#[derive(Debug)]
struct Trouble {
    why: String,
    again: Again,
}

impl Trouble {
    fn later(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: Again::Later }
    }

    fn unlikely(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: Again::Unlikely }
    }

    fn at(self, channel: &Channel) -> Refusal {
        Refusal { channel: channel.name.clone(), why: self.why, again: self.again }
    }
}

/// Sends a request; anything but success is trouble, told without the address, which may hold a secret.
async fn post(request: reqwest::RequestBuilder) -> Result<(), Trouble> {
    let answer = request.send().await.map_err(|error| Trouble::later(told(error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let again = match status {
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            Again::Unlikely
        }
        _ => retry_after(&answer).map_or(Again::Later, Again::After),
    };
    Err(Trouble { why: format!("the receiver answered {status}"), again })
}

fn retry_after(answer: &reqwest::Response) -> Option<TimeDelta> {
    let seconds = answer.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    TimeDelta::try_seconds(seconds)
}
