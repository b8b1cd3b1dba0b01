//! Boards and alert rules are code: their types are Grafana's own, every query of theirs is asked of a real Prometheus and, as the
//! boards' own role, of a real Postgres after a demo run, and an empty answer is a broken panel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use prometheus::Prometheus;

/// What the boards are, in the order of their links.
const BOARDS: [&str; 5] = ["overview", "drift", "calibration", "training", "serving"];

/// No query of a board may take longer than this on a quick demo.
const PATIENCE_WITH_SQL: &str = "5s";

/// A query and whose it is.
struct Query {
    of: String,
    text: String,
}

/// Asks every query of the boards and of the alert rules of the Foretime at `base_url`, whose database is `database`.
///
/// # Panics
/// If one is refused, or answered by nothing: all of them are named.
pub(crate) async fn every_query_answers(base_url: &str, database: &PgPool) {
    let reader = reader(database).await;
    reads_nothing_else(database, &reader).await;
    let mut unanswered = Vec::new();
    for board in boards().values() {
        let variables = variables(board, &reader, &mut unanswered).await;
        for query in sql(board) {
            let text = of_all_time(&interpolate(&query.text, &variables));
            match ask(&reader, &text).await {
                Ok(rows) if rows.iter().any(says_something) => {}
                Ok(_) => unanswered.push(format!("{}: nothing: {text}", query.of)),
                Err(error) => unanswered.push(format!("{}: {error}: {text}", query.of)),
            }
        }
    }
    assert!(unanswered.is_empty(), "queries without an answer: {unanswered:#?}");
    every_exposed_metric_is_told_of(base_url).await;

    let prometheus = Prometheus::scraping(base_url).await;
    let mut asked: Vec<Query> = boards().values().flat_map(promql).collect();
    assert!(asked.len() > 10, "the boards ask Prometheus next to nothing");
    asked.extend(prometheus.alert_signals().await);
    tokio::select! {
        () = prometheus.answer_in_time(asked) => {}
        () = traffic(base_url) => {}
    }
}

/// What is exposed stands in the table of metrics, under the type that it has there.
async fn every_exposed_metric_is_told_of(base_url: &str) {
    let exposed = reqwest::get(format!("{base_url}/metrics")).await.unwrap().text().await.unwrap();
    let table = foretime::metrics::document();
    let families: Vec<&str> =
        exposed.lines().filter_map(|line| line.strip_prefix("# TYPE foretime_")).collect();
    assert!(families.len() > 20, "a run of the demo exposes more than {families:?}");
    for family in families {
        let (name, kind) = family.split_once(' ').unwrap();
        assert!(
            table.contains(&format!("| `foretime_{name}` | {kind} |")),
            "`foretime_{name}` is not told of"
        );
    }
}

/// A pool as the role that the boards use, on the server of `database`.
async fn reader(database: &PgPool) -> PgPool {
    let grants = read("postgres/reader.sql").replace(":'password'", "'not a secret'");
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(database).await.expect("the role can be made");
    let options = (*database.connect_options()).clone().username("grafana_reader").password("not a secret");
    let options = options.options([("statement_timeout", PATIENCE_WITH_SQL)]);
    PgPoolOptions::new().max_connections(2).connect_with(options).await.expect("the role may connect")
}

async fn reads_nothing_else(database: &PgPool, reader: &PgPool) {
    let readable = "select relname::text from pg_class c where relkind in ('r', 'p', 'v', 'm', 'f', 'S')
        and relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        and case relkind when 'S' then has_sequence_privilege('grafana_reader', c.oid, 'select, usage')
            else has_table_privilege('grafana_reader', c.oid, 'select, insert, update, delete') end order by 1";
    let readable: Vec<String> = sqlx::query_scalar(readable).fetch_all(database).await.unwrap();
    assert!(!readable.is_empty() && readable.iter().all(|name| name.starts_with("grafana_")), "{readable:?}");
    for refused in [
        "select * from jobs",
        "select payload from notifications",
        "insert into grafana_incidents default values",
        "create table grafana_mine (id integer)",
        "set role postgres",
        "select pg_read_file('/etc/passwd')",
    ] {
        let error = sqlx::query(refused).execute(reader).await.expect_err(refused);
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .unwrap_or_default()
            .into_owned();
        // Not privileged, or a read-only transaction.
        assert!(["42501", "25006"].contains(&code.as_str()), "{refused}: {code}: {error}");
    }
}

/// The rows of a query as JSON.
async fn ask(reader: &PgPool, text: &str) -> Result<Vec<Value>, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(format!("select to_jsonb(answer) from ({text}) answer")))
        .fetch_all(reader)
        .await
}

