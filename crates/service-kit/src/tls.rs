//! HTTP over TLS: a listener whose connections have shaken hands, in HTTP/1.1 or HTTP/2 as the client likes.
//!
//! Hands are shaken beside the listener, each within a few seconds: a client that does not answer holds up no other.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use domain::{Fault, Remedy};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::TlsConfig;

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that have shaken hands and wait to be served.
const READY: usize = 64;

/// The certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be used for TLS: {why}; write a PEM file with the certificate (those above it after it), and one with its key", file.display())]
pub(crate) struct NoTls {
    file: PathBuf,
    why: String,
}

impl Fault for NoTls {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        "unusable-certificate"
    }
}

/// What TLS is spoken with; none if there is no certificate.
///
/// # Errors
/// [`NoTls`] names the file.
pub(crate) fn settings(config: &TlsConfig) -> Result<Option<Arc<ServerConfig>>, NoTls> {
    let Some((certificate, key)) = config.certificate.as_ref().zip(config.key.as_ref()) else {
        return Ok(None);
    };
    let unusable = |file: &Path, why: String| NoTls { file: file.to_owned(), why };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(certificate, error.to_string()))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let refused = |error: rustls::Error| unusable(certificate, error.to_string());
    let versions = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let mut settings = versions.with_no_client_auth().with_single_cert(chain, key_der).map_err(refused)?;
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(settings)))
}

/// A listener whose connections are secure.
pub(crate) struct Secure {
    address: io::Result<SocketAddr>,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl Secure {
    /// Listens until it is stopped.
    pub(crate) fn over(listener: TcpListener, settings: Arc<ServerConfig>, stop: CancellationToken) -> Self {
        let (give, ready) = mpsc::channel(READY);
        let address = listener.local_addr();
        tokio::spawn(stop.run_until_cancelled_owned(greet(listener, TlsAcceptor::from(settings), give)));
        Self { address, ready }
    }
}

/// Takes connections and shakes hands with each.
async fn greet(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    give: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    loop {
        let (connection, from) = Listener::accept(&mut listener).await;
        let (acceptor, give) = (acceptor.clone(), give.clone());
        tokio::spawn(async move {
            drop(connection.set_nodelay(true)); // see `http::run`
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(connection)).await {
                Ok(Ok(secure)) => drop(give.send((secure, from)).await),
                Ok(Err(error)) => tracing::debug!(%from, %error, "no hands were shaken"),
                Err(_) => tracing::debug!(%from, "a client did not answer"),
            }
        });
    }
}

impl Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await, // it was stopped, and so is whoever asks
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }
}
