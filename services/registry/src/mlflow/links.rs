//! Signed links: whoever holds one may read or write one path for a while, without showing who they are. They serve uploads in
//! parts (`mpu/…`), parallel downloads (`presigned/…`) and `artifacts/presigned-…-url`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::artifacts::{below, path, put, refused, root_of_run, send, store};
use super::input::Input;
use super::refusal::{Code, Refusal};
use super::{Answer, done, logged_models};
use crate::Registry;
use crate::artifacts::{ArtifactPath, Parts};

/// How long a link holds unless somebody asks for less, in seconds.
const USUAL_SECONDS: i64 = 3_600;
/// The longest that a link may hold, in seconds.
const MOST_SECONDS: i64 = 7 * 24 * 3_600;
/// The most parts of an upload.
const MOST_PARTS: i64 = 10_000;
/// What must be spelled out in the path of a link.
const IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// What a link allows, besides its method and path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Terms {
    project: String,
    /// Until when, in seconds since 1970.
    expires: i64,
    /// A part of an upload instead of the whole file.
    #[serde(default)]
    upload: String,
    #[serde(default)]
    part: u32,
    #[serde(default)]
    signature: String,
}

/// Makes and checks links.
struct Signer {
    key: Vec<u8>,
    base: String,
}

impl Signer {
    async fn of(registry: &Registry, headers: &HeaderMap) -> Result<Self, Refusal> {
        let fresh = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat();
        let key = storage::users::secret(&mut *registry.context.db.acquire().await?, "links", &fresh).await?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let scheme = text("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or("http");
        let host = text("x-forwarded-host").or_else(|| text("host")).unwrap_or("localhost");
        Ok(Self { key, base: format!("{scheme}://{host}") })
    }

    fn signature(&self, method: &Method, path: &str, terms: &Terms) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let Terms { project, expires, upload, part, .. } = terms;
        mac.update(format!("{method}\n{path}\n{project}\n{expires}\n{upload}\n{part}").as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    fn link(&self, method: &Method, path: &ArtifactPath, mut terms: Terms) -> String {
        terms.signature = self.signature(method, path.as_str(), &terms);
        let encoded = utf8_percent_encode(path.as_str(), IN_A_PATH);
        let project = utf8_percent_encode(&terms.project, percent_encoding::NON_ALPHANUMERIC);
        let Terms { expires, upload, part, signature, .. } = &terms;
        let base = &self.base;
        format!(
            "{base}/presigned/{encoded}?project={project}&expires={expires}&upload={upload}&part={part}&signature={signature}"
        )
    }
}

fn terms(registry: &Registry, seconds: i64) -> Terms {
    Terms {
        project: registry.project().to_owned(),
        expires: registry.context.clock.now().timestamp() + seconds,
        upload: String::new(),
        part: 0,
        signature: String::new(),
    }
}

/// Lets the holder of a link through.
async fn admit(
    registry: Registry,
    method: &Method,
    path: &str,
    terms: &Terms,
    headers: &HeaderMap,
) -> Result<Registry, Refusal> {
    let signature = Signer::of(&registry, headers).await?.signature(method, path, terms);
    let right: bool = signature.as_bytes().ct_eq(terms.signature.as_bytes()).into();
    if !right || terms.expires < registry.context.clock.now().timestamp() {
        let refusal =
            Refusal::new(Code::PermissionDenied, "the link is not one of this server, or has expired");
        return Err(refusal);
    }
    Ok(Registry { project: terms.project.as_str().into(), ..registry })
}

/// `GET /presigned/<path>`.
pub(crate) async fn follow_to_read(
    registry: Registry,
    Path(text): Path<String>,
    Query(terms): Query<Terms>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let registry = admit(registry, &Method::GET, &text, &terms, &headers).await?;
    send(&registry, &path(&text)?, &headers).await
}

/// `PUT /presigned/<path>`: a file, or a part of an upload.
pub(crate) async fn follow_to_write(
    registry: Registry,
    Path(text): Path<String>,
    Query(terms): Query<Terms>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let registry = admit(registry, &Method::PUT, &text, &terms, &headers).await?;
    if terms.upload.is_empty() {
        return put(&registry, &text, body).await;
    }
    let parts = going_on(&registry, &terms.upload).await?;
    let sha256 = parts.take(terms.part, body.into_data_stream()).await;
    let sha256 = sha256.map_err(|failure| refused(&text, failure))?;
    Ok((StatusCode::OK, [(header::ETAG, format!("\"{sha256}\""))]).into_response())
}

async fn going_on(registry: &Registry, upload: &str) -> Result<Parts, Refusal> {
    let parts = Parts::of(&registry.context.data_dir, upload).await;
    parts.ok_or_else(|| Refusal::missing(format!("No such upload: '{upload}'")))
}

/// The file that an upload is for: the last name of `path`, in the directory of the URL.
fn target(directory: &str, input: &Input) -> Result<ArtifactPath, Refusal> {
    let name = input.required("path")?;
    let name = name.rsplit('/').next().unwrap_or(name);
    path(&format!("{}/{name}", directory.trim_end_matches('/')))
}

/// `mpu/create/<directory>`.
pub(crate) async fn begin_parts(
    registry: Registry,
    Path(directory): Path<String>,
    headers: HeaderMap,
    input: Input,
) -> Answer {
    let target = target(&directory, &input)?;
    let count = input.whole("num_parts")?.unwrap_or(1);
    if !(1..=MOST_PARTS).contains(&count) {
        return Err(Refusal::invalid(format!(
            "num_parts must be between 1 and {MOST_PARTS}, but is {count}"
        )));
    }
    let signer = Signer::of(&registry, &headers).await?;
    let upload = Parts::begin(&registry.context.data_dir).await;
    let upload = upload.map_err(|error| refused(target.as_str(), error.into()))?;
    let credential = |part: i64| {
        let part = u32::try_from(part).unwrap_or_default();
        let terms = Terms { upload: upload.clone(), part, ..terms(&registry, MOST_SECONDS) };
        json!({ "url": signer.link(&Method::PUT, &target, terms), "part_number": part, "headers": {} })
    };
    let credentials: Vec<Value> = (1..=count).map(credential).collect();
    Ok(Json(json!({ "upload_id": upload, "credentials": credentials })))
}

/// `mpu/complete/<directory>`.
pub(crate) async fn complete_parts(
    registry: Registry,
    Path(directory): Path<String>,
    input: Input,
) -> Answer {
    let target = target(&directory, &input)?;
    let parts = going_on(&registry, input.required("upload_id")?).await?;
    let number = |part: Input| {
        let number = part.required_whole("part_number")?;
        u32::try_from(number).map_err(|_| Refusal::invalid(format!("there is no part {number}")))
    };
    let mut numbers = input.items("parts")?.into_iter().map(number).collect::<Result<Vec<u32>, _>>()?;
    numbers.sort_unstable();
    let joined = parts.join(&numbers).await.map_err(|failure| refused(target.as_str(), failure))?;
    let kept = store(&registry)?.keep(&target, joined).await;
    kept.map_err(|failure| refused(target.as_str(), failure))?;
    parts.end().await.map_err(|error| refused(target.as_str(), error.into()))?;
    done()
}

/// `mpu/abort/<directory>`.
pub(crate) async fn abort_parts(registry: Registry, Path(directory): Path<String>, input: Input) -> Answer {
    let target = target(&directory, &input)?;
    let parts = going_on(&registry, input.required("upload_id")?).await?;
    parts.end().await.map_err(|error| refused(target.as_str(), error.into()))?;
    done()
}

/// `presigned/<path>`: a link by which a file can be read in ranges.
pub(crate) async fn to_read(registry: Registry, Path(text): Path<String>, headers: HeaderMap) -> Answer {
    let path = path(&text)?;
    let file = store(&registry)?.open(&path).await.map_err(|failure| refused(&text, failure))?;
    let url =
        Signer::of(&registry, &headers).await?.link(&Method::GET, &path, terms(&registry, USUAL_SECONDS));
    Ok(Json(json!({ "url": url, "headers": {}, "file_size": file.size_bytes })))
}

fn seconds(input: &Input) -> Result<i64, Refusal> {
    Ok(input.whole("expiration")?.unwrap_or(USUAL_SECONDS).clamp(1, MOST_SECONDS))
}

/// `artifacts/presigned-upload-url`: for a file of a run or of a logged model.
pub(crate) async fn to_upload(registry: Registry, headers: HeaderMap, input: Input) -> Answer {
    let text = input.required("path")?;
    let root = match input.text("model_id")?.filter(|id| !id.is_empty()) {
        None => root_of_run(&registry, input.run_id()?).await?,
        Some(id) => {
            let mut conn = registry.context.db.acquire().await?;
            logged_models::find(&registry, &mut conn, id).await?.artifact_uri
        }
    };
    let (path, terms) = (below(&root, text)?, terms(&registry, seconds(&input)?));
    let url = Signer::of(&registry, &headers).await?.link(&Method::PUT, &path, terms);
    Ok(Json(json!({ "presigned_url": url })))
}

/// `artifacts/presigned-download-url`: for a file of a run.
pub(crate) async fn to_download(registry: Registry, headers: HeaderMap, input: Input) -> Answer {
    let root = root_of_run(&registry, input.run_id()?).await?;
    let (path, terms) = (below(&root, input.required("path")?)?, terms(&registry, seconds(&input)?));
    let file = store(&registry)?.open(&path).await.map_err(|failure| refused(path.as_str(), failure))?;
    let url = Signer::of(&registry, &headers).await?.link(&Method::GET, &path, terms);
    Ok(Json(json!({ "presigned_url": url, "file_size": file.size_bytes })))
}
