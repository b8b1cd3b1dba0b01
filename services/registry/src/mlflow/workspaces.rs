//! `workspaces…` and the header that names one: a workspace is a project, and everything a request touches is its project's.

use axum::Json;
use axum::extract::{FromRef, FromRequestParts, Path};
use axum::http::request::Parts;
use serde_json::{Value, json};
use sqlx::PgConnection;
use storage::workspaces::{self, Workspace};

use super::input::Input;
use super::refusal::Refusal;
use super::{Answer, done};
use crate::Registry;

/// The header by which a client names its workspace.
const HEADER: &str = "x-mlflow-workspace";

impl<S: Send + Sync> FromRequestParts<S> for Registry
where
    Self: FromRef<S>,
{
    type Rejection = Refusal;

    /// The registry of the workspace that the request names, or of the configured project.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let registry = Self::from_ref(state);
        let Some(named) = parts.headers.get(HEADER) else { return Ok(registry) };
        let named =
            named.to_str().map_err(|_| Refusal::invalid("the workspace's name is not plain text"))?.trim();
        if named.is_empty() || named == registry.project() {
            return Ok(registry);
        }
        find(&registry, &mut *registry.context.db.acquire().await?, named).await?;
        Ok(Self { project: named.into(), ..registry })
    }
}

async fn find(registry: &Registry, conn: &mut PgConnection, name: &str) -> Result<Workspace, Refusal> {
    if name == registry.context.config.project {
        return Ok(Workspace { name: name.to_owned(), description: None });
    }
    let found = workspaces::find(conn, name).await?;
    found.ok_or_else(|| Refusal::missing(format!("Workspace '{name}' not found")))
}

fn view(workspace: &Workspace) -> Value {
    let mut view = json!({ "name": workspace.name });
    if let Some(description) = &workspace.description {
        view["description"] = Value::from(description.as_str());
    }
    view
}

/// 2 to 63 small letters, digits and dashes, as MLflow wants them.
fn checked(name: &str) -> Result<(), Refusal> {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if plain && (2..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "Workspace name '{name}' must be 2 to 63 lower-case letters, digits or dashes, and neither begin nor end with a dash"
    )))
}

pub(crate) async fn list(registry: Registry) -> Answer {
    let mut conn = registry.context.db.acquire().await?;
    let own = find(&registry, &mut conn, &registry.context.config.project).await?;
    let others = workspaces::all(&mut conn).await?;
    let all = std::iter::once(&own).chain(others.iter().filter(|workspace| workspace.name != own.name));
    Ok(Json(json!({ "workspaces": all.map(view).collect::<Vec<_>>() })))
}

pub(crate) async fn create(registry: Registry, input: Input) -> Answer {
    let name = input.required("name")?;
    checked(name)?;
    let workspace =
        Workspace { name: name.to_owned(), description: input.text("description")?.map(str::to_owned) };
    let mut conn = registry.context.db.acquire().await?;
    let taken = name == registry.context.config.project;
    if taken || !workspaces::insert(&mut conn, &workspace, registry.context.clock.now()).await? {
        return Err(Refusal::exists(format!("Workspace '{name}' already exists.")));
    }
    Ok(Json(json!({ "workspace": view(&workspace) })))
}

pub(crate) async fn get(registry: Registry, Path(name): Path<String>) -> Answer {
    let workspace = find(&registry, &mut *registry.context.db.acquire().await?, &name).await?;
    Ok(Json(json!({ "workspace": view(&workspace) })))
}

pub(crate) async fn update(registry: Registry, Path(name): Path<String>, input: Input) -> Answer {
    let mut conn = registry.context.db.acquire().await?;
    let description = input.text("description")?.unwrap_or_default();
    if !workspaces::set_description(&mut conn, &name, description).await? {
        return Err(Refusal::missing(format!("Workspace '{name}' not found")));
    }
    let workspace = find(&registry, &mut conn, &name).await?;
    Ok(Json(json!({ "workspace": view(&workspace) })))
}

pub(crate) async fn delete(registry: Registry, Path(name): Path<String>) -> Answer {
    if name == registry.context.config.project {
        return Err(Refusal::invalid(format!("Workspace '{name}' is the configured project and stays")));
    }
    let mut conn = registry.context.db.acquire().await?;
    if workspaces::is_used(&mut conn, &name).await? {
        return Err(Refusal::invalid(format!("Workspace '{name}' still holds experiments or models")));
    }
    if !workspaces::delete(&mut conn, &name).await? {
        return Err(Refusal::missing(format!("Workspace '{name}' not found")));
    }
    done()
}
