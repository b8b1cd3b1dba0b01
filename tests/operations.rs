//! What the platform does for itself: backups by schedule, and forgetting what is over.

use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use domain::SystemClock;
use foretime::garbage::{Collected, collect, look};
use foretime::up::{Platform as Running, Service};
use journeys::{Platform, folder};
use service_kit::Config;
use service_kit::config::RetentionConfig;
use sqlx::{ConnectOptions, Connection, PgConnection};
use storage::private_postgres::{PostgresError, PrivatePostgres};

/// The same database and files, served as `foretime up` does.
async fn running(platform: &Platform) -> Running {
    let url = platform.context.db.connect_options().to_url_lossy().to_string();
    let mut config: Config = platform.context.config.as_ref().clone();
    config.http.listen.set_port(0);
    let clock = Some(platform.clock.clone() as std::sync::Arc<dyn domain::Clock>);
    Running::start(config, &url, clock, &Service::ALL, true).await.unwrap()
}

fn backups(data_dir: &Path) -> Vec<PathBuf> {
    let entries = data_dir.join("backups/nights").read_dir().into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_by_schedule_are_whole_and_as_many_stay_as_are_to_be_kept() {
    let platform = Platform::start().await;
    platform
        .apply(
            "[[schedule]]\nname = 'nights'\ncron = '0 0 3 * * *'\naction = { backup = { folder = 'nights', keep = 2 } }",
        )
        .await;
    let running = running(&platform).await;
    let data_dir = platform.context.data_dir.clone();
    std::fs::create_dir_all(data_dir.join("backups/nights/20000101T000000Z-killed/tables")).unwrap();
    let mut taken = Vec::new();
    for _ in 0..3 {
        let (status, told) = platform.call("POST", "/v1/schedules/nights/run", None).await;
        assert_eq!(status, 202, "{told}");
        let chain = told["ticks"][0]["job"].as_str().unwrap().to_owned();
        let path = format!("/v1/jobs/{chain}");
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(20));
        let job = loop {
            pause.tick().await;
            let (_, job) = platform.call("GET", &path, None).await;
            if job["state"] != "queued" && job["state"] != "running" {
                break job;
            }
        };
        assert_eq!(job["state"], "succeeded", "{job}");
        taken.push(data_dir.join(job["outcome"]["folder"].as_str().unwrap()));
        platform.clock.advance_to(domain::Clock::now(&*platform.clock) + TimeDelta::seconds(1));
    }
    assert_eq!(backups(&data_dir), taken[1..], "the two latest, and nothing that was left half-way");
    running.stop().await.unwrap();
    let folder = folder();
    let elsewhere = Config { data_dir: folder.path().join("data"), database_url: None, ..Config::default() };
    foretime::backup::put_back(&elsewhere, &taken[2]).await.unwrap(); // checks every hash
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_keeps_the_parts_of_every_project_while_it_is_made() {
    let platform = Platform::start().await;
    for project in ["default", "other", "third"] {
        sqlx::query(
            "insert into parts (part_id, project, view, path, sha256, size_bytes, rows, min_event_time, max_event_time,
                                max_known_time, seq, min_seq, created_at, view_version, format, level)
             values (gen_random_uuid(), $1, 'v', $1, '', 1, 1, now(), now(), now(), 1, 1, now(), 1, 2, 0)",
        )
        .bind(project)
        .execute(&platform.context.db)
        .await
        .unwrap();
    }
    // what each lease was for, as it was given
    sqlx::raw_sql(
        "create table witness (project text);
         create function witness() returns trigger language plpgsql as
             $$ begin insert into witness values (new.project); return new; end $$;
         create trigger witness before insert on part_leases for each row execute function witness()",
    )
    .execute(&platform.context.db)
    .await
    .unwrap();
    let url = platform.context.db.connect_options().to_url_lossy().to_string();
    let config = Config { database_url: Some(url.into()), ..platform.context.config.as_ref().clone() };
    let folder = folder();
    foretime::backup::take(&config, &folder.path().join("backup")).await.unwrap();
    let held: Vec<String> = sqlx::query_scalar("select project from witness order by 1")
        .fetch_all(&platform.context.db)
        .await
        .unwrap();
    assert_eq!(held, ["default", "other", "third"]);
    let left: i64 =
        sqlx::query_scalar("select count(*) from part_leases").fetch_one(&platform.context.db).await.unwrap();
    assert_eq!(left, 0, "leases were left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_for_longer_than_it_is_kept_goes_and_a_dry_run_says_what_would() {
    let platform = Platform::start().await;
    let db = &platform.context.db;
    let rows = "
        insert into jobs (job_id, project, kind, payload, state, run_after, max_attempts, created_at, finished_at, chain_id)
        select id, 'default', kind, '{}', state, now(), 3, now() - age, case when over then now() - age end, chain
        from (values
            ('00000000-0000-4000-8000-000000000001'::uuid, 'old', 'succeeded', interval '40 days', true, null::uuid),
            ('00000000-0000-4000-8000-000000000002', 'new', 'succeeded', interval '4 days', true, null),
            ('00000000-0000-4000-8000-000000000003', 'waits', 'queued', interval '40 days', false, null),
            ('00000000-0000-4000-8000-000000000004', 'began', 'succeeded', interval '40 days', true,
             '00000000-0000-4000-8000-000000000004'),
            ('00000000-0000-4000-8000-000000000005', 'goes-on', 'queued', interval '1 day', false,
             '00000000-0000-4000-8000-000000000004')
        ) as given (id, kind, state, age, over, chain);
        insert into schedule_ticks (project, schedule, tick_at, state, noted_at)
        values ('default', 's', now() - interval '100 days', 'skipped', now() - interval '100 days'),
               ('default', 's', now() - interval '10 days', 'skipped', now() - interval '10 days'),
               ('default', 's', now() - interval '101 days', 'waiting', now() - interval '101 days');
        insert into ingest_batches (project, source, idempotency_key, seq, answer, created_at)
        values ('default', 's', 'old', 1, '{}', now() - interval '40 days'), ('default', 's', 'new', 2, '{}', now());
        insert into prediction_logs (prediction_log_id, project, registered_model, version, path, sha256, rows,
                                     first_cutoff, last_cutoff, created_at)
        values (gen_random_uuid(), 'default', 'm', 1, 'predictions/old.arrow', '', 1, now() - interval '500 days',
                now() - interval '500 days', now()),
               (gen_random_uuid(), 'default', 'm', 1, 'predictions/new.arrow', '', 1, now(), now(), now());
    ";
    sqlx::raw_sql(rows).execute(db).await.unwrap();
    let data_dir = platform.folder.path();
    std::fs::create_dir_all(data_dir.join("predictions")).unwrap();
    let (old, new) = (data_dir.join("predictions/old.arrow"), data_dir.join("predictions/new.arrow"));
    std::fs::write(&old, "old").unwrap();
    std::fs::write(&new, "new").unwrap();

    let kept = RetentionConfig::default();
    let goes = Collected { jobs: 1, ticks: 1, answers: 1, prediction_files: 1 };
    assert_eq!(look(db, &kept, &SystemClock).await.unwrap(), goes);
    assert!(old.exists(), "a dry run removed something");
    assert_eq!(collect(db, data_dir, &kept, &SystemClock).await.unwrap(), goes);
    assert!(!old.exists() && new.exists());
    let left: Vec<String> =
        sqlx::query_scalar("select kind from jobs order by 1").fetch_all(db).await.unwrap();
    assert_eq!(left, ["began", "goes-on", "new", "waits"], "a chain that goes on keeps its beginning");
    assert_eq!(collect(db, data_dir, &kept, &SystemClock).await.unwrap(), Collected::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_which_nothing_is_kept_waits_for_no_disk_and_one_whose_data_is_kept_does() {
    type Start = fn(&Path) -> Result<PrivatePostgres, PostgresError>;
    let both: [(Start, &str, &str); 2] =
        [(PrivatePostgres::start, "on", "fast"), (PrivatePostgres::start_throwaway, "off", "immediate")];
    for (start, durable, ending) in both {
        let folder = folder();
        let root = folder.path().join("postgres");
        let postgres = start(&root).unwrap();
        let mut conn = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let told: String = sqlx::query_scalar("select current_setting($1)")
                .bind(setting)
                .fetch_one(&mut conn)
                .await
                .unwrap();
            assert_eq!(told, durable, "{setting}");
        }
        postgres.stop().unwrap();
        let log = std::fs::read_to_string(root.join("postgres.log")).unwrap();
        assert!(log.contains(&format!("received {ending} shutdown request")), "{log}");
    }
}
