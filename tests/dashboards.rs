//! Dashboards and alert rules are code: every query of theirs is asked of a real Prometheus and a real Postgres after a demo
//! run, and an empty answer is a broken panel.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use prometheus::Prometheus;

/// A query and whose it is.
struct Query {
    of: String,
    text: String,
}

/// Asks every query of the dashboard and of the alert rules of the Foretime at `base_url`, whose database is `database`.
///
/// # Panics
/// If one is refused, or answered by nothing: all of them are named.
pub(crate) async fn every_query_answers(base_url: &str, database: &PgPool) {
    let dashboard = dashboard();
    let mut unanswered = Vec::new();
    for query in sql(&dashboard) {
        let rows = sqlx::query(AssertSqlSafe(query.text)).fetch_all(database).await;
        match rows {
            Ok(rows) if rows.is_empty() => unanswered.push(format!("{}: no row", query.of)),
            Ok(_) => {}
            Err(error) => unanswered.push(format!("{}: {error}", query.of)),
        }
    }
    let prometheus = Prometheus::scraping(base_url).await;
    let rules = prometheus.alert_signals().await;
    for query in promql(&dashboard).into_iter().chain(rules) {
        if let Err(why) = prometheus.answers(&query.text).await {
            unanswered.push(format!("{}: {why}: {}", query.of, query.text));
        }
    }
    assert!(unanswered.is_empty(), "queries without an answer: {unanswered:#?}");
}

#[test]
fn every_panel_has_an_id_and_a_place_of_its_own() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "id {} is used twice", panel["id"]);
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24 && side("h") > 0, "`{}` is out of the grid", panel["title"]);
        for cell in (0..side("h")).flat_map(|y| (0..side("w")).map(move |x| (x, y))) {
            let cell = (side("x") + cell.0, side("y") + cell.1);
            assert!(taken.insert(cell), "`{}` lies on another panel at {cell:?}", panel["title"]);
        }
    }
    assert_eq!(dashboard["schemaVersion"], 42);
}

#[test]
fn panels_name_data_sources_that_are_provided() {
    let provided = read("grafana/provisioning/datasources/foretime.yml");
    for panel in panels(&dashboard()).into_iter().filter(|panel| panel["type"] != "row") {
        for source in [&panel["datasource"], &panel["targets"][0]["datasource"]] {
            let uid = source["uid"].as_str().unwrap();
            assert!(provided.contains(&format!("uid: {uid}\n")), "`{}` reads `{uid}`", panel["title"]);
        }
    }
}

#[test]
fn panels_read_only_the_views_made_for_them() {
    for query in sql(&dashboard()) {
        let words: Vec<&str> = query.text.split_whitespace().collect();
        // `extract(epoch from …)` reads no relation.
        let read = words
            .windows(3)
            .filter(|w| matches!(w[1], "from" | "join") && !w[0].contains("epoch"))
            .map(|w| w[2]);
        for relation in read {
            assert!(relation.starts_with("grafana_"), "`{}` reads `{relation}`", query.of);
        }
    }
}

#[test]
fn every_metric_that_is_shown_or_alerted_on_exists() {
    let known: String = [
        "crates/service-kit",
        "services/feature-store",
        "services/gpt-worker",
        "services/monitor",
        "services/registry",
    ]
    .iter()
    .map(|package| read(&format!("../{package}/src/metrics.rs")))
    .collect();
    let shown: String = promql(&dashboard()).into_iter().map(|query| query.text + " ").collect();
    for name in metric_names(&(shown + &read("prometheus/rules.yml"))) {
        let base =
            ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        assert!(known.contains(&format!("\"{base}\"")), "no service measures `{name}`");
    }
}

#[test]
fn every_alert_fires_on_what_it_names_and_only_then() {
    let promtool = prometheus::program().with_file_name("promtool");
    let asked = Command::new(&promtool)
        .args(["test", "rules", "rules.test.yml"])
        .current_dir(folder().join("prometheus"))
        .output();
    let answer = asked.unwrap_or_else(|error| panic!("{}: {error}", promtool.display()));
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dashboards")
        .canonicalize()
        .expect("the dashboards are there")
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&read("grafana/overview.json")).expect("the dashboard is JSON")
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().expect("a dashboard has panels").iter().collect()
}

/// The texts under `key` of every panel's targets.
fn targets(dashboard: &Value, key: &str) -> Vec<Query> {
    let mut found = Vec::new();
    for panel in panels(dashboard) {
        let texts =
            panel["targets"].as_array().into_iter().flatten().filter_map(|target| target[key].as_str());
        found.extend(texts.map(|text| Query { of: panel["title"].to_string(), text: text.to_owned() }));
    }
    found
}

fn promql(dashboard: &Value) -> Vec<Query> {
    let queries = targets(dashboard, "expr");
    assert!(queries.len() > 5, "the dashboard asks Prometheus next to nothing");
    queries
        .into_iter()
        .map(|query| Query { text: query.text.replace("$__rate_interval", "1m"), ..query })
        .collect()
}

/// All SQL of the dashboard as Grafana would send it over all of time: panels, annotations and variables.
fn sql(dashboard: &Value) -> Vec<Query> {
    let mut queries = targets(dashboard, "rawSql");
    assert!(queries.len() > 5, "the dashboard asks Postgres next to nothing");
    for (list, of, text) in
        [("annotations", "/name", "/target/rawSql"), ("templating", "/name", "/definition")]
    {
        for entry in dashboard[list]["list"].as_array().into_iter().flatten() {
            if let Some(text) = entry.pointer(text).and_then(Value::as_str) {
                queries.push(Query {
                    of: format!("{list} {}", entry.pointer(of).unwrap()),
                    text: text.to_owned(),
                });
            }
        }
    }
    let models = "select distinct registered_model from grafana_daily_predictions";
    queries
        .into_iter()
        .map(|query| {
            let text = query.text.replace("$project", "default").replace("${model:sqlstring}", models);
            Query { text: of_all_time(&text), ..query }
        })
        .collect()
}

