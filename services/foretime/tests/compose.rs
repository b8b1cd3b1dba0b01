//! `docker-compose.yml` without containers: what Docker Compose itself reads from it is checked, and the same commands are run with
//! the same settings on the loopback, in the order it states, until each is healthy by its own health check.
//!
//! What stands for what: a private Postgres for the image's, Debian's Prometheus and Alertmanager for theirs. Grafana and the mail
//! catcher are only checked as settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use storage::private_postgres::{PrivatePostgres, bin_dir};

use crate::support::{folder, signal};

const TOKEN: &str = "a-token-for-this-test";
const SERVICES: [&str; 4] = ["feature-store", "gpt-worker", "monitor", "registry"];

/// How long a process may take to become healthy.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn docker_compose_reads_the_file_and_every_service_is_confined() {
    let composed = composed_with(&["gpu"]);
    for (name, service) in services(&composed) {
        assert_eq!(service["read_only"], true, "{name} may write its root");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name} keeps capabilities");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        let user = service["user"].as_str().unwrap_or_default();
        assert!(!user.is_empty() && !user.starts_with('0'), "{name} runs as root");
        let runs_on = service["restart"] != "no";
        assert_eq!(!service["healthcheck"]["test"].is_null(), runs_on, "{name}'s health");
        for port in list(&service["ports"]) {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name} listens to others");
        }
        for volume in list(&service["volumes"]).iter().filter(|volume| volume["type"] == "bind") {
            assert_eq!(volume["read_only"], true, "{name} may change the repository");
            assert!(Path::new(text(&volume["source"])).exists(), "{name} mounts nothing: {volume}");
        }
        for dependency in service["depends_on"].as_object().into_iter().flatten() {
            assert!(!composed["services"][dependency.0].is_null(), "{name} waits for nothing");
        }
    }
    let names: BTreeSet<&str> = services(&composed).map(|(name, _)| name.as_str()).collect();
    for needed in SERVICES.into_iter().chain(["postgres", "prometheus", "alertmanager", "grafana", "mail"]) {
        assert!(names.contains(needed), "there is no {needed}");
    }
}

#[test]
fn a_worker_on_a_gpu_comes_only_where_it_is_asked_for_and_is_otherwise_like_the_other() {
    let name = "gpt-worker-gpu";
    assert!(composed()["services"][name].is_null(), "machines without a GPU could not start it");
    let composed = composed_with(&["gpu"]);
    let (own, other) = (&composed["services"][name], &composed["services"]["gpt-worker"]);
    let device = &own["deploy"]["resources"]["reservations"]["devices"][0];
    assert_eq!((&device["driver"], &device["capabilities"]), (&"nvidia".into(), &serde_json::json!(["gpu"])));
    assert_eq!(own["build"]["args"]["FOR"], "gpu");
    let mut settings = environment(own);
    assert_eq!(settings.remove("FORETIME_WORKER__DEVICE").as_deref(), Some("cuda:0"));
    assert_eq!(settings, environment(other));
    for same in ["command", "user", "volumes", "depends_on", "healthcheck", "stop_grace_period"] {
        assert_eq!(own[same], other[same], "{same}");
    }
    let dockerfile = fs::read_to_string(root().join("services/foretime/Dockerfile")).unwrap();
    for stage in ["build-for-gpu", "run-for-gpu"] {
        assert!(dockerfile.contains(&format!(" AS {stage}")), "there is no {stage}");
    }
    let scraped = fs::read_to_string(root().join("dashboards/prometheus/prometheus.yml")).unwrap();
    assert!(scraped.contains(name), "Prometheus does not ask it");
}

#[test]
fn a_missing_secret_is_named() {
    let answer = compose(&[], &[]).output().expect("Docker Compose starts");
    assert!(!answer.status.success());
    assert!(String::from_utf8_lossy(&answer.stderr).contains("in .env"), "{answer:?}");
}

