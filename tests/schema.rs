//! A database that a newer program has migrated: it serves this one as long as it says so.

use foretime::Failure;
use foretime::up::{Platform as Running, Service};
use journeys::Platform;
use sqlx::{ConnectOptions, PgPool};

/// A migration that only a program of the future knows.
const NEWER: i64 = 99_990_101_000_000;

async fn migrated_by_a_newer_program(db: &PgPool) {
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values ($1, 'of a newer program', true, '\\x00', 1)",
    )
    .bind(NEWER)
    .execute(db)
    .await
    .unwrap();
}

/// Starts one service of this program over the same database, as `up` does if it may migrate, or as `run`.
async fn start(platform: &Platform, migrate: bool) -> Result<Running, Failure> {
    let url = platform.context.db.connect_options().to_url_lossy().to_string();
    let config = platform.context.config.as_ref().clone();
    Running::start(config, &url, None, &[Service::Registry], migrate).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_program_starts_over_a_newer_schema_that_still_serves_it() {
    let platform = Platform::start().await;
    migrated_by_a_newer_program(&platform.context.db).await;
    for migrate in [true, false] {
        let Ok(running) = start(&platform, migrate).await else {
            panic!("it was refused, though the newer schema has only added to what this program knows");
        };
        assert_eq!(platform.call("GET", "/readyz", None).await.0, 200);
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_program_refuses_a_schema_that_has_outgrown_it_and_says_what_to_do() {
    let platform = Platform::start().await;
    let db = &platform.context.db;
    migrated_by_a_newer_program(db).await;
    sqlx::query("update schema_compatibility set oldest_program = $1").bind(NEWER).execute(db).await.unwrap();
    for migrate in [true, false] {
        let Err(Failure(said)) = start(&platform, migrate).await else { panic!("it was started") };
        assert!(said.contains("serves programs from migration 99990101000000 on"), "{said}");
        assert!(said.contains("run a newer foretime"), "{said}");
    }
    // one that had been started before the migration is not ready any more
    let (status, problem) = platform.call("GET", "/readyz", None).await;
    assert_eq!((status, problem["type"].as_str()), (500, Some("/problems/outgrown-program")), "{problem}");
}