/// Grafana's `$__timeFilter(column)` over all of time.
fn of_all_time(sql: &str) -> String {
    let mut parts = sql.split("$__timeFilter(");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (column, rest) = part.split_once(')').expect("the macro's parenthesis is closed");
        text += &format!("{column} between '-infinity' and 'infinity'{rest}");
    }
    text
}

fn metric_names(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("foretime_"))
        .map(str::to_owned)
        .collect()
}

mod prometheus {
    //! A Prometheus of our own on a free port of the loopback; it ends when it is dropped.

    use tokio::process::Child;

    use super::*;

    /// How often it scrapes and evaluates, and how many scrapes make a rate.
    const EVERY: &str = "1s";
    const SCRAPES: f64 = 4.0;
    /// How long it may take to have seen enough.
    const PATIENCE: Duration = Duration::from_secs(60);

    const REMEDY: &str = "`.ci/setup tests` installs it, or set FORETIME_TEST_PROMETHEUS";

    /// Where the server is; its `promtool` lies beside it.
    pub(super) fn program() -> PathBuf {
        std::env::var_os("FORETIME_TEST_PROMETHEUS")
            .map_or_else(|| "/usr/bin/prometheus".into(), PathBuf::from)
    }

    pub(super) struct Prometheus {
        _process: Child, // killed by its id when dropped
        _folder: tempfile::TempDir,
        http: reqwest::Client,
        url: String,
    }

    impl Prometheus {
        /// Starts one and waits until it has scraped `base_url` a few times.
        pub(super) async fn scraping(base_url: &str) -> Self {
            // The first client of a process also chooses who does its TLS; without that, reqwest makes none.
            foretime::Client::new(base_url, None).expect("an HTTP client can be made");
            let folder = tempfile::tempdir().expect("the temporary directory can be written");
            let configuration = folder.path().join("prometheus.yml");
            fs::write(&configuration, settings(base_url)).expect("the folder is ours");
            let address = free_address();
            let program = program();
            let process = tokio::process::Command::new(&program)
                .arg(format!("--config.file={}", configuration.display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .arg("--log.level=error")
                .kill_on_drop(true)
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error}; {REMEDY}", program.display()));
            let http = reqwest::Client::new();
            let started =
                Self { _process: process, _folder: folder, http, url: format!("http://{address}/api/v1") };
            started.wait().await;
            started
        }

        async fn wait(&self) {
            let enough = async {
                let mut pause = tokio::time::interval(Duration::from_millis(200));
                loop {
                    pause.tick().await;
                    let seen =
                        self.query("sum(sum_over_time(up{job=\"foretime\"}[5m]))").await.unwrap_or_default();
                    let seen =
                        seen.first().and_then(|series| series["value"][1].as_str()?.parse::<f64>().ok());
                    if seen.is_some_and(|seen| seen >= SCRAPES) && self.rules().await.iter().all(evaluated) {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, enough)
                .await
                .expect("Prometheus scrapes Foretime and evaluates the rules in time");
        }

        /// Whether anything answers `promql`; if not, why.
        pub(super) async fn answers(&self, promql: &str) -> Result<(), String> {
            match self.query(promql).await? {
                series if series.is_empty() => Err("no series".to_owned()),
                _ => Ok(()),
            }
        }

        async fn query(&self, promql: &str) -> Result<Vec<Value>, String> {
            let answer = self.get("query", &[("query", promql)]).await?;
            match answer["data"]["result"].as_array() {
                Some(series) => Ok(series.clone()),
                None => Err(answer["error"].to_string()),
            }
        }

        /// What stands before the threshold of every alert. An alert is rightly silent; its signal must not be.
        pub(super) async fn alert_signals(&self) -> Vec<Query> {
            let rules = self.rules().await;
            assert!(!rules.is_empty(), "Prometheus loaded no rule");
            rules.iter().map(signal).collect()
        }

        async fn rules(&self) -> Vec<Value> {
            let answer = self.get("rules", &[]).await.unwrap_or_default();
            let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
        }

        async fn get(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
            let url = format!("{}/{what}", self.url);
            let url = reqwest::Url::parse_with_params(&url, parameters).expect("the address is a URL");
            let answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
            answer.json().await.map_err(|error| error.to_string())
        }
    }

    fn evaluated(rule: &Value) -> bool {
        assert!(rule["health"] != "err", "{}: {}", rule["name"], rule["lastError"]);
        rule["health"] == "ok"
    }

    fn signal(rule: &Value) -> Query {
        let text = rule["query"].as_str().expect("a rule has a query");
        let ends = [" == ", " > ", " < "];
        let signal = ends.iter().find_map(|end| text.rsplit_once(end)).map(|(signal, _)| signal.to_owned());
        let of = format!("alert {}", rule["name"]);
        Query { text: signal.unwrap_or_else(|| panic!("{of} does not end in its threshold: {text}")), of }
    }

    fn settings(base_url: &str) -> String {
        let target = base_url.trim_start_matches("http://").trim_end_matches('/');
        let rules = folder().join("prometheus/rules.yml");
        format!(
            "global: {{ scrape_interval: {EVERY}, evaluation_interval: {EVERY} }}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{ job_name: foretime, static_configs: [{{ targets: ['{target}'] }}] }}]\n",
            rules.display()
        )
    }

    /// An address that was free a moment ago.
    fn free_address() -> std::net::SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        listener.local_addr().expect("a bound listener has an address")
    }
}