#[test]
fn grafana_is_given_the_boards_and_the_data_sources() {
    let composed = composed();
    let grafana = &composed["services"]["grafana"];
    let provided =
        fs::read_to_string(root().join("dashboards/grafana/provisioning/dashboards/foretime.yml")).unwrap();
    let boards = mount(grafana, "/var/lib/grafana/boards");
    assert!(provided.contains("path: /var/lib/grafana/boards"), "{provided}");
    let home = text(&grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]);
    let home =
        Path::new(home).strip_prefix("/var/lib/grafana/boards").expect("the home is one of the boards");
    assert!(boards.join(home).exists());
    let sources =
        fs::read_to_string(mount(grafana, "/etc/grafana/provisioning").join("datasources/foretime.yml"))
            .unwrap();
    for (name, port) in [("prometheus", 9090), ("postgres", 5432)] {
        assert!(!composed["services"][name].is_null());
        assert!(sources.contains(&format!("{name}:{port}")), "Grafana does not ask {name}");
    }
    assert!(
        sources.contains("$GRAFANA_READER_PASSWORD")
            && !grafana["environment"]["GRAFANA_READER_PASSWORD"].is_null()
    );
}

#[test]
fn the_image_runs_unprivileged_what_compose_asks_of_it() {
    let dockerfile = fs::read_to_string(root().join("services/foretime/Dockerfile")).unwrap();
    let stages = dockerfile.lines().filter(|line| line.starts_with("FROM ")).count();
    assert!(stages >= 2, "the compiler would be in the image");
    let last = dockerfile.rsplit("FROM ").next().unwrap();
    for line in ["USER 10001:10001", "HEALTHCHECK", "ENTRYPOINT [\"foretime\"]"] {
        assert!(last.contains(line), "the image has no `{line}`");
    }
    let composed = composed();
    for service in SERVICES {
        assert_eq!(composed["services"][service]["user"], "10001:10001");
    }
}

#[test]
fn the_same_processes_from_the_same_settings_become_healthy_see_each_other_and_stop() {
    let composed = composed();
    let mut stage = Stage::set();
    let mut waiting: BTreeMap<&String, &Value> =
        services(&composed).filter(|(name, _)| !is_left_out(name)).collect();
    while !waiting.is_empty() {
        let ready: Vec<&String> =
            waiting.iter().filter(|(_, service)| stage.may_start(service)).map(|(name, _)| *name).collect();
        assert!(!ready.is_empty(), "these wait for each other: {:?}", waiting.keys());
        for name in ready {
            stage.start(name, waiting[name]);
            waiting.remove(name);
        }
    }
    stage.prometheus_sees_the_four_services();
    stage.the_reader_was_granted_the_views_alone();
    stage.stop();
}

/// What has no program here.
fn is_left_out(name: &str) -> bool {
    matches!(name, "grafana" | "mail")
}

/// What was started, and where.
struct Stage {
    folder: tempfile::TempDir,
    postgres: Option<PrivatePostgres>,
    ports: BTreeMap<String, u16>,
    running: Vec<(String, Child, Duration)>,
    done: BTreeSet<String>,
}

impl Stage {
    fn set() -> Self {
        let folder = folder();
        for name in ["data", "prometheus", "alertmanager", "secrets"] {
            fs::create_dir(folder.path().join(name)).expect("the folder is ours");
        }
        fs::write(folder.path().join("secrets/foretime_token"), TOKEN).expect("the folder is ours");
        fs::write(folder.path().join("secrets/alert_slack_url"), "http://127.0.0.1:9/")
            .expect("the folder is ours");
        Self { folder, postgres: None, ports: BTreeMap::new(), running: vec![], done: BTreeSet::new() }
    }

    fn may_start(&self, service: &Value) -> bool {
        service["depends_on"]
            .as_object()
            .into_iter()
            .flatten()
            .all(|(name, _)| self.done.contains(name) || is_left_out(name))
    }

