//! Moving aliases: through their gates, past them with a reason, and back.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use service_kit::auth::{Principal, Role};
use service_kit::{JsonBody, Problem};

use crate::aliases::{self, Answer, Ask, Manner};
use crate::{Error, Registry, mlflow};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// Judge, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    version: i32,
    reason: Option<String>,
    /// Move even if the gate refuses.
    #[serde(default, rename = "override")]
    override_gate: bool,
    /// Move only if the alias points here now.
    from_version: Option<i32>,
}

pub(super) async fn point(
    State(registry): State<Registry>,
    Path((model, alias)): Path<(String, String)>,
    Query(how): Query<How>,
    principal: Principal,
    JsonBody(wanted): JsonBody<Move>,
) -> Result<Json<Answer>, Problem> {
    check(&alias)?;
    principal.may_write("move aliases")?;
    if wanted.override_gate && principal.role < Role::Admin {
        let said = format!("{} is no administrator: only one may override a gate", principal.shown());
        return Err(Error::Forbidden(said).into());
    }
    let ask = Ask {
        project: registry.project(),
        model: &model,
        alias: &alias,
        actor: principal.shown(),
        reason: wanted.reason.as_deref(),
    };
    let manner = Manner {
        dry_run: how.dry_run,
        override_gate: wanted.override_gate,
        from_version: wanted.from_version,
    };
    Ok(Json(aliases::point_at(&registry.context, &ask, wanted.version, manner).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Back {
    reason: String,
}

#[derive(Serialize)]
pub(super) struct Restored {
    /// The version that the alias points at again.
    version: i32,
    /// The version that it pointed at.
    from_version: Option<i32>,
}

pub(super) async fn roll_back(
    State(registry): State<Registry>,
    Path((model, alias)): Path<(String, String)>,
    principal: Principal,
    JsonBody(wanted): JsonBody<Back>,
) -> Result<Json<Restored>, Problem> {
    check(&alias)?;
    principal.may_write("move aliases")?;
    let ask = Ask {
        project: registry.project(),
        model: &model,
        alias: &alias,
        actor: principal.shown(),
        reason: Some(&wanted.reason),
    };
    let (version, answer) = aliases::roll_back(&registry.context, &ask).await?;
    Ok(Json(Restored { version, from_version: answer.from_version }))
}

fn check(alias: &str) -> Result<(), Error> {
    mlflow::rules::alias(alias).map_err(|refusal| Error::Invalid(refusal.message))
}
