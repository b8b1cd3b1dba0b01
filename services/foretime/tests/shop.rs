//! A small shop whose orders come back or not: a project whose loop goes around in a few seconds, and who asks it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use domain::ids::{IncidentId, NotificationId};
use domain::incident::{Cause, Severity};
use domain::{Clock, SystemClock};
use foretime::Client;
use serde_json::{Value, json};
use storage::incidents::NewIncident;
use storage::notifications::NewNotification;
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, Process, http, request, until};

const DEFINITIONS: &str = r#"
[[entity]]
name = "order"
keys = ["order"]

[[source]]
name = "orders"
columns = { order = "integer", at = "time", returned = "number" }
event_time = "at"
known_time = "at"

[[source]]
name = "quotes"
columns = { order = "integer", at = "time", risk = "number" }
event_time = "at"
known_time = "at"

[[feature_view]]
name = "orders"
entity = "order"
source = "orders"
log = ["returned"]

[[feature_view]]
name = "quotes"
entity = "order"
source = "quotes"
features = ["risk"]

[[dataset]]
name = "returns"
spine = { view = "orders" }
horizon = "1h"
label = "returned > 0"
views = ["quotes"]
features = { which = "order", risk = "quotes__risk" }
split = { train_until = "TRAIN", validation_until = "VALIDATION" }

[[model]]
name = "returns"
registered_model = "returns"
kind = "boosting"
dataset = "returns"

[[gate]]
name = "returns"
model = "returns"
min_auc = 0.55

[[schedule]]
name = "retrain"
cron = "0 0 4 1 1 *"
action = { train = "returns" }
"#;

/// The same question put to a GPT that reads which pages were looked at before an order; its loop is the schedule
/// `retrain_by_visits`.
pub(crate) const BY_VISITS: &str = r#"
[[source]]
name = "visits"
columns = { order = "integer", at = "time", page = "text" }
event_time = "at"
known_time = "at"

[[feature_view]]
name = "visited"
entity = "order"
source = "visits"
last_k = { count = 8, over = "7d", columns = ["page"] }

[[event_stream]]
name = "visits"
view = "visited"
fields = [{ name = "page", kind = "category", max_levels = 6 }, { name = "gap", kind = "gap", bins = 4 }]

[[dataset]]
name = "returns_by_visits"
spine = { view = "orders" }
horizon = "1h"
label = "returned > 0"
views = []
history = "visits"
features = { which = "order" }
split = { train_until = "TRAIN", validation_until = "VALIDATION" }

[[model]]
name = "returns_by_visits"
registered_model = "returns-by-visits"
kind = "gpt-classifier"
dataset = "returns_by_visits"
[model.recipe]
gpt = { context = 16, width = 16, layers = 1, heads = 2 }
pretrain = { batch = 64, epochs = 9.0, max_steps = 30 }
classifier = { batch = 64, rounds = 3, learning_rate = 4e-3 }

[[gate]]
name = "returns_by_visits"
model = "returns-by-visits"
min_auc = 0.55

[[schedule]]
name = "retrain_by_visits"
cron = "0 0 5 1 1 *"
action = { train = "returns_by_visits" }
"#;

/// How many orders there are, one an hour until now.
pub(crate) const ORDERS: i64 = 1_200;

fn now() -> DateTime<Utc> {
    SystemClock.now()
}

/// A number in 0..1 for an order, scattered.
pub(crate) fn scattered(order: i64, salt: i64) -> f64 {
    ((order * 7_919 + salt * 104_729) % 1_009) as f64 / 1_009.0
}

