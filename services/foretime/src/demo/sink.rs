//! The webhook receiver of the demo: keeps every document that it gets.

use std::sync::{Arc, Mutex};

use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::Failure;

/// A receiver that runs until it is dropped.
pub(super) struct Sink {
    address: std::net::SocketAddr,
    received: Arc<Mutex<Vec<Value>>>,
    server: JoinHandle<()>,
}

impl Sink {
    pub(super) async fn start() -> Result<Self, Failure> {
        let refused =
            |error: std::io::Error| Failure(format!("no port is free for the webhook sink: {error}"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let received: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&received);
        let routes = Router::new().route(
            "/alerts",
            post(move |Json(document): Json<Value>| async move {
                kept.lock().expect("no holder of this lock can panic").push(document);
            }),
        );
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the webhook sink ended");
            }
        });
        Ok(Self { address, received, server })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was received so far.
    pub(super) fn received(&self) -> Vec<Value> {
        self.received.lock().expect("no holder of this lock can panic").clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}
