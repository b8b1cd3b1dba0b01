//! Signing a version's files: an OpenSSF model-signing bundle that `pip install model-signing` verifies.
//!
//! The bundle is a sigstore bundle (v0.3) around a DSSE envelope around an in-toto statement (predicate
//! `https://model_signing/signature/v1.0`) that lists every file with its SHA-256. Signed by ECDSA over P-256 with SHA-256.
//!
//! Source: <https://github.com/ossf/model-signing-spec>, <https://github.com/secure-systems-lab/dsse>.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use service_kit::Context;
use sha2::{Digest, Sha256};
use storage::governance::files::VersionFile;
use storage::governance::papers::{self, Signature};
use storage::models::Version;

use crate::files::{frozen, key_of};
use crate::verify::{Looked, State};
use crate::{Error, Registry};

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// A P-256 public key as DER, up to the point itself: algorithm `ecPublicKey`, curve `prime256v1`.
const SPKI_PREFIX: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

/// The key that this registry signs with.
pub(crate) struct SigningKey {
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// Reads the key, or makes one the first time: `keys/signing.pem` in the data directory, PKCS#8, readable by its owner
    /// only. To bring your own, put it there: `openssl pkcs8 -topk8 -nocrypt` turns any P-256 key into that form.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub(crate) async fn of(context: &Context) -> Result<Self, Error> {
        let file = context.data_dir.join("keys").join("signing.pem");
        let reading = tokio::task::spawn_blocking(move || Self::read_or_make(&file));
        reading
            .await
            .map_err(|error| Error::Unreadable(format!("reading the signing key ended early: {error}")))?
    }

    fn read_or_make(file: &Path) -> Result<Self, Error> {
        let unreadable = |why: String| {
            Error::Unreadable(format!(
                "the signing key `{}` cannot be used: {why}; it must be a P-256 key as PKCS#8 PEM",
                file.display()
            ))
        };
        if !file.exists() {
            make(file).map_err(|error| unreadable(error.to_string()))?;
        }
        let key = PrivatePkcs8KeyDer::from_pem_file(file).map_err(|error| unreadable(error.to_string()))?;
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            key.secret_pkcs8_der(),
            &SystemRandom::new(),
        )
        .map_err(|error| unreadable(error.to_string()))?;
        Ok(Self { pair })
    }

    /// The public key as PEM, as OpenSSL writes it.
    pub(crate) fn public_pem(&self) -> String {
        let mut der = hex::decode(SPKI_PREFIX).expect("the constant is hex");
        der.extend_from_slice(self.pair.public_key().as_ref());
        pem("PUBLIC KEY", &der)
    }

    /// SHA-256 of the public key's PEM, in hex: how a bundle names the key.
    pub(crate) fn id(&self) -> String {
        hex::encode(Sha256::digest(self.public_pem()))
    }

    /// Signs the list of files of a model.
    fn sign(&self, model: &str, files: &[VersionFile]) -> Result<Value, Error> {
        let payload = statement(model, files).to_string().into_bytes();
        let failed = |_| Error::Unreadable("the system gave no random numbers to sign with".to_owned());
        let signature = self.pair.sign(&SystemRandom::new(), &encoded(&payload)).map_err(failed)?;
        Ok(json!({
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": { "publicKey": { "hint": self.id() }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": BASE64.encode(&payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{ "sig": BASE64.encode(signature), "keyid": "" }],
            },
        }))
    }

    /// Whether a bundle holds this key's signature over exactly these files.
    fn signed(&self, bundle: &str, files: &[VersionFile]) -> bool {
        let Ok(bundle) = serde_json::from_str::<Value>(bundle) else { return false };
        let envelope = &bundle["dsseEnvelope"];
        let decoded = |value: &Value| value.as_str().and_then(|text| BASE64.decode(text).ok());
        let (Some(payload), Some(signature)) =
            (decoded(&envelope["payload"]), decoded(&envelope["signatures"][0]["sig"]))
        else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.pair.public_key().as_ref());
        let said = serde_json::from_slice::<Value>(&payload).unwrap_or_default();
        key.verify(&encoded(&payload), &signature).is_ok()
            && said["predicate"]["resources"] == resources(files)
    }
}

