//! Asking a server again and again, and what that took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::server::Server;

type Body = Arc<dyn Fn(u64) -> Value + Send + Sync>;

/// What is asked.
pub(crate) struct Ask {
    pub(crate) name: String,
    pub(crate) load: Load,
    path: String,
    body: Option<Body>,
}

impl Ask {
    pub(crate) fn get(name: &str, load: &Load, path: &str) -> Self {
        Self { name: name.to_owned(), load: load.clone(), path: path.to_owned(), body: None }
    }

    pub(crate) fn post(
        name: &str,
        load: &Load,
        path: &str,
        body: impl Fn(u64) -> Value + Send + Sync + 'static,
    ) -> Self {
        Self { body: Some(Arc::new(body)), ..Self::get(name, load, path) }
    }
}

/// How it is asked.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) span: Duration,
    /// Requests a second, shared by the connections; as fast as they are answered if not said.
    pub(crate) rate: Option<f64>,
}

/// What it took.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) cpu_ms: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Measured {
    /// The median of each figure by itself.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            cpu_ms: of(|round| round.cpu_ms),
            per_second: of(|round| round.per_second),
            p50_ms: of(|round| round.p50_ms),
            p99_ms: of(|round| round.p99_ms),
        }
    }
}

/// Numbers the requests of a whole run, so that no two log the same point.
static NUMBER: AtomicU64 = AtomicU64::new(1);

impl Load {
    pub(crate) async fn run(&self, server: &Server, ask: &Ask) -> Measured {
        let (cpu, began) = (server.cpu_ms(), Instant::now());
        let mut connections = tokio::task::JoinSet::new();
        for number in 0..self.connections {
            let (url, body, span) = (server.url(&ask.path), ask.body.clone(), self.span);
            let pace = self.rate.map(|rate| Pace {
                first: began + Duration::from_secs_f64(number as f64 / rate),
                between: Duration::from_secs_f64(self.connections as f64 / rate),
            });
            connections.spawn(async move { connection(&url, body, span, pace).await });
        }
        let mut took: Vec<f64> = connections.join_all().await.concat();
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_ms() - cpu);
        took.sort_by(f64::total_cmp);
        let requests = took.len() as f64;
        Measured {
            cpu_ms: cpu / requests,
            per_second: requests / seconds,
            p50_ms: took[took.len() / 2],
            p99_ms: took[took.len() * 99 / 100],
        }
    }
}

/// When a client's requests are due.
struct Pace {
    first: Instant,
    between: Duration,
}

impl Pace {
    /// Waits until a request is due, and answers that moment: a request that is sent late has been waiting since then.
    async fn due(&self, number: u32) -> Instant {
        let due = self.first + self.between * number;
        tokio::time::sleep_until(due.into()).await;
        due
    }
}

/// One client with one connection; answers how long each request took, in milliseconds.
async fn connection(url: &str, body: Option<Body>, span: Duration, pace: Option<Pace>) -> Vec<f64> {
    let client =
        reqwest::Client::builder().pool_max_idle_per_host(1).build().expect("a plain client can be made");
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < span {
        let request = match &body {
            None => client.get(url),
            Some(body) => client
                .post(url)
                .header("content-type", "application/json")
                .body(body(NUMBER.fetch_add(1, Ordering::Relaxed)).to_string()),
        };
        let asked = match &pace {
            None => Instant::now(),
            Some(pace) => pace.due(took.len() as u32).await,
        };
        let answer = request.send().await.expect("the server answers");
        let status = answer.status();
        let text = answer.bytes().await.expect("the answer arrives");
        took.push(asked.elapsed().as_secs_f64() * 1_000.0);
        assert!(status.is_success(), "{url}: {status} {}", String::from_utf8_lossy(&text));
    }
    took
}

/// Sends a large file and fetches it: megabytes a second each way, and how much memory that took above what was used.
pub(crate) async fn large_file(server: &Server, size: u64) -> (f64, f64, f64) {
    let url = server.artifact_url("0/large/artifacts/large.bin");
    let before = server.memory_mb();
    let watching = server.watch_memory();
    let client = reqwest::Client::new();
    let chunk = Bytes::from((0..1 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<u8>>());
    let chunks = (0..size >> 20).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
    let began = Instant::now();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    let sent = client.put(&url).body(body).send().await.expect("the server takes the file");
    assert!(sent.status().is_success(), "{}", sent.status());
    let up = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut answer = client.get(&url).send().await.expect("the server sends the file");
    let mut received = 0;
    while let Some(chunk) = answer.chunk().await.expect("the file arrives") {
        received += chunk.len() as u64;
    }
    assert_eq!(received, size);
    let down = began.elapsed().as_secs_f64();
    let megabytes = size as f64 / 1e6;
    (megabytes / up, megabytes / down, (watching.most() - before).max(0.0))
}
