//! The registry's own routes: models, versions, alias moves, their history, and what stands behind a version.

mod aliases;
mod history;
mod lineage;
mod models;
mod versions;

use axum::routing::{get, post};
use service_kit::openapi::Listed;
use storage::models::Version;

use crate::{Error, Registry};

/// What `/openapi.json` says of these routes.
pub(crate) const DOCUMENT: &str = include_str!("../openapi.json");

pub(crate) fn routes() -> Listed<Registry> {
    let version = "/v1/models/{name}/versions/{version}";
    Listed::default()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(models::show))
        .route("/v1/models/{name}/aliases/{alias}", post(aliases::point))
        .route("/v1/models/{name}/aliases/{alias}/rollback", post(aliases::roll_back))
        .route("/v1/models/{name}/history", get(history::show))
        .route("/v1/models/{name}/history/verify", get(history::verify))
        .route("/v1/models/{name}/at", get(history::at))
        .route(&format!("{version}/evidence"), get(versions::show_evidence).post(versions::hand_in_evidence))
        .route(&format!("{version}/files"), get(versions::files))
        .route(&format!("{version}/verify"), post(versions::verify))
        .route(&format!("{version}/card"), get(versions::card))
        .route(&format!("{version}/signature"), get(versions::signature).post(versions::sign))
        .route(&format!("{version}/approvals"), get(versions::approvals).post(versions::approve))
        .route(&format!("{version}/lineage"), get(lineage::show))
        .route(&format!("{version}/lineage.svg"), get(lineage::picture))
        .route(&format!("{version}/lineage/inputs"), post(lineage::record))
        .route("/v1/lineage/uses", get(lineage::uses))
        .route("/v1/signing-key", get(versions::signing_key))
}

async fn find(registry: &Registry, name: &str, version: i32) -> Result<Version, Error> {
    let mut conn = registry.context.db.acquire().await?;
    let found = storage::models::find_version(&mut conn, registry.project(), name, version).await?;
    found.ok_or_else(|| Error::no_version(name, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        assert_eq!(service_kit::openapi::faults(DOCUMENT, &routes().paths), [""; 0]);
    }
}
