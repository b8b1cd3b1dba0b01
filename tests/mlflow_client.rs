//! The registry and the scoring server under MLflow's own, unmodified Python clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use journeys::Platform;
use serde_json::json;

use crate::planted::{MODEL, VISITS, champion, question, trained, world};

/// The Python that has `mlflow-skinny`: of `FORETIME_TEST_PYTHON`, or of the environment beside the target directory.
pub(crate) fn python() -> PathBuf {
    python_of("FORETIME_TEST_PYTHON", "venv")
}

fn python_of(variable: &str, environment: &str) -> PathBuf {
    if let Ok(python) = std::env::var(variable) {
        return PathBuf::from(python);
    }
    let test_program = std::env::current_exe().expect("a running program has a path");
    let beside_target = |folder: &std::path::Path| {
        let python = folder.join(environment).join("bin/python");
        python.exists().then_some(python)
    };
    test_program.ancestors().find_map(beside_target).unwrap_or_else(|| {
        panic!("no Python was found in `{environment}`: run `make test`, which makes it, or set {variable}")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unmodified_client_tracks_registers_loads_and_meets_the_gate() {
    meets(python()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_the_whole_of_mlflow() {
    meets(python_of("FORETIME_TEST_MLFLOW", "venv-mlflow")).await;
}

async fn meets(python: PathBuf) {
    let platform = Platform::start().await;
    let gate = json!({ "name": "late", "model": "late-arrival", "champion_margin": 0.002 });
    let mut conn = platform.context.db.acquire().await.unwrap();
    let now = platform.context.clock.now();
    storage::definitions::save(&mut conn, "default", "gate", "late", &gate, now).await.unwrap();
    let url = platform.serve().await;
    succeeds(python, "mlflow_client.py", vec![url, "late-arrival".to_owned()]).await;
}

/// Runs one of the programs beside this file, which says `ok` at its end.
async fn succeeds(python: PathBuf, program: &str, arguments: Vec<String>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(program);
    let run = move || Command::new(python).arg(script).args(arguments).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().expect("the Python program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout.ends_with(b"ok\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflows_scoring_client_is_answered_what_predict_says_to_the_bit() {
    let (platform, set) = world().await;
    let linear = trained(&platform, "linear", &set).await;
    champion(&platform, linear).await;
    let rows: Vec<_> = (1..=6).map(|visit| question(VISITS - visit)).collect();
    let url = platform.serve().await;
    succeeds(python(), "mlflow_scoring.py", vec![url, MODEL.to_owned(), json!(rows).to_string()]).await;
}