/// Whether a row holds a value that is not its time.
fn says_something(row: &Value) -> bool {
    row.as_object().is_some_and(|row| row.iter().any(|(name, value)| name != "time" && !value.is_null()))
}

/// What each variable stands for at first: all its values where all may be chosen, else the first.
async fn variables(
    board: &Value,
    reader: &PgPool,
    unanswered: &mut Vec<String>,
) -> BTreeMap<String, Vec<String>> {
    let mut known = BTreeMap::new();
    for variable in list(&board["templating"]["list"]) {
        let (name, text) = (text(&variable["name"]), text(&variable["query"]));
        let rows = ask(reader, &interpolate(text, &known)).await;
        let rows = rows.unwrap_or_else(|error| panic!("{}: variable `{name}`: {error}", board["title"]));
        let value = |row: &Value| {
            let row = row.as_object().expect("a row is an object");
            let value = row.get("__value").or_else(|| row.values().next()).expect("a variable has a column");
            value.as_str().expect("variables are texts").to_owned()
        };
        let mut values: Vec<String> = rows.iter().map(value).collect();
        if values.is_empty() {
            unanswered.push(format!("{}: variable `{name}` has no value", board["title"]));
        }
        if variable["multi"] != true {
            values.truncate(1);
        }
        known.insert(name.to_owned(), values);
    }
    known
}