/// Opens the shop: its definitions, with `more`, and its orders of the last fifty days, each with a quote five hours before.
pub(crate) async fn open(store: &Client, more: &str) {
    let day = |days| (now() - TimeDelta::days(days)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let declared = DEFINITIONS.to_owned() + more;
    let declared = declared.replace("TRAIN", &day(20)).replace("VALIDATION", &day(10));
    store
        .apply(&BTreeMap::from([("a.toml".to_owned(), declared)]), false)
        .await
        .expect("the definitions fit");
    let now = now();
    let ordered = |order: i64| {
        let returned = f64::from(scattered(order, 2) < scattered(order, 1));
        json!({ "order": order, "at": now - TimeDelta::hours(2 + order), "returned": returned })
    };
    push(store, "orders", (0..ORDERS).map(ordered)).await;
    let quoted = |order: i64| json!({ "order": order, "at": now - TimeDelta::hours(7 + order), "risk": scattered(order, 1) });
    push(store, "quotes", (0..ORDERS).map(quoted)).await;
}

/// Lets each order's pages be looked at in the hour before its quote: the more often it comes back, the more of them are `sizes`.
pub(crate) async fn look_around(store: &Client) {
    let now = now();
    let visit = |order: i64, nth: i64| {
        let page = match scattered(order, 3 + nth) < scattered(order, 1) {
            true => "sizes",
            false => ["news", "colours", "prices"][(order + nth) as usize % 3],
        };
        json!({ "order": order, "at": now - TimeDelta::hours(7 + order) - TimeDelta::minutes(10 * nth), "page": page })
    };
    push(store, "visits", (0..ORDERS).flat_map(|order| (1..6).map(move |nth| visit(order, nth)))).await;
}

async fn push(store: &Client, source: &str, rows: impl Iterator<Item = Value>) {
    let rows = json!({ "rows": rows.collect::<Vec<_>>() });
    store.post(&format!("/v1/sources/{source}/rows"), &rows).await.expect("the rows fit");
}

/// Sends the loop around; answers the chain of jobs that this is.
pub(crate) async fn go_around(monitor: &Process) -> uuid::Uuid {
    set_out(monitor, "retrain").await
}

/// Sends a schedule's loop around.
pub(crate) async fn set_out(monitor: &Process, schedule: &str) -> uuid::Uuid {
    let (status, told) =
        monitor.ask("POST", &format!("/v1/schedules/{schedule}/run"), Some(&json!({}))).await;
    assert_eq!(status, 202, "{told}");
    serde_json::from_value(told["ticks"][0]["job"].clone()).expect("nothing else is at work")
}

/// Waits until a chain of jobs is over.
pub(crate) async fn at_rest(pool: &sqlx::PgPool, chain: uuid::Uuid) {
    let open = "select count(*) from jobs where chain_id = $1 and state in ('queued', 'running')";
    until("the loop comes to rest", PATIENCE, async || {
        let open: Result<i64, _> = sqlx::query_scalar(open).bind(chain).fetch_one(pool).await;
        open.is_ok_and(|open| open == 0)
    })
    .await;
}

/// What is asked of the champion about an order.
pub(crate) fn question(orders: impl IntoIterator<Item = i64>) -> Value {
    let row = |order: i64| json!({ "order": order, "event_time": now() });
    json!({ "model": "returns", "rows": orders.into_iter().map(row).collect::<Vec<_>>() })
}

/// The ids of an answer's predictions.
pub(crate) fn ids(answer: &Value) -> Vec<String> {
    let predictions = answer["predictions"].as_array().into_iter().flatten();
    predictions.map(|one| one["prediction_id"].as_str().expect("each has an id").to_owned()).collect()
}

/// Somebody who asks the champion all the time, wherever it is served, and remembers what was answered.
pub(crate) struct Customer {
    told: Arc<Mutex<Told>>,
    gone: CancellationToken,
    asking: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    url: String,
    ids: Vec<String>,
    /// How often each status came.
    statuses: BTreeMap<u16, usize>,
}

impl Customer {
    /// Comes to a worker; asks again after each answer and this pause.
    pub(crate) fn comes_to(worker: &Process, pause: Duration) -> Self {
        let told = Arc::new(Mutex::new(Told { url: worker.url.clone(), ..Told::default() }));
        let gone = CancellationToken::new();
        let asking = tokio::spawn(ask(Arc::clone(&told), gone.clone(), pause));
        Self { told, gone, asking }
    }

    /// Goes on at another worker.
    pub(crate) fn moves_to(&self, worker: &Process) {
        self.told().url.clone_from(&worker.url);
    }

    pub(crate) fn answers(&self) -> usize {
        self.told().ids.len()
    }

    /// Goes away; answers the ids of all predictions that were answered, and how often each status came.
    pub(crate) async fn leaves(self) -> (Vec<String>, BTreeMap<u16, usize>) {
        self.gone.cancel();
        self.asking.await.expect("nothing panics");
        let told = std::mem::take(&mut *self.told.lock().expect("no holder of this lock can panic"));
        (told.ids, told.statuses)
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no holder of this lock can panic")
    }
}

async fn ask(told: Arc<Mutex<Told>>, gone: CancellationToken, pause: Duration) {
    let told = || told.lock().expect("no holder of this lock can panic");
    let (http, mut order) = (http(), 0);
    while !gone.is_cancelled() {
        order = (order + 1) % (ORDERS - 3);
        let url = told().url.clone();
        let body = question(order..order + 1 + order % 3);
        if let Ok(answer) = request(&http, &url, "POST", "/v1/predict", Some(&body)).send().await {
            *told().statuses.entry(answer.status().as_u16()).or_default() += 1;
            if answer.status().is_success()
                && let Ok(text) = answer.text().await
                && let Ok(answer) = serde_json::from_str(&text)
            {
                told().ids.extend(ids(&answer));
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Checks that the published log holds all of these predictions, and each of its own once; answers how many it holds.
pub(crate) async fn each_is_logged_once(pool: &sqlx::PgPool, data_dir: &Path, answered: &[String]) -> usize {
    let logs: Vec<(String, String)> = sqlx::query_as("select path, sha256 from prediction_logs")
        .fetch_all(pool)
        .await
        .expect("they are listed");
    let mut logged = Vec::new();
    for (path, sha256) in logs {
        let file = data_dir.join(path);
        frames::files::verify(&file, &sha256).expect("it is the one that was written");
        let rows = frames::files::read_arrow(&file).expect("a listed file is whole");
        let ids = rows.column("prediction_id").expect("the column is there");
        logged.extend((0..rows.rows()).map(|row| ids.text_at(row).expect("each has an id").to_owned()));
    }
    let distinct: BTreeSet<&String> = logged.iter().collect();
    assert_eq!(distinct.len(), logged.len(), "predictions were logged twice");
    let lost: Vec<_> = answered.iter().filter(|id| !distinct.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} answered predictions were lost: {lost:?}", lost.len(), answered.len());
    let known: Vec<uuid::Uuid> = sqlx::query_scalar("select prediction_id from predictions")
        .fetch_all(pool)
        .await
        .expect("they are listed");
    let known: BTreeSet<String> = known.iter().map(ToString::to_string).collect();
    assert_eq!(known, logged.into_iter().collect(), "files and rows tell different predictions");
    known.len()
}

/// Puts a message about a new incident into the outbox.
pub(crate) async fn tell(pool: &sqlx::PgPool, channel: &str, number: usize) {
    let (id, now) = (IncidentId::new(), SystemClock.now());
    let incident = NewIncident {
        id,
        project: "default".to_owned(),
        monitor: format!("watch {channel} {number}"),
        registered_model: "returns".to_owned(),
        version: 1,
        cause: Cause::InputDrift,
        severity: Severity::Ticket,
        summary: "orders are not what they were".to_owned(),
        evidence: json!([]),
        first_seen: now,
    };
    let payload = json!({
        "format": 1, "event": "opened", "incident": id, "project": "default", "monitor": incident.monitor,
        "model": "returns", "version": 1, "cause": "input-drift", "severity": "ticket",
        "summary": incident.summary, "since": now, "opened_at": now, "resolved_at": null, "moved": [],
        "links": { "incident": format!("/v1/incidents/{id}"), "windows": "/v1/monitors/watch/windows" },
    });
    let note = NewNotification {
        id: NotificationId::new(),
        project: "default".to_owned(),
        incident: Some(id),
        monitor: incident.monitor.clone(),
        registered_model: "returns".to_owned(),
        channel: channel.to_owned(),
        event: "opened",
        payload,
        held_back: false,
    };
    let mut conn = pool.acquire().await.expect("it answers");
    storage::incidents::open(&mut conn, &incident, now).await.expect("it is new");
    storage::notifications::insert(&mut conn, &note, now).await.expect("it is new");
}

/// Receivers' keys, in the order of arrival.
pub(crate) type Received = Arc<Mutex<Vec<String>>>;

/// Somebody who takes messages; where, and what arrived.
pub(crate) async fn receiver() -> (String, Received) {
    let received = Received::default();
    let taken = Arc::clone(&received);
    let take = move |headers: axum::http::HeaderMap| {
        let key = headers["idempotency-key"].to_str().expect("keys are plain").to_owned();
        taken.lock().expect("no holder of this lock can panic").push(key);
        std::future::ready(())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = format!("http://{}/", listener.local_addr().expect("it is bound"));
    let routes = axum::Router::new().route("/", axum::routing::post(take));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, received)
}
