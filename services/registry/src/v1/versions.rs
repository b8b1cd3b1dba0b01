//! What stands behind a version: evidence, files, card, signature, approvals.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::ids::TrainingSetId;
use frames::{Frame, Values};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::auth::Principal;
use service_kit::{JsonBody, Problem};
use storage::governance::approvals::{self, Approval};
use storage::governance::papers;

use super::find;
use crate::aliases::evidence_of;
use crate::evidence::{Claim, hand_in};
use crate::files::{frozen, key_of};
use crate::signing::SigningKey;
use crate::verify::Report;
use crate::{Error, Registry, mlflow};

type Named = Path<(String, i32)>;

pub(super) async fn show_evidence(
    State(registry): State<Registry>,
    Path((name, version)): Named,
) -> Result<Json<Value>, Problem> {
    let version = find(&registry, &name, version).await?;
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let evaluation = evidence_of(&mut conn, registry.project(), &version).await?.ok_or_else(|| {
        Error::Missing(format!(
            "version {} of `{name}` was never evaluated by the run that made it; POST here what it foretold of the rows of \
             its training set",
            version.version
        ))
    })?;
    Ok(Json(json!({ "run_id": version.run_id, "evaluation": evaluation })))
}

pub(super) async fn files(
    State(registry): State<Registry>,
    Path((name, version)): Named,
) -> Result<Json<Value>, Problem> {
    let version = find(&registry, &name, version).await?;
    Ok(Json(json!({ "files": frozen(&registry, &version).await? })))
}

pub(super) async fn verify(
    State(registry): State<Registry>,
    Path((name, version)): Named,
) -> Result<Json<Report>, Problem> {
    let version = find(&registry, &name, version).await?;
    Ok(Json(crate::verify::verify(&registry, &version).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Learned {
    training_set: TrainingSetId,
    trained_through: DateTime<Utc>,
}

/// What a version foretold: an Arrow stream, or these columns as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Foretold {
    rows: Vec<String>,
    cutoffs: Vec<DateTime<Utc>>,
    probabilities: Vec<f64>,
}

impl Foretold {
    fn frame(self) -> Result<Frame, Error> {
        let rows = self.rows.len();
        if self.cutoffs.len() != rows || self.probabilities.len() != rows {
            return Err(Error::Invalid(format!(
                "`rows`, `cutoffs` and `probabilities` must be of one length; they are of {rows}, {} and {}",
                self.cutoffs.len(),
                self.probabilities.len()
            )));
        }
        let cutoffs = self.cutoffs.iter().map(DateTime::timestamp_micros).collect();
        let columns = vec![
            ("row".to_owned(), Values::text(self.rows.iter().map(Some))),
            ("cutoff".to_owned(), Values::Time(cutoffs)),
            ("probability".to_owned(), Values::Number(self.probabilities)),
        ];
        Ok(Frame::new(rows, columns))
    }
}

pub(super) async fn hand_in_evidence(
    State(registry): State<Registry>,
    Path((name, version)): Named,
    Query(learned): Query<Learned>,
    principal: Principal,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    principal.may_write("hand in evidence")?;
    let version = find(&registry, &name, version).await?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let foretold = if kind.starts_with("application/vnd.apache.arrow.stream") {
        frames::wire::read_stream(&body).map_err(|error| Error::Invalid(error.to_string()))?
    } else {
        let read = serde_json::from_slice::<Foretold>(&body);
        read.map_err(|error| Error::Invalid(format!("the body is neither Arrow nor JSON as asked: {error}")))?
            .frame()?
    };
    let claim = Claim {
        training_set: learned.training_set,
        trained_through: learned.trained_through,
        foretold,
        submitted_by: principal.shown().to_owned(),
    };
    let evaluation = hand_in(&registry, &version, claim).await?;
    Ok((StatusCode::CREATED, Json(json!({ "run_id": version.run_id, "evaluation": evaluation }))))
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Html,
    Markdown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CardAs {
    format: Option<Format>,
}

pub(super) async fn card(
    State(registry): State<Registry>,
    Path((name, version)): Named,
    Query(wanted): Query<CardAs>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let version = find(&registry, &name, version).await?;
    let card = crate::card::of(&registry, &version).await?;
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let markdown = accepts.is_some_and(|accept| accept.contains("text/markdown"));
    Ok(match wanted.format.unwrap_or(if markdown { Format::Markdown } else { Format::Html }) {
        Format::Html => page(card.html),
        Format::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], card.markdown).into_response()
        }
    })
}

