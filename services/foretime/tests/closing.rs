//! The closed loop, killed at many points of its way and started again: every kill meets a job at work, and afterwards nothing
//! is lost or doubled, and what was learned is what a loop learns that nobody disturbs, bit for bit.
//!
//! Each service is a process of its own, and two may lead the schedules. `FORETIME_TEST_KILLS` says how often to kill; `make
//! soak` does it 200 times.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::shop::{self, Customer, each_is_logged_once, receiver};
use crate::support::{Ground, PATIENCE, Process, count, leader, until};

/// How often the ordinary test kills; `make soak` says more.
const KILLS: usize = 7;

const SERVICES: [&str; 5] = ["feature-store", "gpt-worker", "registry", "monitor", "other monitor"];
/// The schedules whose loops go around, by the model that they train: trees, and a GPT.
const LOOPS: [(&str, &str); 2] = [("returns", "retrain"), ("returns-by-visits", "retrain_by_visits")];
/// The steps of a loop.
const STEPS: [&str; 3] = ["build-training-set", "train", "promote"];

/// What is killed, in turn.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Service(&'static str),
    /// Whichever of the monitors leads the schedules.
    Leader,
    Postgres,
    Everything,
}

const VICTIMS: [Victim; 7] = [
    Victim::Service("gpt-worker"),
    Victim::Service("registry"),
    Victim::Leader,
    Victim::Service("feature-store"),
    Victim::Postgres,
    Victim::Service("monitor"),
    Victim::Everything,
];

impl Victim {
    /// The step that it is killed in: the one that it works on, if it does, or each in turn.
    fn step(self, kill: usize) -> &'static str {
        match self {
            Self::Service("feature-store") => STEPS[0],
            Self::Service("gpt-worker") => STEPS[1],
            Self::Service("registry") => STEPS[2],
            _ => STEPS[kill % STEPS.len()],
        }
    }
}

/// A shop whose services are processes of their own.
struct Shop {
    processes: BTreeMap<&'static str, Process>,
    pool: sqlx::PgPool,
    ground: Ground,
}

impl Shop {
    async fn open(channel: &str, by_visits: &str) -> Self {
        let ground = Ground::migrated().await;
        let mut shop = Self { processes: BTreeMap::new(), pool: ground.pool().await, ground };
        shop.bring_back().await;
        let more =
            format!("[[channel]]\nname = \"people\"\nwebhook = \"{channel}\"\nmessages_per_minute = 600\n");
        let store = shop.processes["feature-store"].client();
        shop::open(&store, &(more + by_visits)).await;
        shop::look_around(&store).await;
        shop
    }

    /// Starts what does not run, and waits until everybody is ready.
    async fn bring_back(&mut self) {
        for name in SERVICES {
            let service = name.trim_start_matches("other ");
            self.processes.entry(name).or_insert_with(|| {
                let mut command = self.ground.service(service);
                command.env("FORETIME_JOBS__LEASE_SECONDS", "1");
                self.ground.start(command.env("FORETIME_WORKER__CHECKPOINT_SECONDS", "0"))
            });
        }
        for (name, process) in &self.processes {
            until(&format!("{name} is ready"), PATIENCE, async || {
                process.ask("GET", "/readyz", None).await.0 == 200
            })
            .await;
        }
    }