    /// Starts a service as its settings say, and waits until it is healthy, or has ended well if it is one that ends.
    fn start(&mut self, name: &str, service: &Value) {
        match name {
            "postgres" => self.start_postgres(),
            "migrate" => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_foretime"));
                command.args(words(&service["command"])).envs(self.settings(name, service));
                self.ends_well(name, command);
            }
            "grants" => self.ends_well(name, self.grants(service)),
            "prometheus" | "alertmanager" => self.start_watcher(name, service),
            _ => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_foretime"));
                command.args(words(&service["command"])).envs(self.settings(name, service));
                self.keep(name, service, command);
                let listen = format!("127.0.0.1:{}", self.ports[name]);
                let check = words(&service["healthcheck"]["test"]);
                assert_eq!(check, ["CMD", "healthy"]);
                self.becomes_healthy(name, || {
                    let healthy = root().join("services/foretime/healthy");
                    let asked = Command::new(healthy)
                        .env("FORETIME_HTTP__LISTEN", &listen)
                        .stderr(Stdio::null())
                        .status();
                    asked.expect("bash is there").success()
                });
            }
        }
        self.done.insert(name.to_owned());
    }

    fn start_postgres(&mut self) {
        let folder = self.folder.path().join("postgres");
        self.postgres = Some(PrivatePostgres::start(&folder).expect("a private Postgres can be started"));
    }

    fn postgres(&self) -> &PrivatePostgres {
        self.postgres.as_ref().expect("everything waits for Postgres")
    }

    /// The environment of a Foretime process, with what the network of the containers gives replaced.
    fn settings(&mut self, name: &str, service: &Value) -> BTreeMap<String, String> {
        let mut settings = environment(service);
        let database = settings.get_mut("FORETIME_DATABASE_URL").expect("compose names the database");
        assert!(database.contains("@postgres:5432/"), "{database}");
        *database = self.postgres().url("postgres");
        let listen = settings.get_mut("FORETIME_HTTP__LISTEN").expect("compose says where to listen");
        assert!(listen.ends_with(":8640"), "{listen}");
        let port = free_port();
        *listen = format!("127.0.0.1:{port}");
        self.ports.insert(name.to_owned(), port);
        let data = settings
            .insert("FORETIME_DATA_DIR".to_owned(), self.folder.path().join("data").display().to_string());
        assert_eq!(data.as_deref(), Some("/data"), "the volume is mounted there");
        settings
    }

    fn grants(&self, service: &Value) -> Command {
        let script = mount(service, "/reader.sql").display().to_string();
        let line = words(&service["entrypoint"]).into_iter().chain(words(&service["command"]));
        let line: Vec<String> = line.map(|word| word.replace("/reader.sql", &script)).collect();
        let mut command = Command::new(&line[0]);
        let (bin, path) = (bin_dir().expect("Postgres is there"), std::env::var("PATH").unwrap_or_default());
        command.args(&line[1..]).env("PATH", format!("{}:{path}", bin.display())).envs(environment(service));
        let socket = self.folder.path().join("postgres/socket");
        command.env("PGHOST", socket).env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        command
    }

    /// Prometheus or Alertmanager, over a copy of their settings with other addresses.
    fn start_watcher(&mut self, name: &str, service: &Value) {
        let folder = self.folder.path().join(format!("etc-{name}"));
        fs::create_dir(&folder).expect("the folder is ours");
        for file in fs::read_dir(mount(service, &format!("/etc/{name}"))).expect("it is mounted") {
            let file = file.expect("the folder can be read").path();
            let settings = fs::read_to_string(&file).expect("settings are text");
            let kept = folder.join(file.file_name().expect("a file has a name"));
            fs::write(kept, self.on_the_loopback(settings)).expect("the folder is ours");
        }
        let port = free_port();
        self.ports.insert(name.to_owned(), port);
        let home = self.folder.path();
        let arguments = words(&service["command"]).into_iter().map(|argument| {
            let argument = argument.replace(&format!("=/etc/{name}"), &format!("={}", folder.display()));
            argument.replace(&format!("=/{name}"), &format!("={}", home.join(name).display()))
        });
        let mut command = Command::new(watcher(name));
        command
            .args(arguments)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error");
        self.keep(name, service, command);
        let check = words(&service["healthcheck"]["test"]);
        let url = check.last().expect("the check asks a URL").clone();
        let (_, path) =
            url.rsplit_once(":90").map(|(_, rest)| rest.split_once('/').expect("a path")).expect("its port");
        let path = format!("/{path}");
        self.becomes_healthy(name, || get(port, &path).is_some());
    }

    /// Settings with the names of containers replaced by where their processes listen.
    fn on_the_loopback(&self, mut settings: String) -> String {
        for (name, port) in &self.ports {
            let inner = match name.as_str() {
                "alertmanager" => 9093,
                _ => 8640,
            };
            settings = settings.replace(&format!("{name}:{inner}"), &format!("127.0.0.1:{port}"));
        }
        let secrets = self.folder.path().join("secrets").display().to_string();
        settings.replace("/run/secrets", &secrets).replace("scrape_interval: 15s", "scrape_interval: 1s")
    }

    fn keep(&mut self, name: &str, service: &Value, mut command: Command) {
        let grace = service["stop_grace_period"].as_str().map_or(10, seconds);
        let child =
            command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        self.running.push((name.to_owned(), child, Duration::from_secs(grace)));
    }

    fn ends_well(&self, name: &str, mut command: Command) {
        let Output { status, stdout, stderr } =
            command.current_dir(self.folder.path()).output().expect("it starts");
        let said = [stdout, stderr].concat();
        assert!(status.success(), "{name}: {}", String::from_utf8_lossy(&said));
    }

    fn becomes_healthy(&mut self, name: &str, healthy: impl Fn() -> bool) {
        eventually(PATIENCE, &format!("{name} becomes healthy"), || {
            let (_, child, _) = self.running.last_mut().expect("it was started");
            assert!(child.try_wait().expect("it can be asked").is_none(), "{name} ended");
            healthy().then_some(())
        });
    }

    /// The token that Prometheus shows is the one that the services ask for.
    fn prometheus_sees_the_four_services(&self) {
        let port = self.ports["prometheus"];
        eventually(PATIENCE, "Prometheus sees four services", || {
            let answer = get(port, "/api/v1/query?query=sum(up%7Bjob%3D%22foretime%22%7D)")?;
            let answer: Value = serde_json::from_str(&answer).ok()?;
            (answer["data"]["result"][0]["value"][1] == "4").then_some(())
        });
        let alertmanagers = get(port, "/api/v1/alertmanagers").expect("Prometheus answers");
        assert!(alertmanagers.contains(&format!(":{}/", self.ports["alertmanager"])), "{alertmanagers}");
    }

    fn the_reader_was_granted_the_views_alone(&self) {
        let psql = |query: &str| {
            let mut command = Command::new(bin_dir().expect("Postgres is there").join("psql"));
            command.args(["-X", "-At", "-U", "grafana_reader", "-d", "postgres", "-c", query]);
            command.arg("-h").arg(self.folder.path().join("postgres/socket")).output().expect("psql starts")
        };
        let counted = psql("select count(*) from grafana_jobs");
        assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), "0", "{counted:?}");
        let refused = psql("select count(*) from jobs");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("permission denied"), "{refused:?}");
    }

    /// Stops everything, the last first, each within the time that compose gives it.
    fn stop(mut self) {
        while let Some((name, child, grace)) = self.running.last_mut() {
            signal(child.id(), "-TERM");
            let what = format!("{name} stops within the {grace:?} that it is given");
            let status = eventually(*grace, &what, || child.try_wait().expect("it can be asked"));
            assert!(status.success(), "{name}: {status}");
            self.running.pop();
        }
        self.postgres.take().expect("it was started").stop().expect("Postgres stops");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for (_, child, _) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks until there is an answer.
#[expect(
    clippy::disallowed_methods,
    reason = "another process tells nobody that it is ready; every wait has a deadline"
)]
fn eventually<T>(patience: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where a server of Debian's is, unless a variable says otherwise.
fn watcher(name: &str) -> PathBuf {
    let (variable, usual) = match name {
        "prometheus" => ("FORETIME_TEST_PROMETHEUS", "/usr/bin/prometheus"),
        _ => ("FORETIME_TEST_ALERTMANAGER", "/usr/bin/prometheus-alertmanager"),
    };
    std::env::var_os(variable).map_or_else(|| usual.into(), PathBuf::from)
}

/// The body of a successful answer.
fn get(port: u16, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is there")
}

/// `docker compose config` of these profiles, with these variables.
fn compose(profiles: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = docker_compose();
    command.args(["--file", "docker-compose.yml"]).args(profiles.iter().flat_map(|name| ["--profile", name]));
    command.args(["config", "--format", "json"]).current_dir(root());
    for name in ["POSTGRES_PASSWORD", "FORETIME_TOKEN", "GRAFANA_ADMIN_PASSWORD", "GRAFANA_READER_PASSWORD"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

/// Docker's own program: beside the tests' Python, where `.ci/setup tests` puts it, or of an installed Docker.
fn docker_compose() -> Command {
    let beside_python = std::env::var_os("FORETIME_TEST_PYTHON")
        .map(|python| PathBuf::from(python).with_file_name("docker-compose"));
    let test_program = std::env::current_exe().expect("a running program has a path");
    let beside_target = test_program.ancestors().map(|folder| folder.join("venv/bin/docker-compose"));
    match beside_python.into_iter().chain(beside_target).find(|program| program.exists()) {
        Some(program) => Command::new(program),
        None => {
            let mut command = Command::new("docker");
            command.arg("compose");
            command
        }
    }
}

/// What Docker Compose makes of the file, with every variable filled in.
fn composed() -> Value {
    composed_with(&[])
}

/// The same, with what only these profiles ask for.
fn composed_with(profiles: &[&str]) -> Value {
    let variables = [
        ("POSTGRES_PASSWORD", "a"),
        ("FORETIME_TOKEN", TOKEN),
        ("GRAFANA_ADMIN_PASSWORD", "b"),
        ("GRAFANA_READER_PASSWORD", "c"),
    ];
    let mut command = compose(profiles, &variables);
    let answer = command.output().expect("Docker Compose is there: `.ci/setup tests` installs it");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    serde_json::from_slice(&answer.stdout).expect("it writes JSON")
}

fn services(composed: &Value) -> impl Iterator<Item = (&String, &Value)> {
    composed["services"].as_object().expect("there are services").iter()
}

/// Where the repository has what a service mounts at `target`.
fn mount(service: &Value, target: &str) -> PathBuf {
    let volumes = list(&service["volumes"]);
    let volume = volumes.iter().find(|volume| volume["target"] == target);
    text(&volume.unwrap_or_else(|| panic!("nothing is mounted at {target}"))["source"]).into()
}

fn environment(service: &Value) -> BTreeMap<String, String> {
    let entries = service["environment"].as_object().expect("it has settings").iter();
    entries.map(|(name, value)| (name.clone(), text(value).to_owned())).collect()
}

fn words(value: &Value) -> Vec<String> {
    // `$$` is how the file writes a dollar sign that is not Compose's.
    list(value).iter().map(|word| text(word).replace("$$", "$")).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

/// `40s` or `1m0s`, as Docker Compose writes them.
fn seconds(text: &str) -> u64 {
    let (minutes, rest) = text.split_once('m').unwrap_or(("0", text));
    let number = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap_or(0);
    number(minutes) * 60 + number(rest)
}
