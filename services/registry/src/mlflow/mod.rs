//! MLflow's REST surface, as its unmodified clients speak it. Each route is there twice: `/api/…` and `/ajax-api/…`.
//!
//! Handlers take an [`input::Input`] and answer JSON or a [`refusal::Refusal`]; nothing a client sends is answered with 500.

mod artifacts;
mod experiments;
mod filter;
mod generations;
mod input;
mod kept_runs;
mod kept_verdicts;
mod links;
mod logged_models;
mod metrics;
mod model_versions;
mod model_views;
mod paging;
mod ranges;
mod refusal;
mod registered_models;
pub(crate) mod rules;
mod run_contents;
mod run_views;
mod runs;
mod sources;
mod users;
mod views;
mod webhooks;
mod workspaces;
mod written;

use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode};
use axum::routing::{any, delete, get, patch, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::Registry;
pub(crate) use kept_runs::KeptRuns;
pub(crate) use kept_verdicts::KeptVerdicts;
use refusal::{Code, Refusal};

type Answer = Result<Json<Value>, Refusal>;

/// `{}`, which is what most writes answer.
fn done() -> Answer {
    Ok(Json(json!({})))
}

pub(crate) fn routes() -> Router<Registry> {
    Router::new()
        .route("/get-artifact", get(artifacts::get_of_run))
        .route("/model-versions/get-artifact", get(artifacts::get_of_version))
        .route("/presigned/{*path}", get(links::follow_to_read).put(links::follow_to_write))
        .nest("/api/2.0/mlflow", api())
        .nest("/ajax-api/2.0/mlflow", api())
        .nest("/api/3.0/mlflow", workspace_routes())
        .nest("/ajax-api/3.0/mlflow", workspace_routes())
        .nest("/api/2.0/mlflow-artifacts", proxy())
        .nest("/ajax-api/2.0/mlflow-artifacts", proxy())
        // MLflow's protocol files lack a slash here, and so does its Python client.
        .route("/api/2.0mlflow/experiments/search-datasets", post(experiments::search_datasets))
        .route("/ajax-api/2.0mlflow/experiments/search-datasets", post(experiments::search_datasets))
        .route("/api/{*rest}", any(unknown))
        .route("/ajax-api/{*rest}", any(unknown))
}

async fn server_info() -> Json<Value> {
    Json(json!({
        "store_type": "SqlStore",
        "workspaces_enabled": true,
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": true,
        "multipart_downloads_enabled": true,
        "presigned_upload_run_id_supported": true,
        "presigned_upload_model_id_supported": true,
        "features_enabled": { "gateway": false },
    }))
}

async fn unknown(OriginalUri(uri): OriginalUri) -> Refusal {
    Refusal::new(Code::EndpointNotFound, format!("No API found for '{}'", uri.path()))
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Refusal {
    let message = format!("{method} is not a method of '{}'", uri.path());
    Refusal { status: Some(StatusCode::METHOD_NOT_ALLOWED), ..Refusal::new(Code::BadRequest, message) }
}

fn api() -> Router<Registry> {
    Router::new()
        .merge(experiment_routes())
        .merge(run_routes())
        .merge(logged_model_routes())
        .merge(registered_model_routes())
        .merge(model_version_routes())
        .merge(user_routes())
        .merge(webhook_routes())
        .method_not_allowed_fallback(wrong_method)
}

fn experiment_routes() -> Router<Registry> {
    Router::new()
        .route("/experiments/create", post(experiments::create))
        .route("/experiments/get", get(experiments::get))
        .route("/experiments/get-by-name", get(experiments::get_by_name))
        .route("/experiments/search-datasets", post(experiments::search_datasets))
        .route("/experiments/search", post(experiments::search).get(experiments::search))
        .route("/experiments/update", post(experiments::update))
        .route("/experiments/delete", post(experiments::delete))
        .route("/experiments/restore", post(experiments::restore))
        .route("/experiments/set-experiment-tag", post(experiments::set_tag))
        .route("/experiments/delete-experiment-tag", post(experiments::delete_tag))
}

fn run_routes() -> Router<Registry> {
    Router::new()
        .route("/runs/create", post(runs::create))
        .route("/runs/get", get(runs::get))
        .route("/runs/update", post(runs::update))
        .route("/runs/delete", post(runs::delete))
        .route("/runs/restore", post(runs::restore))
        .route("/runs/search", post(runs::search))
        .route("/runs/log-metric", post(run_contents::log_metric))
        .route("/runs/log-parameter", post(run_contents::log_param))
        .route("/runs/log-batch", post(run_contents::log_batch))
        .route("/runs/set-tag", post(run_contents::set_tag))
        .route("/runs/delete-tag", post(run_contents::delete_tag))
        .route("/runs/log-inputs", post(run_contents::log_inputs))
        .route("/runs/outputs", post(run_contents::log_outputs))
        .route("/runs/log-model", post(run_contents::log_model))
        .route("/metrics/get-history", get(metrics::history))
        .route("/metrics/get-history-bulk", get(metrics::histories))
        .route("/metrics/get-history-bulk-interval", get(metrics::sampled_histories))
        .route("/artifacts/list", get(artifacts::list_of_run))
        .route("/artifacts/presigned-upload-url", post(links::to_upload))
        .route("/artifacts/presigned-download-url", post(links::to_download))
}

fn logged_model_routes() -> Router<Registry> {
    Router::new()
        .route("/logged-models", post(logged_models::create))
        .route("/logged-models/search", post(logged_models::search))
        .route(
            "/logged-models/{model_id}",
            get(logged_models::get).patch(logged_models::finalize).delete(logged_models::delete),
        )
        .route("/logged-models/{model_id}/tags", patch(logged_models::set_tags))
        .route("/logged-models/{model_id}/tags/{key}", delete(logged_models::delete_tag))
        .route("/logged-models/{model_id}/params", post(logged_models::log_params))
        .route("/logged-models/{model_id}/artifacts/directories", get(artifacts::list_of_model))
}

fn registered_model_routes() -> Router<Registry> {
    Router::new()
        .route("/registered-models/create", post(registered_models::create))
        .route("/registered-models/get", get(registered_models::get))
        .route("/registered-models/rename", post(registered_models::rename))
        .route("/registered-models/update", patch(registered_models::update))
        .route("/registered-models/delete", delete(registered_models::delete))
        .route("/registered-models/search", get(registered_models::search))
        .route(
            "/registered-models/get-latest-versions",
            post(registered_models::latest_versions).get(registered_models::latest_versions),
        )
        .route("/registered-models/set-tag", post(registered_models::set_tag))
        .route("/registered-models/delete-tag", delete(registered_models::delete_tag))
        .route(
            "/registered-models/alias",
            post(registered_models::set_alias)
                .delete(registered_models::delete_alias)
                .get(model_versions::get_by_alias),
        )
}

fn model_version_routes() -> Router<Registry> {
    Router::new()
        .route("/model-versions/create", post(model_versions::create))
        .route("/model-versions/get", get(model_versions::get))
        .route("/model-versions/update", patch(model_versions::update))
        .route("/model-versions/delete", delete(model_versions::delete))
        .route("/model-versions/search", get(model_versions::search))
        .route("/model-versions/get-download-uri", get(model_versions::download_uri))
        .route("/model-versions/transition-stage", post(model_versions::transition_stage))
        .route("/model-versions/set-tag", post(model_versions::set_tag))
        .route("/model-versions/delete-tag", delete(model_versions::delete_tag))
}

fn workspace_routes() -> Router<Registry> {
    Router::new()
        .route("/server-info", get(server_info))
        .route("/workspaces", get(workspaces::list).post(workspaces::create))
        .route(
            "/workspaces/{name}",
            get(workspaces::get).patch(workspaces::update).delete(workspaces::delete),
        )
        .method_not_allowed_fallback(wrong_method)
}

fn webhook_routes() -> Router<Registry> {
    Router::new()
        .route("/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/webhooks/{webhook_id}", get(webhooks::get).patch(webhooks::update).delete(webhooks::delete))
        .route("/webhooks/{webhook_id}/test", post(webhooks::test))
}

fn user_routes() -> Router<Registry> {
    Router::new()
        .route("/users/create", post(users::create))
        .route("/users/get", get(users::get))
        .route("/users/list", get(users::list))
        .route("/users/current", get(users::current))
        .route("/users/update-password", patch(users::update_password))
        .route("/users/update-admin", patch(users::update_admin))
        .route("/users/delete", delete(users::delete))
}

fn proxy() -> Router<Registry> {
    Router::new()
        .route("/artifacts", get(artifacts::list))
        .route(
            "/artifacts/{*path}",
            get(artifacts::download).put(artifacts::upload).delete(artifacts::delete),
        )
        .route("/mpu/create/{*directory}", post(links::begin_parts))
        .route("/mpu/complete/{*directory}", post(links::complete_parts))
        .route("/mpu/abort/{*directory}", post(links::abort_parts))
        .route("/presigned/{*path}", get(links::to_read))
        .method_not_allowed_fallback(wrong_method)
}