/// A page that may load and run nothing.
fn page(html: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    (headers, html).into_response()
}

#[derive(Serialize)]
pub(super) struct Signed {
    /// SHA-256, in hex, of the public key as PEM.
    key_id: String,
    signed_by: String,
    signed_at: DateTime<Utc>,
}

pub(super) async fn sign(
    State(registry): State<Registry>,
    Path((name, version)): Named,
    principal: Principal,
) -> Result<(StatusCode, Json<Signed>), Problem> {
    principal.may_write("sign")?;
    let version = find(&registry, &name, version).await?;
    let made = crate::signing::sign(&registry, &version, principal.shown()).await?;
    let said = Signed { key_id: made.key_id, signed_by: made.signed_by, signed_at: made.signed_at };
    Ok((StatusCode::CREATED, Json(said)))
}

/// The bundle as a file beside the model: `model_signing verify key MODEL --signature model.sig --public_key key.pem`.
pub(super) async fn signature(
    State(registry): State<Registry>,
    Path((name, version)): Named,
) -> Result<Response, Problem> {
    let version = find(&registry, &name, version).await?;
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let kept = papers::signature_of(&mut conn, key_of(registry.project(), &version)).await;
    let kept = kept.map_err(Error::from)?.ok_or_else(|| {
        Error::Missing(format!("version {} of `{name}` is not signed; POST here to sign it", version.version))
    })?;
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.dev.sigstore.bundle.v0.3+json"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"model.sig\""),
    ];
    Ok((headers, kept.bundle).into_response())
}

pub(super) async fn signing_key(State(registry): State<Registry>) -> Result<Response, Problem> {
    let key = SigningKey::of(&registry.context).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], key.public_pem()).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Consent {
    #[serde(default = "champion")]
    alias: String,
    reason: String,
}

fn champion() -> String {
    "champion".to_owned()
}

pub(super) async fn approve(
    State(registry): State<Registry>,
    Path((name, version)): Named,
    principal: Principal,
    JsonBody(consent): JsonBody<Consent>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    mlflow::rules::alias(&consent.alias).map_err(|refusal| Error::Invalid(refusal.message))?;
    principal.may_write("approve")?;
    let said = "an approval needs a name (basic authentication: name and token) and a `reason`";
    let approved_by = principal.name.filter(|_| !consent.reason.trim().is_empty());
    let approved_by = approved_by.ok_or_else(|| Error::Invalid(said.to_owned()))?;
    let version = find(&registry, &name, version).await?;
    let key = key_of(registry.project(), &version);
    let approval = Approval {
        alias: consent.alias,
        approved_by,
        reason: consent.reason,
        approved_at: registry.context.clock.now(),
    };
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    approvals::approve(&mut conn, key, &approval).await.map_err(Error::from)?;
    let all = approvals::approvals_of(&mut conn, key).await.map_err(Error::from)?;
    Ok((StatusCode::CREATED, Json(json!({ "approvals": all }))))
}

pub(super) async fn approvals(
    State(registry): State<Registry>,
    Path((name, version)): Named,
) -> Result<Json<Value>, Problem> {
    let version = find(&registry, &name, version).await?;
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let all = approvals::approvals_of(&mut conn, key_of(registry.project(), &version)).await;
    Ok(Json(json!({ "approvals": all.map_err(Error::from)? })))
}
