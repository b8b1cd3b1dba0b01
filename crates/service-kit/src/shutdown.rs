//! Stopping in order: the first signal drains, the second one, or the deadline, ends.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Context;

/// Cancels `stop` at the first SIGINT or SIGTERM.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub fn on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::warn!("second signal: ending without waiting for what is in hand");
        std::process::exit(130);
    });
    Ok(())
}

/// Waits until everything that runs under `context` has ended, at most as long as `http.drain_seconds` says.
pub async fn drain(context: &Context) {
    context.tasks.close();
    let deadline = Duration::from_secs(context.config.http.drain_seconds);
    if tokio::time::timeout(deadline, context.tasks.wait()).await.is_err() {
        tracing::warn!("some work did not end in time; its leases will run out and others will take it up");
    }
}
