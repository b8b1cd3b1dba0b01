//! Delivering a message: one POST, signed as MLflow signs, tried again until it arrives or its tries are used up.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::Context;
use service_kit::jobs::{Failure, Job, Outcome};
use service_kit::receivers::{self, Receiver, Unreachable, told};
use sha2::Sha256;
use storage::webhooks::Webhook;
use uuid::Uuid;

/// The most of an answer that is kept, in bytes.
const ANSWER_BYTES: usize = 4_096;

#[derive(Deserialize)]
struct DeliverJob {
    delivery: Uuid,
}

/// A receiver's answer.
pub(crate) struct Told {
    /// The status.
    pub(crate) status: u16,
    /// The beginning of the body.
    pub(crate) body: String,
}

/// Delivers what the job names.
pub(crate) async fn work(context: Context, job: Job) -> Result<Outcome, Failure> {
    let DeliverJob { delivery } = job.payload()?;
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let Some(message) = storage::webhooks::delivery(&mut conn, delivery).await? else {
        return Ok(Outcome::default()); // the webhook was removed
    };
    drop(conn); // a slow receiver must not hold a connection
    if message.state == "delivered" {
        return Ok(Outcome::default());
    }
    let sent =
        send(&context, &message.webhook, message.id, &message.entity, &message.action, &message.data).await;
    let failure = match sent {
        Ok(told) if (200..300).contains(&told.status) => None,
        Ok(told) => {
            Some(Failure::passing(format!("webhook `{}` answered {}", message.webhook.name, told.status)))
        }
        Err(error) => Some(Failure::passing(format!("webhook `{}`: {error}", message.webhook.name))),
    };
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let Some(failure) = failure else {
        storage::webhooks::delivered(&mut conn, message.id, context.clock.now()).await?;
        return Ok(Outcome::default());
    };
    let dead = job.leased.attempts >= job.leased.max_attempts;
    storage::webhooks::failed(&mut conn, message.id, &failure.message, dead).await?;
    Err(failure)
}

/// Says something to a receiver, at the address that was checked.
pub(crate) async fn send(
    context: &Context,
    webhook: &Webhook,
    id: Uuid,
    entity: &str,
    action: &str,
    data: &Value,
) -> Result<Told, Unreachable> {
    let receiver = Receiver::find(&webhook.url, &context.config.webhooks).await?;
    let now = context.clock.now();
    let body = json!({
        "entity": entity.to_ascii_lowercase(),
        "action": action.to_ascii_lowercase(),
        "timestamp": now.to_rfc3339(),
        "data": data,
    })
    .to_string();
    let client = receiver.only(receivers::client()).build().map_err(|error| Unreachable(told(error)))?;
    let stamp = now.timestamp().to_string();
    let mut request = client
        .post(receiver.url)
        .header("content-type", "application/json")
        .header("x-mlflow-delivery-id", id.to_string())
        .header("x-mlflow-timestamp", &stamp);
    if let Some(secret) = &webhook.secret {
        request = request.header("x-mlflow-signature", signature(secret, &id.to_string(), &stamp, &body));
    }
    let answer = request.body(body).send().await.map_err(|error| Unreachable(told(error)))?;
    let status = answer.status().as_u16();
    Ok(Told { status, body: beginning(answer).await })
}

async fn beginning(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= ANSWER_BYTES {
            bytes.truncate(ANSWER_BYTES);
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `v1,` and the HMAC-SHA256 of `<delivery id>.<timestamp>.<body>`, in base64.
fn signature(secret: &str, id: &str, stamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{stamp}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}
