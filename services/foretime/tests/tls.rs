//! HTTP over TLS: served when a certificate is set, in both versions of HTTP, and the commands use it too.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{self, Process, folder};

/// Makes a certificate for `localhost` that signs itself.
fn certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("the name is one");
    std::fs::write(folder.join("certificate.pem"), made.cert.pem()).expect("the folder is ours");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("the folder is ours");
}

fn foretime(folder: &Path, listen: &str, what: &[&str]) -> Command {
    let mut command = support::foretime(&["--listen", listen, "--data-dir", "data"], folder);
    command
        .args(what)
        .env("FORETIME_TLS__CERTIFICATE", folder.join("certificate.pem"))
        .env("FORETIME_TLS__KEY", folder.join("key.pem"))
        .env("FORETIME_LOG__FILTER", "warn")
        .env("FORETIME_HTTP__DRAIN_SECONDS", "5");
    command
}

/// Shakes hands in one version of HTTP; answers the connection.
async fn connect(folder: &Path, address: &str, version: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(folder.join("certificate.pem")).expect("it is a PEM file")
    {
        roots.add(certificate.expect("it is a certificate")).expect("it can be trusted");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut settings = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the versions are known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    settings.alpn_protocols = vec![version.to_vec()];
    let name = ServerName::try_from("localhost").expect("it is a name");
    let connection = TcpStream::connect(address).await.expect("it listens");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(settings));
    connector.connect(name, connection).await.expect("hands are shaken")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_everything_is_served_over_tls_and_nothing_in_the_clear() {
    let folder = folder();
    let folder = folder.path();
    certificate(folder);
    let mut process = Process::spawn(&mut foretime(folder, "127.0.0.1:0", &["up"]), folder);
    process.listens();
    let address = process.url.strip_prefix("https://").expect("it says that it is secure").to_owned();

    let mut one = connect(folder, &address, b"http/1.1").await;
    one.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .expect("it is sent");
    let mut answer = String::new();
    one.read_to_string(&mut answer).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ready"), "{answer}");

    let mut two = connect(folder, &address, b"h2").await;
    assert_eq!(two.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // the preface and an empty SETTINGS frame (RFC 9113, 3.4); the answer begins with a SETTINGS frame too
    two.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("it is sent");
    let mut frame = [0u8; 9];
    two.read_exact(&mut frame).await.expect("it answers");
    assert_eq!(frame[3], 4, "{frame:?}");

    let mut plain = TcpStream::connect(&address).await.expect("it listens");
    plain.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("it is sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await; // the connection may be reset
    assert!(!String::from_utf8_lossy(&answer).contains("ready"), "{answer:?}");

    let listed = foretime(folder, &address, &["schedules", "list"]).output().expect("the program starts");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    drop((one, two, plain));
    assert!(process.stop().success());
}

#[test]
fn a_certificate_without_its_key_is_refused_with_what_to_do() {
    let folder = folder();
    certificate(folder.path());
    let mut half = foretime(folder.path(), "127.0.0.1:0", &["up"]);
    let half = half.env_remove("FORETIME_TLS__KEY").output().expect("the program starts");
    let said = String::from_utf8(half.stderr).expect("it is text");
    assert!(said.contains("`tls.key` is not; TLS needs both"), "{said}");
}
