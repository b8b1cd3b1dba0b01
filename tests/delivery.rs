//! Delivery to the real things: an Alertmanager, a mail server, HTTP receivers that verify, refuse and hang.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use domain::Clock;
use domain::definitions::parse_file;
use domain::ids::{IncidentId, NotificationId};
use domain::incident::{Cause, Phase, Severity};
use hmac::{Hmac, KeyInit, Mac};
use journeys::Platform;
use serde_json::{Value, json};
use sha2::Sha256;
use storage::incidents::NewIncident;
use storage::notifications::NewNotification;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::mlflow_client::python;

/// How long anything outside of this process may take.
const PATIENCE: Duration = Duration::from_secs(30);
const SECRET: &str = "known to both";

/// A platform that delivers to channels declared by `toml`, on this machine too, and knows these secrets.
async fn delivering(toml: &str, secrets: &[(&str, &str)]) -> Platform {
    let platform = Platform::telling_this_machine().await;
    deliver(&platform, toml, secrets).await;
    platform
}

async fn deliver(platform: &Platform, toml: &str, secrets: &[(&str, &str)]) {
    let secrets: BTreeMap<String, String> =
        secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    platform.context.shared(|_| monitor::Secrets::given(secrets));
    let mut conn = platform.context.db.acquire().await.unwrap();
    for located in parse_file("test.toml", toml).unwrap() {
        let (kind, name, body) = (located.object.kind(), located.object.name(), located.object.body());
        storage::definitions::save(&mut conn, "default", kind, name, &body, platform.clock.now())
            .await
            .unwrap();
    }
    drop(conn);
    monitor::start(&platform.context).unwrap();
}