    /// The monitor that leads the schedules, once one of ours does.
    async fn leader(&self) -> &'static str {
        let mut dead = None;
        loop {
            let pid = leader(&self.pool, dead).await;
            match self.processes.iter().find(|(_, process)| process.pid() == pid) {
                Some((name, _)) => return name,
                None => dead = Some(pid), // it was killed, and its lease has not run out
            }
        }
    }

    /// The services that are meant.
    async fn meant(&self, victim: Victim) -> Vec<&'static str> {
        match victim {
            Victim::Service(name) => vec![name],
            Victim::Leader => vec![self.leader().await],
            Victim::Postgres => vec![],
            Victim::Everything => SERVICES.to_vec(),
        }
    }

    async fn kill(&mut self, services: &[&'static str], postgres: bool) {
        if postgres {
            self.ground.kill_postgres();
        }
        for name in services {
            self.processes.remove(name).expect("it runs").kill();
        }
        if postgres {
            self.ground.start_postgres();
            self.pool = self.ground.pool().await;
        }
        self.bring_back().await;
    }

    /// Waits until a step of a chain is at work and a share of the time that it usually takes has gone by; whether it still is.
    async fn is_at_work(&self, chain: uuid::Uuid, step: &str, wait: Duration) -> bool {
        let state = async || -> Option<String> {
            sqlx::query_scalar("select state from jobs where chain_id = $1 and kind = $2")
                .bind(chain)
                .bind(step)
                .fetch_optional(&self.pool)
                .await
                .expect("it can be read")
        };
        let deadline = Instant::now() + PATIENCE;
        while state().await.is_none_or(|state| state == "queued") {
            assert!(Instant::now() < deadline, "`{step}` does not begin");
            tokio::time::sleep(Duration::from_millis(1)).await; // some steps are over in a few
        }
        tokio::time::sleep(wait).await;
        state().await.is_some_and(|state| state == "running")
    }

    /// How long each step of a chain took.
    async fn durations(&self, chain: uuid::Uuid) -> BTreeMap<String, Duration> {
        let rows: Vec<(String, f64)> = sqlx::query_as(
            "select kind, extract(epoch from finished_at - started_at)::double precision from jobs where chain_id = $1",
        )
        .bind(chain)
        .fetch_all(&self.pool)
        .await
        .expect("they can be read");
        rows.into_iter().map(|(kind, seconds)| (kind, Duration::from_secs_f64(seconds))).collect()
    }

    /// The hashes of the files of each version of a model, oldest first.
    async fn weights(&self, model: &str) -> Vec<Value> {
        let runs: Vec<String> =
            sqlx::query_scalar("select run_id from model_versions where model = $1 order by version")
                .bind(model)
                .fetch_all(&self.pool)
                .await
                .expect("they can be read");
        let experiments = self.ground.data_dir().join("artifacts");
        let folders: Vec<_> = experiments.read_dir().expect("runs have artifacts").flatten().collect();
        let card = |run: &String| {
            let mut cards =
                folders.iter().map(|folder| folder.path().join(run).join("artifacts/model/model.json"));
            let card = std::fs::read(cards.find(|card| card.exists()).expect("a version has a whole model"));
            let card: Value = serde_json::from_slice(&card.expect("it can be read")).expect("it is JSON");
            json!({ "files": card["files"], "calibrator": card["calibrator"] })
        };
        runs.iter().map(card).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_is_killed_anywhere_goes_on_and_makes_everything_once() {
    let kills = std::env::var("FORETIME_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let (address, received) = receiver().await;
    let mut shop = Shop::open(&address, shop::BY_VISITS).await;
    let mut durations = Vec::new();
    for (_, schedule) in LOOPS {
        let chain = shop::set_out(&shop.processes["monitor"], schedule).await;
        shop::at_rest(&shop.pool, chain).await;
        durations.push(shop.durations(chain).await);
        println!("`{schedule}`, undisturbed: {:.2?}", durations.last());
    }

    let customer = Customer::comes_to(&shop.processes["gpt-worker"], Duration::from_millis(20));
    let (mut rounds, mut met) = (LOOPS.len(), 0);
    while met < kills {
        let victim = VICTIMS[met % VICTIMS.len()];
        let step = victim.step(met / VICTIMS.len() + met);
        let services = shop.meant(victim).await;
        let place = (met + 1) % LOOPS.len(); // there is an odd number of victims: each meets both
        let (model, schedule) = LOOPS[place];
        let chain = shop::set_out(&shop.processes["monitor"], schedule).await;
        shop::tell(&shop.pool, "people", rounds).await;
        rounds += 1;
        let share = 0.8 * (0.1 + rounds as f64 * 0.618).fract();
        if shop.is_at_work(chain, step, durations[place][step].mul_f64(share)).await {
            shop.kill(&services, matches!(victim, Victim::Postgres | Victim::Everything)).await;
            customer.moves_to(&shop.processes["gpt-worker"]);
            met += 1;
            println!("kill {met}: {victim:?} in `{step}` of {model}, {:.0} % through", 100.0 * share);
        }
        shop::at_rest(&shop.pool, chain).await;
        assert!(rounds < 4 * kills + 4, "only {met} of {rounds} rounds were met at work");
    }
    let (answered, statuses) = customer.leaves().await;
    println!("{rounds} rounds, {met} kills, {} predictions answered, statuses {statuses:?}", answered.len());
    nothing_is_lost_or_doubled(&shop, rounds as i64).await;
    let told = rounds - LOOPS.len();
    let queued = "select count(*) from notifications where state <> 'delivered'";
    until("every message is delivered", 2 * PATIENCE, async || count(&shop.pool, queued).await == 0).await;
    let keys: BTreeSet<String> =
        received.lock().expect("no holder of this lock can panic").iter().cloned().collect();
    assert_eq!(keys.len(), told, "messages that arrived, by their keys");

    let worker = shop.processes.remove("gpt-worker").expect("it runs");
    assert!(worker.stop().success()); // and publishes the last answers
    each_is_logged_once(&shop.pool, &shop.ground.data_dir(), &answered).await;
    shows_its_whole_state(&shop).await;
}

async fn nothing_is_lost_or_doubled(shop: &Shop, rounds: i64) {
    let pool = &shop.pool;
    let failed: Vec<(String, String, Option<String>)> =
        sqlx::query_as("select kind, state, failure from jobs where state <> 'succeeded'")
            .fetch_all(pool)
            .await
            .expect("they can be read");
    assert!(failed.is_empty(), "{failed:?}");
    for kind in STEPS {
        let jobs: i64 = sqlx::query_scalar("select count(*) from jobs where kind = $1")
            .bind(kind)
            .fetch_one(pool)
            .await
            .expect("they can be counted");
        assert_eq!(jobs, rounds, "`{kind}` jobs");
    }
    assert_eq!(count(pool, "select count(*) from schedule_ticks").await, rounds, "ticks");
    assert_eq!(count(pool, "select count(*) from model_versions").await, rounds, "versions");
    assert_eq!(count(pool, "select count(*) from runs where status = 'FINISHED'").await, rounds, "runs");
    assert_eq!(count(pool, "select count(*) from runs where status = 'RUNNING'").await, 0, "runs left open");
    let told_twice =
        "select count(*) from (select model, to_version from alias_history where alias = 'champion'
                      group by 1, 2 having count(*) > 1) twice";
    assert_eq!(count(pool, told_twice).await, 0, "a move was written down twice");
    let moves = "select count(distinct (model, to_version)) from alias_history";
    assert_eq!(count(pool, moves).await, rounds);

    // the first round of each model was left alone: every other one has learned the same from the same rows
    let sets =
        "select count(*) from (select distinct dataset, sha256, history_sha256 from training_sets) sets";
    assert_eq!(count(pool, sets).await, LOOPS.len() as i64, "the same rows were written in different bytes");
    for (model, _) in LOOPS {
        let weights = shop.weights(model).await;
        assert!(weights[0]["files"].as_object().is_some_and(|files| !files.is_empty()), "{}", weights[0]);
        for (version, own) in weights.iter().enumerate() {
            assert_eq!(
                own,
                &weights[0],
                "version {} of {model} has other weights than an undisturbed one",
                version + 1
            );
        }
    }
    let resumed = [resumed(pool, "pretrain").await, resumed(pool, "classifier").await];
    println!("{resumed:?} pretrainings and fine-tunings went on from a checkpoint");
    assert!(resumed.iter().sum::<i64>() > 0, "a training that was killed began anew");
    let left = shop.ground.data_dir().join("checkpoints").read_dir().expect("trainings had some").count();
    assert_eq!(left, 0, "checkpoints of trainings that are over");
}

/// How many trainings went on from a checkpoint of a stage.
async fn resumed(pool: &sqlx::PgPool, stage: &str) -> i64 {
    sqlx::query_scalar(
        "select count(*) from job_logs where line like 'goes on from a checkpoint %' and position($1 in line) > 0",
    )
    .bind(format!("`{stage}`"))
    .fetch_one(pool)
    .await
    .expect("they can be counted")
}

async fn shows_its_whole_state(shop: &Shop) {
    let loops = shop.processes["monitor"].get("/v1/loop").await;
    let models = loops["models"].as_array().expect("there are models");
    let own = models.iter().find(|model| model["model"] == "returns").expect("it is one of them");
    assert!(own["champion"]["evidence"]["auc"].as_f64().expect("it was judged") > 0.55, "{loops}");
    assert_eq!(own["stage"]["step"], "serving", "{loops}");
    assert!(own["waits_for"].as_str().expect("it says so").contains("schedule `retrain`"), "{loops}");
    let last = &own["runs"][0];
    assert_eq!(last["reason"], json!({ "schedule": "retrain" }), "{loops}");
    assert_eq!(last["steps"].as_array().map(Vec::len), Some(3), "{loops}");
    let outcome = last["outcome"].as_str().expect("there is one");
    assert!(outcome.contains("became champion") || outcome.contains("the gate refused"), "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fine_tuning_that_is_killed_goes_on_from_its_checkpoint_and_comes_to_the_same_weights() {
    let (address, _) = receiver().await;
    let longer = shop::BY_VISITS.replace("rounds = 3", "rounds = 40, patience = 40");
    let mut shop = Shop::open(&address, &longer).await;
    for is_killed in [false, true] {
        let chain = shop::set_out(&shop.processes["monitor"], "retrain_by_visits").await;
        if is_killed {
            let stage = "select progress ->> 'stage' from jobs where chain_id = $1 and kind = 'train'";
            until("the GPT is made a classifier", PATIENCE, async || {
                let stage: Result<Option<Option<String>>, _> =
                    sqlx::query_scalar(stage).bind(chain).fetch_optional(&shop.pool).await;
                stage.expect("it can be read").flatten().is_some_and(|stage| stage == "classifier")
            })
            .await;
            shop.kill(&["gpt-worker"], false).await;
        }
        shop::at_rest(&shop.pool, chain).await;
    }
    assert_eq!(resumed(&shop.pool, "classifier").await, 1, "it began anew");
    let weights = shop.weights("returns-by-visits").await;
    assert_eq!(weights.len(), 2);
    assert_eq!(weights[0], weights[1]);
}
