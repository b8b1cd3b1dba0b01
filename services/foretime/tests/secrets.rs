//! Secrets are planted in every setting that may hold one; then everything that is logged, answered and printed, on paths that
//! go well and paths that do not, is searched for them.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::support::{Ground, Process, foretime, request, until};

/// What every planted secret begins with, and what is searched for.
const PLANTED: &str = "pl4nted";

const DEFINITIONS: &str = r#"
[[channel]]
name = "hook"
webhook = "http://127.0.0.1:9/nobody"
secret_env = "CHANNEL_HOOK_KEY"

[[channel]]
name = "slack"
slack_url_env = "CHANNEL_SLACK_URL"

[[channel]]
name = "mail"
email = { host = "127.0.0.1", port = 9, tls = "none", user = "us", password_env = "CHANNEL_MAIL_PASSWORD", from = "a@example.org", to = ["b@example.org"] }

[[source]]
name = "foreign"
columns = { account = "integer", at = "time" }
event_time = "at"
known_time = "at"
query = { connection = "warehouse", sql = "select 1 as account, now() as at" }
"#;

fn planted(what: &str) -> String {
    format!("{PLANTED}-{what}")
}

fn with_secrets(mut command: Command, database: &str) -> Command {
    let with_password = format!("{database}&password={}", planted("database"));
    command
        .env("FORETIME_DATABASE_URL", with_password)
        .env("FORETIME_HTTP__TOKEN", planted("token"))
        .env("FORETIME_ARTIFACTS__SECRET_ACCESS_KEY", planted("s3"))
        .env(
            "FORETIME_CONNECTIONS__WAREHOUSE",
            format!("postgres://us:{}@127.0.0.1:9/db", planted("warehouse")),
        )
        .env("AWS_SECRET_ACCESS_KEY", planted("aws"))
        .env("CHANNEL_HOOK_KEY", planted("hook"))
        .env("CHANNEL_SLACK_URL", format!("http://127.0.0.1:9/services/{}", planted("slack")))
        .env("CHANNEL_MAIL_PASSWORD", planted("mail"))
        .env("FORETIME_LOG__FILTER", "debug");
    command
}

/// All that was answered, to be searched.
struct Answers(String);

impl Answers {
    async fn ask(&mut self, service: &Process, method: &str, path: &str, token: &str, body: &str) -> u16 {
        let request = request(&service.http, &service.url, method, path, None)
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(body.to_owned());
        let answer = request.send().await.expect("it answers");
        let status = answer.status();
        let headers = format!("{:?}", answer.headers());
        let body = answer.text().await.expect("it can be read");
        self.0 += &format!("{path}: {status} {headers} {body}\n");
        status.as_u16()
    }
}

fn searched(what: &str, text: &str) {
    let found: Vec<&str> = text.lines().filter(|line| line.contains(PLANTED)).take(3).collect();
    assert!(found.is_empty(), "a secret is in {what}: {found:?}");
}

/// What a command prints on both outputs.
fn printed(ground: &Ground, arguments: &[&str]) -> String {
    let mut command = with_secrets(foretime(arguments, ground.path()), ground.url());
    let output = command.arg("--data-dir").arg(ground.data_dir()).output().expect("the program starts");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_secret_is_logged_answered_or_printed() {
    let mut ground = Ground::new();
    searched("what `migrate` prints", &printed(&ground, &["migrate"]));
    let names = ["feature-store", "gpt-worker", "monitor", "registry"];
    let services = names.map(|name| ground.start(&mut with_secrets(ground.service(name), ground.url())));
    let [store, worker, monitor, registry] = &services;
    let token = planted("token");
    let mut answers = Answers(String::new());

    let files = serde_json::json!({ "files": BTreeMap::from([("a.toml", DEFINITIONS)]) }).to_string();
    assert_eq!(answers.ask(store, "PUT", "/v1/definitions", &token, &files).await, 200, "{}", answers.0);
    for service in &services {
        for path in ["/metrics", "/healthz", "/readyz", "/health", "/v1/jobs", "/openapi.json", "/nothing"] {
            answers.ask(service, "GET", path, &token, "").await;
        }
        assert_eq!(answers.ask(service, "GET", "/v1/jobs", &planted("wrong"), "").await, 401);
        answers.ask(service, "POST", "/v1/jobs/not-an-id/retry", &token, "{").await;
    }
    for channel in ["hook", "slack", "mail"] {
        let path = format!("/v1/channels/{channel}/test");
        answers.ask(monitor, "POST", &path, &token, "{}").await; // nobody listens: each fails in its own words
    }
    for path in ["/v1/channels", "/v1/definitions", "/v1/audit", "/v1/tokens", "/v1/loop", "/v1/schedules"] {
        answers.ask(monitor, "GET", path, &token, "").await;
        answers.ask(store, "GET", path, &token, "").await;
    }
    answers.ask(worker, "POST", "/v1/predict", &token, r#"{"model":"none","rows":[{}]}"#).await;
    answers.ask(worker, "POST", "/v1/training-jobs", &token, r#"{"model":"none"}"#).await;
    answers.ask(registry, "POST", "/api/2.0/mlflow/runs/create", &token, "[]").await;
    answers.ask(registry, "GET", "/api/2.0/mlflow/registered-models/get?name=none", &token, "").await;
    let failing =
        answers.ask(store, "POST", "/v1/sources/foreign/rows", &token, r#"{"rows":[{"account":"x"}]}"#).await;
    assert!(failing >= 400, "{failing}");
    searched("an answer", &answers.0);

    for arguments in [
        &["config", "explain"][..],
        &["doctor"],
        &["gc", "--dry-run"],
        &["jobs", "list"],
        &["ingest", "foreign"],
        &["backup", "backup"],
    ] {
        searched(&format!("what `{}` prints", arguments.join(" ")), &printed(&ground, arguments));
    }
    searched("`config explain`", &printed(&ground, &["--listen", "0.0.0.0:1", "config", "explain"]));

    // and when the database goes away while they run
    ground.stop_postgres();
    let mut lost = Answers(String::new());
    for service in &services {
        lost.ask(service, "GET", "/v1/jobs", &token, "").await;
        lost.ask(service, "GET", "/readyz", &token, "").await;
    }
    searched("an answer without a database", &lost.0);
    searched("what `doctor` prints without a database", &printed(&ground, &["doctor"]));
    for (name, service) in names.iter().zip(&services) {
        let told = format!("{name} tells of the loss of its database");
        until(&told, Duration::from_secs(20), async || {
            let log = service.log();
            searched(&format!("the log of {name}"), &log);
            log.contains("no job could be claimed")
        })
        .await;
    }
}