/// `${name:sqlstring}` as Grafana writes it: quoted, with commas between.
fn interpolate(text: &str, variables: &BTreeMap<String, Vec<String>>) -> String {
    variables.iter().fold(text.to_owned(), |text, (name, values)| {
        let quoted: Vec<String> =
            values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
        text.replace(&format!("${{{name}:sqlstring}}"), &quoted.join(","))
    })
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

/// Asks, reads, pushes and checks without end, so that rates and quantiles have something to say.
async fn traffic(base_url: &str) {
    let client = foretime::Client::new(base_url, None).expect("an HTTP client can be made");
    for round in 0_u64.. {
        // Parity follows one entity in a thousand, so many are asked about.
        let aircraft: Vec<Value> =
            (0..500).map(|n| json!({ "tailnum": format!("N{}", round * 500 + n) })).collect();
        let features = ["aircraft_arrivals:arr_delay_mean_7d", "aircraft:seats"];
        let weather = json!([{
            "origin": "LGA", "obs_ts": "2013-12-31T20:00:00Z", "published_ts": "2013-12-31T21:00:00Z", "temp": 30.0,
            "dewp": 20.0, "humid": 50.0, "wind_dir": 10.0, "wind_speed": 5.0, "wind_gust": null, "precip": 0.0,
            "pressure": 1010.0, "visib": 10.0,
        }]);
        for (path, body) in [
            ("/v1/predict", json!({ "model": "late-arrival", "rows": [flight()] })),
            ("/v1/features/online", json!({ "features": features, "entities": aircraft })),
            ("/v1/sources/weather/rows", json!({ "rows": weather })),
            ("/v1/parity", json!({})),
        ] {
            client.post(path, &body).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn flight() -> Value {
    json!({
        "carrier": "WN", "flight": 1, "origin": "LGA", "dest": "MDW", "tailnum": "N700GS", "distance": 725.0,
        "block_min": 150.0, "sched_dep_ts_text": "0", "sched_dep_ts": "2014-01-01T15:00:00Z",
        "event_time": "2014-01-01T15:00:00Z",
    })
}

#[test]
fn the_boards_are_what_their_typed_sources_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut build = Command::new(self::folder().join("build"));
    let built = build.arg(folder.path()).env("FORETIME_TEST_NODE", node()).output().expect("bash runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&built.stdout), String::from_utf8_lossy(&built.stderr));
    assert!(built.status.success(), "Grafana's schema does not take the sources:\n{said}");
    for name in BOARDS {
        let written = fs::read_to_string(folder.path().join(format!("{name}.json"))).unwrap();
        assert!(
            written == read(&format!("grafana/boards/{name}.json")),
            "`make dashboards` writes another {name}.json"
        );
    }
    let kept: BTreeSet<String> = names_in(&self::folder().join("grafana/boards"));
    assert_eq!(kept, BOARDS.map(|name| format!("{name}.json")).into(), "a board has no source");
}

#[test]
fn a_type_that_grafana_does_not_know_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["build", "source"] {
        let copied = Command::new("cp").arg("-r").arg(self::folder().join(name)).arg(folder.path()).status();
        assert!(copied.unwrap().success());
    }
    let house = folder.path().join("source/house.ts");
    let wrong = fs::read_to_string(&house).unwrap().replace("BigValueColorMode.Value", "'rainbow'");
    fs::write(&house, wrong).unwrap();
    let mut build = Command::new(folder.path().join("build"));
    let built = build.arg(folder.path().join("out")).env("FORETIME_TEST_NODE", node()).output().unwrap();
    assert!(!built.status.success());
    assert!(String::from_utf8_lossy(&built.stdout).contains("'\"rainbow\"' is not assignable"), "{built:?}");
}

#[test]
fn every_panel_has_an_id_and_a_place_of_its_own() {
    for board in boards().values() {
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in list(&board["panels"]) {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "id {} is used twice", panel["id"]);
            let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(side("x") + side("w") <= 24 && side("h") > 0, "`{}` is out of the grid", panel["title"]);
            for cell in (0..side("h")).flat_map(|y| (0..side("w")).map(move |x| (x, y))) {
                let cell = (side("x") + cell.0, side("y") + cell.1);
                assert!(taken.insert(cell), "`{}` lies on another panel at {cell:?}", panel["title"]);
            }
        }
        assert_eq!(board["schemaVersion"], 42);
    }
}

#[test]
fn every_panel_says_what_it_shows() {
    for board in boards().values() {
        for panel in shown(board) {
            let described = panel["description"].as_str().is_some_and(|text| text.len() > 10);
            assert!(described, "`{}` of {} has no description", panel["title"], board["title"]);
            assert!(!list(&panel["targets"]).is_empty(), "`{}` asks nothing", panel["title"]);
        }
    }
}

#[test]
fn links_lead_to_boards_and_variables_that_exist() {
    let boards = boards();
    let known: BTreeMap<&str, BTreeSet<&str>> =
        boards.values().map(|board| (text(&board["uid"]), names(board))).collect();
    let mut followed = 0;
    for board in boards.values() {
        for url in links(board) {
            let path = url.strip_prefix("/d/").unwrap_or_else(|| panic!("{url} leads out of Grafana"));
            let (uid, query) = path.split_once('?').expect("a link says what it shows");
            let variables = known.get(uid).unwrap_or_else(|| panic!("{url} leads to no board"));
            for name in query
                .split('&')
                .filter_map(|part| part.strip_prefix("var-")?.split_once('='))
                .map(|pair| pair.0)
            {
                assert!(variables.contains(name), "{url}: `{uid}` has no variable `{name}`");
            }
            followed += 1;
        }
    }
    assert!(followed > 8, "the boards hardly lead anywhere: {followed} links");
}

#[test]
fn queries_name_only_variables_of_their_board() {
    for board in boards().values() {
        let known = names(board);
        for query in sql(board) {
            for part in query.text.split("${").skip(1) {
                let name = part.strip_suffix('}').unwrap_or(part).split([':', '}']).next().unwrap();
                assert!(known.contains(name), "{} names `{name}`", query.of);
                assert!(
                    part.starts_with(&format!("{name}:sqlstring}}")),
                    "{} does not quote `{name}`",
                    query.of
                );
            }
        }
    }
}

#[test]
fn panels_name_data_sources_that_are_provided() {
    let provided = read("grafana/provisioning/datasources/foretime.yml");
    for board in boards().values() {
        for panel in shown(board) {
            for target in list(&panel["targets"]) {
                let uid = text(&target["datasource"]["uid"]);
                assert!(provided.contains(&format!("uid: {uid}\n")), "`{}` reads `{uid}`", panel["title"]);
            }
        }
    }
}

#[test]
fn every_metric_that_is_shown_or_alerted_on_exists() {
    let known = foretime::metrics::document();
    let shown: String = boards().values().flat_map(promql).map(|query| query.text + " ").collect();
    for name in metric_names(&(shown + &read("prometheus/rules.yml"))) {
        let base =
            ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        assert!(known.contains(&format!("| `{base}` |")), "no service measures `{name}`");
    }
}

#[test]
fn every_alert_fires_on_what_it_names_and_only_then() {
    succeeds(beside_prometheus("promtool").args(["test", "rules", "rules.test.yml"]));
}

#[test]
fn prometheus_and_alertmanager_take_their_settings() {
    // Only the syntax: the token lies where compose mounts it.
    succeeds(beside_prometheus("promtool").args(["check", "config", "--syntax-only", "prometheus.yml"]));
    succeeds(beside_prometheus("promtool").args([
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        "rules.yml",
    ]));
    let alertmanager = std::env::var_os("FORETIME_TEST_ALERTMANAGER");
    let alertmanager = alertmanager.map_or_else(|| "/usr/bin/prometheus-alertmanager".into(), PathBuf::from);
    let settings = folder().join("alertmanager/alertmanager.yml");
    succeeds(Command::new(alertmanager.with_file_name("amtool")).arg("check-config").arg(settings));
}

fn beside_prometheus(program: &str) -> Command {
    let mut command = Command::new(prometheus::program().with_file_name(program));
    command.current_dir(folder().join("prometheus"));
    command
}

fn succeeds(command: &mut Command) {
    let answer = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    assert!(answer.status.success(), "{command:?}: {said}");
}

/// Where `.ci/setup tests` put Grafana's schema: `FORETIME_TEST_NODE`, or beside the target directory.
fn node() -> PathBuf {
    if let Some(node) = std::env::var_os("FORETIME_TEST_NODE") {
        return node.into();
    }
    let test_program = std::env::current_exe().expect("a running program has a path");
    let beside = |folder: &Path| folder.join("node/bin/node").exists().then(|| folder.join("node"));
    test_program.ancestors().find_map(beside).expect(
        "Grafana's schema was not found: run `make test`, which installs it, or set FORETIME_TEST_NODE",
    )
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dashboards")
        .canonicalize()
        .expect("the dashboards are there")
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn boards() -> BTreeMap<&'static str, Value> {
    let board =
        |name| serde_json::from_str(&read(&format!("grafana/boards/{name}.json"))).expect("a board is JSON");
    BOARDS.into_iter().map(|name| (name, board(name))).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

/// The panels that are not titles of rows.
fn shown(board: &Value) -> impl Iterator<Item = &Value> {
    list(&board["panels"]).iter().filter(|panel| panel["type"] != "row")
}

/// The names of the board's variables.
fn names(board: &Value) -> BTreeSet<&str> {
    list(&board["templating"]["list"]).iter().map(|variable| text(&variable["name"])).collect()
}

/// Where the panels and their fields lead.
fn links(board: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for panel in shown(board) {
        let config = &panel["fieldConfig"];
        let properties = list(&config["overrides"]).iter().flat_map(|field| list(&field["properties"]));
        let of_fields =
            properties.filter(|property| property["id"] == "links").map(|property| &property["value"]);
        let all = of_fields.chain([&config["defaults"]["links"]]).flat_map(list);
        found.extend(all.map(|link| text(&link["url"]).to_owned()));
    }
    found
}

/// The texts under `key` of every panel's targets.
fn targets(board: &Value, key: &str) -> Vec<Query> {
    let of = |panel: &Value| format!("{}: {}", text(&board["title"]), text(&panel["title"]));
    let mut found = Vec::new();
    for panel in shown(board) {
        let texts = list(&panel["targets"]).iter().filter_map(|target| target[key].as_str());
        found.extend(texts.map(|text| Query { of: of(panel), text: text.to_owned() }));
    }
    found
}

fn promql(board: &Value) -> Vec<Query> {
    let queries = targets(board, "expr").into_iter();
    queries.map(|query| Query { text: query.text.replace("$__rate_interval", "1m"), ..query }).collect()
}

/// The SQL of a board's panels and annotations.
fn sql(board: &Value) -> Vec<Query> {
    let mut queries = targets(board, "rawSql");
    for annotation in list(&board["annotations"]["list"]) {
        let of = format!("{}: annotation {}", board["title"], annotation["name"]);
        queries.push(Query { of, text: text(&annotation["target"]["rawSql"]).to_owned() });
    }
    queries
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
    const PATIENCE: Duration = Duration::from_secs(120);

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

        /// Asks until everything was answered by a number.
        ///
        /// # Panics
        /// If something is not, in time.
        pub(super) async fn answer_in_time(&self, mut asked: Vec<Query>) {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while !asked.is_empty() {
                let mut unanswered = Vec::new();
                let mut why = Vec::new();
                for query in asked {
                    if let Err(error) = self.answers(&query.text).await {
                        why.push(format!("{}: {error}: {}", query.of, query.text));
                        unanswered.push(query);
                    }
                }
                assert!(tokio::time::Instant::now() < deadline, "queries without an answer: {why:#?}");
                asked = unanswered;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }

        /// Whether a number answers `promql`; if not, why.
        async fn answers(&self, promql: &str) -> Result<(), String> {
            let number = |series: &Value| series["value"][1].as_str()?.parse::<f64>().ok();
            match self.query(promql).await? {
                series if series.is_empty() => Err("no series".to_owned()),
                series if series.iter().filter_map(number).any(f64::is_finite) => Ok(()),
                _ => Err("no number".to_owned()),
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
