//! Talking to a running Foretime over HTTP, as any program would.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use domain::ids::JobId;
use frames::Frame;
use reqwest::{ClientBuilder, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use service_kit::Config;

use crate::Failure;

/// A client of one Foretime.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

fn builder() -> ClientBuilder {
    // The first provider of a process wins; a second installation is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(600))
}

/// What talks only to who shows this certificate, or one that it signed.
fn trusting(certificate: &Path) -> Result<ClientBuilder, Failure> {
    let unusable = |why: String| Failure(format!("`{}` cannot be used: {why}", certificate.display()));
    let text = std::fs::read(certificate).map_err(|error| unusable(error.to_string()))?;
    let chain = reqwest::Certificate::from_pem_bundle(&text).map_err(|error| unusable(error.to_string()))?;
    Ok(builder().tls_certs_only(chain))
}

/// What the server answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Client {
    /// A client of the Foretime at `base`.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Failure> {
        Self::over(builder(), base, token)
    }

    fn over(builder: ClientBuilder, base: &str, token: Option<String>) -> Result<Self, Failure> {
        let http =
            builder.build().map_err(|error| Failure(format!("no HTTP client can be made: {error}")))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token })
    }

    /// A client of the Foretime that this configuration describes.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn of(config: &Config) -> Result<Self, Failure> {
        use secrecy::ExposeSecret;
        let token = config.http.token.as_ref().map(|token| token.expose_secret().to_owned());
        let Some(certificate) = &config.tls.certificate else {
            return Self::new(&format!("http://{}", config.http.listen), token);
        };
        let name = config.tls.name.as_deref().unwrap_or("localhost");
        let base = format!("https://{name}:{}", config.http.listen.port());
        Self::over(trusting(certificate)?.resolve(name, config.http.listen), &base, token)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        let response = request.send().await.map_err(|error| self.nobody(&error))?;
        let status = response.status();
        let bytes =
            response.bytes().await.map_err(|error| Failure(format!("the answer was cut off: {error}")))?;
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) })
    }

    /// Sends JSON; anything but success is an answer too.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, path);
        self.send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// Sends JSON and expects success.
    pub(crate) async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.call(method, path, body).await?.success()
    }

    /// Fetches a text and expects success.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Failure> {
        let response = self.request(Method::GET, path).send().await.map_err(|error| self.nobody(&error))?;
        let status = response.status();
        let text =
            response.text().await.map_err(|error| Failure(format!("the answer was cut off: {error}")))?;
        if status.is_success() {
            return Ok(text);
        }
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Err(Failure(Answer { status, body }.said()))
    }

    fn nobody(&self, error: &reqwest::Error) -> Failure {
        // the outer ones say that a request failed, and of which address
        let cause =
            std::iter::successors(Some(error as &dyn std::error::Error), |cause| cause.source()).last();
        let cause = cause.map(ToString::to_string).unwrap_or_default();
        Failure(format!(
            "nobody answers at {}: {cause}; is `foretime up` running there? (`--listen` or `http.listen` says where to ask)",
            self.base
        ))
    }

    /// Sends JSON by POST and expects success.
    ///
    /// # Errors
    /// What the server refused.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json(Method::POST, path, Some(body)).await
    }

    /// Applies definition files by name.
    ///
    /// # Errors
    /// What the server refused.
    pub async fn apply(&self, files: &BTreeMap<String, String>, dry_run: bool) -> Result<Value, Failure> {
        let path = format!("/v1/definitions?dry_run={dry_run}");
        self.json(Method::PUT, &path, Some(&json!({ "files": files }))).await
    }

    /// Applies definition files by name; `new_versions` lets views begin new versions.
    ///
    /// # Errors
    /// What the server refused.
    pub(crate) async fn apply_with(
        &self,
        files: &BTreeMap<String, String>,
        dry_run: bool,
        new_versions: bool,
    ) -> Result<Value, Failure> {
        let path = format!("/v1/definitions?dry_run={dry_run}&allow_new_versions={new_versions}");
        self.json(Method::PUT, &path, Some(&json!({ "files": files }))).await
    }

    /// Pushes rows of a source as text: `content_type` says whether it is JSON or one JSON object a line.
    ///
    /// # Errors
    /// What the server refused.
    pub(crate) async fn push_text(
        &self,
        source: &str,
        content_type: &str,
        body: String,
        key: Option<&str>,
    ) -> Result<Value, Failure> {
        let mut request = self.request(Method::POST, &format!("/v1/sources/{source}/rows"));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request.header("content-type", content_type).body(body)).await?.success()
    }

    /// Pushes rows of a source. `to` is `online`, `offline` or `online_and_offline`.
    ///
    /// # Errors
    /// What the server refused.
    pub async fn push(
        &self,
        source: &str,
        rows: &Frame,
        to: &str,
        key: Option<&str>,
    ) -> Result<Value, Failure> {
        let mut request = self.request(Method::POST, &format!("/v1/sources/{source}/rows?to={to}"));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = frames::wire::write_stream(rows)?;
        self.send(request.header("content-type", "application/vnd.apache.arrow.stream").body(body))
            .await?
            .success()
    }

    /// Sends a frame as an Arrow stream by POST and expects success.
    pub(crate) async fn post_frame(&self, path: &str, rows: &Frame) -> Result<Value, Failure> {
        let body = frames::wire::write_stream(rows)?;
        let request = self.request(Method::POST, path);
        self.send(request.header("content-type", "application/vnd.apache.arrow.stream").body(body))
            .await?
            .success()
    }

    /// Fetches a file and writes it to `out`, whole or not at all; answers its size.
    pub(crate) async fn download(&self, path: &str, out: &Path) -> Result<u64, Failure> {
        let response = self.request(Method::GET, path).send().await.map_err(|error| self.nobody(&error))?;
        let status = response.status();
        let bytes =
            response.bytes().await.map_err(|error| Failure(format!("the answer was cut off: {error}")))?;
        if !status.is_success() {
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            return Answer { status, body }.success().map(|_| 0);
        }
        Ok(frames::files::write_bytes(out, &bytes)?.bytes)
    }

    /// Waits for a job, telling `watch` what it reports; answers its outcome.
    ///
    /// # Errors
    /// What the job failed of.
    pub async fn wait(&self, job: JobId, mut watch: impl FnMut(&Value)) -> Result<Value, Failure> {
        let mut pause = tokio::time::interval(Duration::from_millis(100));
        loop {
            pause.tick().await;
            let row = self.json(Method::GET, &format!("/v1/jobs/{job}"), None).await?;
            match row["state"].as_str() {
                Some("succeeded") => return Ok(row["outcome"].clone()),
                Some("dead" | "cancelled") => {
                    let why = row["failure"].as_str().unwrap_or("it was cancelled");
                    return Err(Failure(format!(
                        "the job `{}` failed: {why}",
                        row["kind"].as_str().unwrap_or("?")
                    )));
                }
                _ => watch(&row["progress"]),
            }
        }
    }

    /// Enqueues work by a POST that answers `{"job": …}`, and waits for it.
    ///
    /// # Errors
    /// What was refused, or what the job failed of.
    pub async fn work(&self, path: &str, body: &Value, watch: impl FnMut(&Value)) -> Result<Value, Failure> {
        let promised = self.json(Method::POST, path, Some(body)).await?;
        let job = serde_json::from_value(promised["job"].clone())
            .map_err(|error| Failure(format!("the answer names no job: {error}")))?;
        self.wait(job, watch).await
    }
}