fn make(file: &Path) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let temporary = folder.join(format!(".signing-{}", uuid::Uuid::new_v4()));
    let mut open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    open.write_all(pem("PRIVATE KEY", key.as_ref()).as_bytes())?;
    open.sync_all()?;
    let placed = std::fs::hard_link(&temporary, file); // fails if another process came first: its key is as good
    std::fs::remove_file(&temporary)?;
    placed.or_else(|error| if file.exists() { Ok(()) } else { Err(error) })
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

/// What is signed: DSSE's pre-authentication encoding of the payload.
fn encoded(payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

/// The in-toto statement: each file with its hash, and the hash of all hashes, in the order of the paths.
fn statement(model: &str, files: &[VersionFile]) -> Value {
    let mut all = Sha256::new();
    for file in in_order(files) {
        all.update(hex::decode(&file.sha256).unwrap_or_default());
    }
    json!({
        "_type": STATEMENT_TYPE,
        "subject": [{ "name": model, "digest": { "sha256": hex::encode(all.finalize()) } }],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": false,
                "ignore_paths": [],
            },
            "resources": resources(files),
        },
    })
}

fn resources(files: &[VersionFile]) -> Value {
    in_order(files)
        .into_iter()
        .map(|file| json!({ "name": file.path, "algorithm": "sha256", "digest": file.sha256 }))
        .collect()
}

/// Paths sort by their names, not by the slashes between them.
fn in_order(files: &[VersionFile]) -> Vec<&VersionFile> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by_key(|file| PathBuf::from(&file.path));
    files
}

/// Signs a version's files as they were first seen, and keeps the bundle.
pub(crate) async fn sign(
    registry: &Registry,
    version: &Version,
    signed_by: &str,
) -> Result<Signature, Error> {
    let files = frozen(registry, version).await?;
    let key = SigningKey::of(&registry.context).await?;
    let signature = Signature {
        bundle: key.sign(&version.model, &files)?.to_string(),
        key_id: key.id(),
        signed_by: signed_by.to_owned(),
        signed_at: registry.context.clock.now(),
    };
    let mut conn = registry.context.db.acquire().await?;
    papers::keep_signature(&mut conn, key_of(registry.project(), version), &signature).await?;
    Ok(signature)
}

/// Whether the kept signature, if there is one, still stands for the files. One of an older key cannot be told from a
/// forged one, so it counts as altered until it is made anew.
pub(crate) async fn look(registry: &Registry, version: &Version) -> Result<Option<Looked>, Error> {
    let mut conn = registry.context.db.acquire().await?;
    let kept = papers::signature_of(&mut conn, key_of(registry.project(), version)).await?;
    drop(conn);
    let Some(kept) = kept else { return Ok(None) };
    let files = frozen(registry, version).await?;
    let key = SigningKey::of(&registry.context).await?;
    let state = if key.signed(&kept.bundle, &files) { State::Intact } else { State::Altered };
    let expected = Some(kept.key_id);
    Ok(Some(Looked {
        what: "signature",
        path: "model.sig".to_owned(),
        expected,
        found: Some(key.id()),
        state,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, contents: &str) -> VersionFile {
        let sha256 = hex::encode(Sha256::digest(contents));
        VersionFile { path: path.to_owned(), sha256, size_bytes: contents.len() as i64 }
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/signing.pem");
        let first = SigningKey::read_or_make(&path).unwrap();
        let second = SigningKey::read_or_make(&path).unwrap();
        assert_eq!(first.id(), second.id());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_signature_stands_for_its_files_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::read_or_make(&folder.path().join("one.pem")).unwrap();
        let files = [file("a.txt", "hi"), file("sub/b.bin", "yo")];
        let bundle = key.sign("late", &files).unwrap().to_string();
        assert!(key.signed(&bundle, &files));
        assert!(!key.signed(&bundle, &[file("a.txt", "ho"), file("sub/b.bin", "yo")]));
        let other = SigningKey::read_or_make(&folder.path().join("two.pem")).unwrap();
        assert!(!other.signed(&bundle, &files));
        assert!(!key.signed("{}", &files));
    }

    #[test]
    fn something_else_than_a_key_is_refused_with_what_it_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.pem");
        std::fs::write(&path, "hello").unwrap();
        let said = SigningKey::read_or_make(&path).map(|key| key.id()).unwrap_err().to_string();
        assert!(said.contains("P-256"), "{said}");
    }
}
