//! Delivery: one message, one POST, tried again until it arrives or its tries are used up.
//!
//! A message is one job, so that a dead receiver holds up nobody else's messages. Receivers see the notification's id as
//! `Idempotency-Key`: a message whose answer got lost arrives twice under one key.

use std::time::Duration;

use domain::definitions::Channel;
use domain::ids::NotificationId;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use service_kit::Context;
use service_kit::jobs::{Failure, Job, Outcome};
use sha2::Sha256;
use storage::notifications::Notification;

use crate::metrics::Metrics;

/// Delivers one notification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NotifyJob {
    /// The project.
    pub(crate) project: String,
    /// The notification.
    pub(crate) notification: NotificationId,
}

impl NotifyJob {
    /// Never renamed: old rows still wait.
    pub(crate) const KIND: &'static str = "notify";
}

/// A client that follows no redirects and does not wait for long.
///
/// # Errors
/// If the machine's certificates cannot be read.
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    rustls::crypto::ring::default_provider().install_default().ok(); // another service may have done so
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(3))
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("foretime/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Delivers what the job names.
pub(crate) async fn deliver(
    context: &Context,
    client: &reqwest::Client,
    metrics: &Metrics,
    job: &Job,
) -> Result<Outcome, Failure> {
    let NotifyJob { project, notification } = job.payload()?;
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let message = storage::notifications::get(&mut conn, &project, notification).await?;
    if message.state == "delivered" {
        return Ok(Outcome::default());
    }
    let definitions = storage::definitions::load(&mut conn, &project).await?;
    drop(conn); // a slow receiver must not hold a connection
    let sent = match definitions.channel(&message.channel) {
        None => Err(Failure::last(format!("channel `{}` is not declared any more", message.channel))),
        Some(channel) => send(client, channel, &message).await,
    };
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let Err(failure) = sent else {
        storage::notifications::delivered(&mut conn, message.id, context.clock.now()).await?;
        metrics.notifications.with_label_values(&["delivered"]).inc();
        return Ok(Outcome::default());
    };
    let dead = !failure.retry || job.leased.attempts >= job.leased.max_attempts;
    storage::notifications::failed(&mut conn, message.id, &failure.message, dead).await?;
    metrics.notifications.with_label_values(&[if dead { "dead" } else { "queued" }]).inc();
    Err(failure)
}

async fn send(client: &reqwest::Client, channel: &Channel, message: &Notification) -> Result<(), Failure> {
    let body = message.payload.to_string();
    let mut request = client
        .post(&channel.webhook)
        .header("content-type", "application/json")
        .header("idempotency-key", message.id.to_string());
    if let Some(variable) = &channel.secret_env {
        let secret = std::env::var(variable).map_err(|_| {
            Failure::passing(format!("channel `{}` signs with ${variable}, which is not set", channel.name))
        })?;
        request = request.header("x-foretime-signature", signature(secret.as_bytes(), body.as_bytes()));
    }
    let answer = request.body(body).send().await;
    let answer =
        answer.map_err(|error| Failure::passing(format!("channel `{}`: {}", channel.name, told(error))))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    Err(Failure::passing(format!("channel `{}` answered {status}", channel.name)))
}

/// The error and its causes without the address, which may hold a secret.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    match service_kit::problem::causes(&error) {
        causes if causes.is_empty() => error.to_string(),
        causes => format!("{error}: {causes}"),
    }
}

/// `sha256=` and the HMAC-SHA256 of the body, in hex.
fn signature(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_receivers_compute() {
        // RFC 4231, test case 2
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
