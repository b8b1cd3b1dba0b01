//! HTTP over TLS: a listener whose connections have shaken hands, in HTTP/1.1 or HTTP/2 as the client likes.
//!
//! Hands are shaken beside the listener, each within a few seconds: a client that does not answer holds up no other. The files of
//! the certificate and its key are looked at every few seconds, so that a renewed one is shown without a restart; connections
//! that have shaken hands go on.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::serve::Listener;
use domain::{Fault, Remedy};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
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
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

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
pub(crate) async fn identity(config: &TlsConfig) -> Result<Option<Identity>, NoTls> {
    let Some((certificate, key)) = config.certificate.clone().zip(config.key.clone()) else {
        return Ok(None);
    };
    let files = Files { certificate, key };
    let held = files.read().await?;
    let shown = Arc::new(Shown(RwLock::new(Arc::new(files.pair(&held)?))));
    Ok(Some(Identity { files, seen: Ok(held), shown }))
}

/// The certificate that is shown to new connections, and the files that it follows.
pub(crate) struct Identity {
    files: Files,
    /// What was in the files when they were last looked at, or why that cannot be known.
    seen: Result<Held, String>,
    shown: Arc<Shown>,
}

impl Identity {
    fn settings(&self) -> Arc<ServerConfig> {
        let mut settings = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider speaks the versions that it comes with")
            .with_no_client_auth()
            .with_cert_resolver(self.shown.clone());
        settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(settings)
    }

    /// Looks at the files now and then, as long as it is let.
    async fn follow(mut self) {
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            self.look().await;
        }
    }

    /// Shows what the files hold, if that has changed and can be used; if it cannot, that is told once, and what was shown stays.
    async fn look(&mut self) {
        let found = self.files.read().await.map_err(|error| error.to_string());
        if found == self.seen {
            return;
        }
        let pair = found.clone().and_then(|held| self.files.pair(&held).map_err(|error| error.to_string()));
        match pair {
            Ok(pair) => {
                *self.shown.0.write().expect("no holder of this lock can panic") = Arc::new(pair);
                tracing::info!("the certificate has changed; new connections are shown the new one");
            }
            Err(why) => tracing::warn!("{why}; new connections are shown the certificate from before"),
        }
        self.seen = found;
    }
}

/// Where a certificate and its key lie.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What is written there.
#[derive(Clone, PartialEq, Eq)]
struct Held {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    async fn read(&self) -> Result<Held, NoTls> {
        let read = async |file: &Path| {
            let read = tokio::fs::read(file).await;
            read.map_err(|error| unusable(file, &error))
        };
        Ok(Held { certificate: read(&self.certificate).await?, key: read(&self.key).await? })
    }

    fn pair(&self, held: &Held) -> Result<CertifiedKey, NoTls> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&held.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(&self.certificate, &error))?;
        let key = PrivateKeyDer::from_pem_slice(&held.key).map_err(|error| unusable(&self.key, &error))?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| unusable(&self.certificate, &error))
    }
}

fn unusable(file: &Path, why: &dyn std::error::Error) -> NoTls {
    NoTls { file: file.to_owned(), why: why.to_string() }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The pair that a handshake uses.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().expect("no holder of this lock can panic")))
    }
}

/// A listener whose connections are secure.
pub(crate) struct Secure {
    address: io::Result<SocketAddr>,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl Secure {
    /// Listens until it is stopped.
    pub(crate) fn over(listener: TcpListener, identity: Identity, stop: &CancellationToken) -> Self {
        let (give, ready) = mpsc::channel(READY);
        let address = listener.local_addr();
        let acceptor = TlsAcceptor::from(identity.settings());
        tokio::spawn(stop.clone().run_until_cancelled_owned(greet(listener, acceptor, give)));
        tokio::spawn(stop.clone().run_until_cancelled_owned(identity.follow()));
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::Router;
    use axum::routing::get;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A certificate for `localhost` that signs itself, and its key, as PEM.
    struct Made {
        certificate: String,
        key: String,
    }

    fn made() -> Made {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Made { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn config(folder: &Path) -> TlsConfig {
        let at = |name: &str| Some(folder.join(name));
        TlsConfig { certificate: at("certificate.pem"), key: at("key.pem"), name: None }
    }

    fn write(folder: &Path, certificate: &str, key: &str) {
        std::fs::write(folder.join("certificate.pem"), certificate).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
    }

    /// What a new connection would be shown.
    fn shown(identity: &Identity) -> CertificateDer<'static> {
        identity.shown.0.read().unwrap().cert[0].clone()
    }

    fn certificate(made: &Made) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()
    }

    /// Shakes hands, if the server shows the one certificate that is trusted.
    async fn connect(
        address: SocketAddr,
        trusted: &Made,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate(trusted)).unwrap();
        let settings = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(settings)).connect(name, connection).await
    }

    /// Asks over a connection that stays open, and reads the answer to its end.
    async fn asks(connection: &mut tokio_rustls::client::TlsStream<TcpStream>) -> bool {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            let more = connection.read_buf(&mut answer).await.unwrap();
            assert_ne!(more, 0, "the connection was closed after {answer:?}");
        }
        answer.starts_with(b"HTTP/1.1 200 OK")
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (made(), made());
        write(folder.path(), &old.certificate, &old.key);
        let identity = identity(&config(folder.path())).await.unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let secure = Secure::over(listener, identity, &stop);
        let routes = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(async move { axum::serve(secure, routes).await });
        let mut before = connect(address, &old).await.unwrap();
        assert!(asks(&mut before).await);
        assert!(connect(address, &new).await.is_err(), "the new certificate is not there yet");

        write(folder.path(), &new.certificate, &new.key);
        let began = Instant::now();
        let mut after = loop {
            if let Ok(connection) = connect(address, &new).await {
                break connection;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "the new certificate was never shown");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(asks(&mut after).await);
        assert!(asks(&mut before).await, "a connection of before was cut off");
        assert!(connect(address, &old).await.is_err(), "the old certificate is still shown");
        stop.cancel();
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_leave_the_certificate_from_before() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (made(), made());
        write(folder.path(), &old.certificate, &old.key);
        let mut identity = identity(&config(folder.path())).await.unwrap().unwrap();
        let unusable: [(&str, &str); 4] = [
            ("nonsense", old.key.as_str()),
            (&new.certificate, &old.key),
            (&new.certificate, "nonsense"),
            ("", ""),
        ];
        for (certificate_pem, key) in unusable {
            write(folder.path(), certificate_pem, key);
            identity.look().await;
            assert_eq!(shown(&identity), certificate(&old));
        }
        std::fs::remove_file(folder.path().join("key.pem")).unwrap();
        identity.look().await;
        assert_eq!(shown(&identity), certificate(&old));
        write(folder.path(), &new.certificate, &new.key);
        identity.look().await;
        assert_eq!(shown(&identity), certificate(&new));
    }
}
