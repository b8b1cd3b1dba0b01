//! Feast's feature server, as its clients know it: the same paths, bodies and errors as Feast 0.67, over our views.
//!
//! A push source is a source, a feature view a view, a feature service a dataset (its joined features; expressions have no
//! name there). Feast writes instants without a zone and means UTC; only on these paths that is accepted.
//!
//! Statuses are true where Feast's are not: a null is `NULL_VALUE`, a value past its `max_age` is `OUTSIDE_MAX_AGE`. An
//! entity that was taken away is `NOT_FOUND`, because Feast has no word for it. Feature names keep the request's order.
//! `/health` is every service's (`service-kit`).

mod failure;
mod push;
mod read;

use axum::Router;
use axum::routing::post;

use crate::FeatureStore;

/// Feast's routes.
pub(crate) fn router() -> Router<FeatureStore> {
    Router::new()
        .route("/get-online-features", post(read::get_online_features))
        .route("/push", post(push::push))
        .route("/write-to-online-store", post(push::write_to_online_store))
        .route("/materialize", post(push::materialize))
        .route("/materialize-incremental", post(push::materialize_incremental))
}