impl Answer {
    /// The body of a success, or the problem as a failure.
    pub(crate) fn success(self) -> Result<Value, Failure> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        Err(Failure(self.said()))
    }

    /// What a problem document says.
    pub(crate) fn said(&self) -> String {
        let detail = self.body["detail"].as_str().or(self.body["message"].as_str());
        let title = self.body["title"].as_str().or(self.body["error_code"].as_str());
        match (detail, title) {
            (Some(detail), _) => detail.to_owned(),
            (None, Some(title)) => format!("{title} (status {})", self.status.as_u16()),
            (None, None) => format!("status {}: {}", self.status.as_u16(), self.body),
        }
    }
}

/// A name as one part of a path, or as a value of its query.
pub(crate) fn part(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The definition files of a folder, by name.
///
/// # Errors
/// If the folder or a file in it cannot be read.
pub fn definition_files(folder: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let refused = |path: &Path, error: &std::io::Error| Failure(format!("`{}`: {error}", path.display()));
    let entries = std::fs::read_dir(folder).map_err(|error| {
        let folder = folder.display();
        Failure(format!(
            "`{folder}` cannot be read: {error}; name the folder that holds the definition files (*.toml)"
        ))
    })?;
    let mut files = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|error| refused(folder, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).map_err(|error| refused(&path, &error))?;
            files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text);
        }
    }
    if files.is_empty() {
        return Err(Failure(format!("`{}` holds no definition file (*.toml)", folder.display())));
    }
    Ok(files)
}