/// Polls until `found` answers something.
async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let look = async {
        let mut pause = tokio::time::interval(Duration::from_millis(30));
        loop {
            pause.tick().await;
            if let Some(found) = found().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// An open incident of the monitor `flights`.
async fn incident(platform: &Platform) -> IncidentId {
    let id = IncidentId::new();
    let new = NewIncident {
        id,
        project: "default".to_owned(),
        monitor: "flights".to_owned(),
        registered_model: "late".to_owned(),
        version: 3,
        cause: Cause::InputDrift,
        severity: Severity::Ticket,
        summary: "input-drift in `late` v3: `distance`".to_owned(),
        evidence: json!([{
            "kind": "input", "column": "distance", "measure": "ks_distance", "effect": 0.5, "low": 0.4, "high": 0.6,
            "current": null, "reference": null, "rows": 400,
        }]),
        first_seen: platform.clock.now() - TimeDelta::days(1),
    };
    let mut conn = platform.context.db.acquire().await.unwrap();
    storage::incidents::open(&mut conn, &new, platform.clock.now()).await.unwrap();
    id
}

/// Puts a message about an incident into the outbox.
async fn tell(platform: &Platform, channel: &str, event: &'static str, id: IncidentId) -> NotificationId {
    let mut conn = platform.context.db.acquire().await.unwrap();
    let incident = storage::incidents::get(&mut conn, "default", id).await.unwrap();
    let payload = json!({
        "format": 1, "event": event, "incident": id, "project": "default", "monitor": incident.monitor,
        "model": incident.registered_model, "version": incident.version, "cause": incident.cause,
        "severity": incident.severity, "summary": incident.summary, "since": incident.first_seen,
        "opened_at": incident.opened_at, "resolved_at": incident.resolved_at, "moved": incident.evidence,
        "links": { "incident": format!("/v1/incidents/{id}"), "windows": "/v1/monitors/flights/windows" },
    });
    let note = NewNotification {
        id: NotificationId::new(),
        project: "default".to_owned(),
        incident: Some(id),
        monitor: incident.monitor,
        registered_model: incident.registered_model,
        channel: channel.to_owned(),
        event,
        payload,
        held_back: false,
    };
    storage::notifications::insert(&mut conn, &note, platform.clock.now()).await.unwrap();
    note.id
}

async fn state_of(platform: &Platform, id: NotificationId) -> (String, i32) {
    let mut conn = platform.context.db.acquire().await.unwrap();
    let note = storage::notifications::get(&mut conn, "default", id).await.unwrap();
    (note.state, note.attempts)
}

async fn delivered(platform: &Platform, id: NotificationId) {
    eventually("a delivery", async || (state_of(platform, id).await.0 == "delivered").then_some(())).await;
}

/// An HTTP receiver that keeps what it gets and answers with a status that can be changed.
#[derive(Clone, Default)]
struct Receiver {
    status: Arc<AtomicU16>,
    received: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl Receiver {
    async fn listen() -> (Self, String) {
        let receiver = Self { status: Arc::new(AtomicU16::new(200)), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let routes = axum::Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (receiver, address)
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    async fn bodies(&self) -> Vec<Value> {
        let received = self.received.lock().await;
        received.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let status = StatusCode::from_u16(receiver.status.load(Ordering::SeqCst)).unwrap();
    if status.is_success() {
        receiver.received.lock().await.push((headers, body));
    }
    status
}

#[tokio::test]
async fn a_webhook_can_verify_who_sent_a_message_and_when() {
    let (receiver, address) = Receiver::listen().await;
    let toml = format!(
        "[[channel]]\nname = \"people\"\nwebhook = \"{address}\"\nsecret_env = \"CHANNEL_HOOK_SECRET\""
    );
    let platform = delivering(&toml, &[("CHANNEL_HOOK_SECRET", SECRET)]).await;
    let about = incident(&platform).await;
    let id = tell(&platform, "people", "opened", about).await;
    delivered(&platform, id).await;

    let received = receiver.received.lock().await;
    let (headers, body) = &received[0];
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("x-foretime-delivery"), id.to_string());
    assert_eq!(header("idempotency-key"), id.to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{}.{id}.{body}", header("x-foretime-timestamp")).as_bytes());
    let expected = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    assert_eq!(header("x-foretime-signature"), expected);
    assert!(!body.contains(SECRET));
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_other_channel() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(); // connections wait in its backlog
    let (receiver, address) = Receiver::listen().await;
    let toml = format!(
        "[[channel]]\nname = \"hangs\"\nwebhook = \"http://{}/\"\n[[channel]]\nname = \"works\"\nwebhook = \"{address}\"",
        hanging.local_addr().unwrap()
    );
    let platform = delivering(&toml, &[]).await;
    let about = incident(&platform).await;
    let stuck = tell(&platform, "hangs", "opened", about).await;
    for _ in 0..5 {
        tell(&platform, "works", "reopened", about).await;
    }
    eventually("the working channel's messages", async || (receiver.bodies().await.len() == 5).then_some(()))
        .await;
    assert_eq!(state_of(&platform, stuck).await, ("queued".to_owned(), 0));
}

#[tokio::test]
async fn a_waiting_retry_keeps_nobody_waiting_and_is_not_lost() {
    let (receiver, address) = Receiver::listen().await;
    receiver.answers(503);
    let platform = delivering(&format!("[[channel]]\nname = \"people\"\nwebhook = \"{address}\""), &[]).await;
    let about = incident(&platform).await;
    let first = tell(&platform, "people", "opened", about).await;
    let second = tell(&platform, "people", "resolved", about).await;
    platform.run_jobs().await;
    assert_eq!(state_of(&platform, first).await, ("queued".to_owned(), 1));
    assert_eq!(state_of(&platform, second).await, ("queued".to_owned(), 0)); // its turn comes after the first

    receiver.answers(200);
    platform.clock.advance_to(platform.clock.now() + TimeDelta::seconds(2));
    delivered(&platform, second).await;
    let events: Vec<Value> = receiver.bodies().await.iter().map(|body| body["event"].clone()).collect();
    assert_eq!(events, ["opened", "resolved"]);
}

#[tokio::test]
async fn what_a_receiver_does_not_want_is_a_dead_letter_that_can_be_sent_again() {
    let (receiver, address) = Receiver::listen().await;
    receiver.answers(422);
    let platform = delivering(&format!("[[channel]]\nname = \"people\"\nwebhook = \"{address}\""), &[]).await;
    let about = incident(&platform).await;
    let id = tell(&platform, "people", "opened", about).await;
    eventually("the dead letter", async || {
        platform.clock.advance_to(platform.clock.now() + TimeDelta::minutes(1));
        (state_of(&platform, id).await.0 == "dead").then_some(())
    })
    .await;
    let (_, dead) = platform.call("GET", "/v1/notifications?state=dead", None).await;
    assert_eq!(
        dead[0]["failure"], "channel `people`: the receiver answered 422 Unprocessable Entity",
        "{dead}"
    );

    receiver.answers(200);
    let (status, answer) = platform.call("POST", &format!("/v1/notifications/{id}/retry"), None).await;
    assert_eq!(status, 200, "{answer}");
    delivered(&platform, id).await;
    let (status, answer) = platform.call("POST", &format!("/v1/notifications/{id}/retry"), None).await;
    assert_eq!(status, 409, "{answer}");
}

#[tokio::test]
async fn a_channel_gets_no_more_a_minute_than_it_wants_and_the_rest_later() {
    let (receiver, address) = Receiver::listen().await;
    let toml = format!("[[channel]]\nname = \"people\"\nwebhook = \"{address}\"\nmessages_per_minute = 2");
    let platform = delivering(&toml, &[]).await;
    let about = incident(&platform).await;
    for _ in 0..3 {
        tell(&platform, "people", "reopened", about).await;
    }
    platform.run_jobs().await;
    assert_eq!(receiver.bodies().await.len(), 2);
    platform.clock.advance_to(platform.clock.now() + TimeDelta::seconds(61));
    eventually("the third message", async || (receiver.bodies().await.len() == 3).then_some(())).await;
}

#[tokio::test]
async fn slack_gets_a_text_and_blocks_at_an_address_that_nobody_wrote_down() {
    let (receiver, address) = Receiver::listen().await;
    let toml = "[[channel]]\nname = \"chat\"\nslack_url_env = \"CHANNEL_SLACK_URL\"\nlinks = \"https://foretime.example\"";
    let platform = delivering(toml, &[("CHANNEL_SLACK_URL", &address)]).await;
    let about = incident(&platform).await;
    let id = tell(&platform, "chat", "opened", about).await;
    delivered(&platform, id).await;
    let document = receiver.bodies().await.remove(0);
    assert!(
        document["text"].as_str().unwrap().starts_with("[ticket] late v3: input-drift opened"),
        "{document}"
    );
    assert_eq!(document["blocks"][0]["type"], "header");
    let said = document["blocks"].to_string();
    assert!(said.contains("distance: ks_distance* 0.500 [0.400, 0.600]"), "{said}");
    assert!(said.contains(&format!("<https://foretime.example/v1/incidents/{about}|Incident>")), "{said}");
}

#[tokio::test]
async fn a_channel_can_be_tried_and_says_what_is_wrong_without_its_secret() {
    let (receiver, address) = Receiver::listen().await;
    let toml = format!(
        "[[channel]]\nname = \"works\"\nwebhook = \"{address}\"\n[[channel]]\nname = \"chat\"\nslack_url_env = \"CHANNEL_NOT_SET\"\n\
         [[channel]]\nname = \"gone\"\nslack_url_env = \"CHANNEL_SLACK_URL\""
    );
    let platform = delivering(&toml, &[("CHANNEL_SLACK_URL", "http://127.0.0.1:9/T0/B0/secret")]).await;
    let (status, answer) = platform.call("POST", "/v1/channels/works/test", None).await;
    assert_eq!((status, &answer["channel"]), (200, &json!("works")), "{answer}");
    assert_eq!(receiver.bodies().await[0]["event"], "test");

    let (status, answer) = platform.call("POST", "/v1/channels/chat/test", None).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("$CHANNEL_NOT_SET"), "{answer}");
    let (status, answer) = platform.call("POST", "/v1/channels/gone/test", None).await;
    assert!(status == 503 && !answer.to_string().contains("secret"), "{answer}");
    assert_eq!(platform.call("POST", "/v1/channels/nobody/test", None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_declares_a_channel_can_neither_reach_inside_nor_take_secrets_of_others() {
    let (receiver, address) = Receiver::listen().await;
    let platform = Platform::start().await;
    let port = address.rsplit(':').next().unwrap().trim_end_matches('/');
    let toml = format!(
        "[[channel]]\nname = \"plain\"\nwebhook = \"{address}\"\n\
         [[channel]]\nname = \"inside\"\nwebhook = \"https://localhost:{port}/\"\n\
         [[channel]]\nname = \"chat\"\nslack_url_env = \"DATABASE_URL\""
    );
    deliver(&platform, &toml, &[("DATABASE_URL", &address)]).await;
    for (channel, why) in [
        ("plain", "Allowed schemes are: https. `[webhooks]` in the settings may allow it"),
        ("inside", "must not resolve to a non-public IP address"),
        ("chat", "$DATABASE_URL does not begin with `CHANNEL_`"),
    ] {
        let (status, answer) = platform.call("POST", &format!("/v1/channels/{channel}/test"), None).await;
        assert_eq!(status, 503, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(why), "{answer}");
    }
    assert!(receiver.bodies().await.is_empty(), "nothing may arrive");
}

/// A real mail server that ends when it is dropped.
struct MailServer {
    _process: Child,
    said: Lines<BufReader<ChildStdout>>,
    port: u64,
}

impl MailServer {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    /// One that insists on STARTTLS, and proves who it is by the certificate in a folder.
    async fn private(folder: &Path) -> Self {
        Self::with(&[folder.join("certificate.pem"), folder.join("key.pem")]).await
    }

    async fn with(files: &[PathBuf]) -> Self {
        let mut process = Command::new(python())
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/mail_server.py"), SECRET])
            .args(files)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the Python program starts");
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, said.next_line()).await.unwrap().unwrap();
        let first: Value = serde_json::from_str(&first.expect("it has aiosmtpd: `.ci/setup tests`")).unwrap();
        Self { _process: process, said, port: first["port"].as_u64().unwrap() }
    }

    async fn next_mail(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.said.next_line()).await.unwrap().unwrap();
        serde_json::from_str(&line.unwrap()).unwrap()
    }
}

#[tokio::test]
async fn mail_arrives_as_text_and_html_with_a_picture_inside() {
    let mut server = MailServer::start().await;
    let toml = format!(
        "[[channel]]\nname = \"mail\"\nemail = {{ host = \"127.0.0.1\", port = {}, tls = \"none\", user = \"foretime\", \
         password_env = \"CHANNEL_SMTP_PASSWORD\", from = \"Foretime <foretime@example.org>\", to = [\"ada@example.org\"] }}",
        server.port
    );
    let platform = delivering(&toml, &[("CHANNEL_SMTP_PASSWORD", SECRET)]).await;
    let about = incident(&platform).await;
    let id = tell(&platform, "mail", "opened", about).await;
    delivered(&platform, id).await;

    let mail = server.next_mail().await;
    assert_eq!(mail["to"], json!(["ada@example.org"]));
    assert_eq!(mail["subject"], "[ticket] late v3: input-drift opened");
    assert_eq!(mail["id"], format!("<{id}@foretime>"));
    let parts = mail["parts"].as_array().unwrap();
    let types: Vec<&str> = parts.iter().map(|part| part["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["text/plain", "text/html", "image/png"]);
    let content = |part: usize| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.decode(parts[part]["content"].as_str().unwrap()).unwrap()
    };
    assert!(String::from_utf8(content(0)).unwrap().contains("distance: ks_distance 0.500"));
    let picture = parts[2]["id"].as_str().unwrap().trim_matches(['<', '>']);
    assert!(String::from_utf8(content(1)).unwrap().contains(&format!("src=\"cid:{picture}\"")));
    assert!(content(2).starts_with(b"\x89PNG"));
    let (status, svg) = platform.call("GET", &format!("/v1/incidents/{about}/picture.svg"), None).await;
    assert!(status == 200 && svg.as_str().unwrap().starts_with("<svg"), "{svg}");
}

/// A certificate for this machine that nobody else vouches for, and its key.
fn certificate_in(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("the name is one");
    std::fs::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn mail_goes_by_starttls_to_a_server_of_a_private_authority_and_waits_while_the_wrong_one_is_named() {
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificate_in(own.path());
    certificate_in(other.path());
    let mut server = MailServer::private(own.path()).await;
    let named = other.path().join("certificate.pem");
    let channel = |name: &str, authority: &str| {
        format!(
            "[[channel]]\nname = \"{name}\"\n{authority}\nemail = {{ host = \"localhost\", port = {}, \
             user = \"foretime\", password_env = \"CHANNEL_SMTP_PASSWORD\", from = \"foretime@example.org\", \
             to = [\"ada@example.org\"] }}\n",
            server.port
        )
    };
    let vouched = format!("ca_file = \"{}\"", named.display());
    let toml = channel("mail", &vouched) + &channel("public", "");
    let platform = delivering(&toml, &[("CHANNEL_SMTP_PASSWORD", SECRET)]).await;
    for name in ["mail", "public"] {
        let (status, answer) = platform.call("POST", &format!("/v1/channels/{name}/test"), None).await;
        let said = answer["detail"].as_str().unwrap_or_default();
        assert!(status == 503 && said.contains("certificate"), "{name}: {answer}");
        assert!(!answer.to_string().contains(SECRET), "{answer}");
    }
    let about = incident(&platform).await;
    let id = tell(&platform, "mail", "opened", about).await;
    eventually("a try", async || (state_of(&platform, id).await == ("queued".to_owned(), 1)).then_some(()))
        .await;

    std::fs::copy(own.path().join("certificate.pem"), &named).unwrap();
    platform.clock.advance_to(platform.clock.now() + TimeDelta::hours(1));
    delivered(&platform, id).await;
    assert_eq!(server.next_mail().await["id"], format!("<{id}@foretime>"));

    std::fs::write(&named, "not a certificate").unwrap();
    let (status, answer) = platform.call("POST", "/v1/channels/mail/test", None).await;
    assert!(status == 503 && answer["detail"].as_str().unwrap().contains("holds no certificate"), "{answer}");
}

/// A real Alertmanager on free ports of the loopback that tells `webhook`; it ends when it is dropped.
struct Alertmanager {
    _process: Child,
    _folder: tempfile::TempDir,
    url: String,
    http: reqwest::Client,
}

impl Alertmanager {
    async fn start(webhook: &str) -> Self {
        foretime::Client::new(webhook, None).expect("an HTTP client can be made"); // chooses who does TLS
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("alertmanager.yml");
        let text = format!(
            "route: {{ receiver: test, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h }}\n\
             receivers: [{{ name: test, webhook_configs: [{{ url: '{webhook}', send_resolved: true }}] }}]\n"
        );
        std::fs::write(&settings, text).unwrap();
        let program = std::env::var("FORETIME_TEST_ALERTMANAGER")
            .unwrap_or_else(|_| "/usr/bin/prometheus-alertmanager".to_owned());
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(&program)
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--cluster.listen-address=", "--log.level=error"])
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; `.ci/setup tests` installs it"));
        let started = Self {
            _process: process,
            _folder: folder,
            url: format!("http://{address}"),
            http: reqwest::Client::new(),
        };
        let ready = format!("{}/-/ready", started.url);
        eventually("Alertmanager", async || started.http.get(&ready).send().await.ok()).await;
        started
    }

    async fn alerts(&self) -> Vec<Value> {
        let answer = self.http.get(format!("{}/api/v2/alerts", self.url)).send().await.unwrap();
        answer.json().await.unwrap()
    }
}

fn ends_at(alert: &Value) -> DateTime<Utc> {
    alert["endsAt"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_alertmanager_fires_once_is_kept_up_to_date_and_resolves() {
    let (receiver, webhook) = Receiver::listen().await;
    let alertmanager = Alertmanager::start(&webhook).await;
    let toml = format!(
        "[[channel]]\nname = \"ops\"\nalertmanager = \"{}\"\nresend_seconds = 1\n\
         [[monitor]]\nname = \"flights\"\nmodel = \"late\"\nchannels = [\"ops\"]",
        alertmanager.url
    );
    let platform = delivering(&toml, &[]).await;
    let about = incident(&platform).await;
    let told = tell(&platform, "ops", "opened", about).await;
    delivered(&platform, told).await;
    let first = eventually("the alert", async || alertmanager.alerts().await.into_iter().next()).await;
    assert_eq!(first["labels"]["alertname"], "ForetimeInputDrift");
    assert_eq!(first["annotations"]["value"], "0.500000");

    let again = eventually("a repetition", async || {
        alertmanager.alerts().await.into_iter().find(|alert| ends_at(alert) > ends_at(&first))
    })
    .await;
    assert_eq!(again["fingerprint"], first["fingerprint"]);
    assert_eq!(alertmanager.alerts().await.len(), 1);
    eventually("the page", async || (!receiver.bodies().await.is_empty()).then_some(())).await;

    let mut conn = platform.context.db.acquire().await.unwrap();
    storage::incidents::set_phase(&mut conn, about, Phase::Resolved, platform.clock.now()).await.unwrap();
    drop(conn);
    tell(&platform, "ops", "resolved", about).await;
    eventually("the end", async || {
        receiver.bodies().await.into_iter().find(|group| group["status"] == "resolved")
    })
    .await;
    let firing = receiver.bodies().await.into_iter().filter(|group| group["status"] == "firing").count();
    assert_eq!(firing, 1, "one alert, told once");
}
