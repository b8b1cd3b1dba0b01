//! Requests made up from our own `/openapi.json` by schemathesis: whatever it sends, no answer is a server error.

use std::process::Command;

use journeys::Platform;
use serde_json::json;

use crate::mlflow_client::python;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_that_the_document_allows_is_answered_with_a_server_error() {
    let platform = Platform::start().await;
    for body in [json!({ "name": "late" }), json!({ "name": "late", "source": "s3://elsewhere/model" })] {
        let route = if body.get("source").is_some() { "model-versions" } else { "registered-models" };
        let path = format!("/api/2.0/mlflow/{route}/create");
        assert_eq!(platform.call("POST", &path, Some(body)).await.0, 200);
    }
    let url = platform.serve().await;
    let notes = tempfile::tempdir().unwrap(); // schemathesis leaves some where it runs
    let run = tokio::task::spawn_blocking(move || {
        Command::new(python().with_file_name("schemathesis"))
            .args(["run", &format!("{url}/openapi.json"), "--checks", "not_a_server_error", "--no-color"])
            .args(["--max-examples", "8", "--seed", "1", "--workers", "1", "--generation-database", "none"])
            .current_dir(notes.path())
            .output()
            .expect("schemathesis starts")
    });
    let run = run.await.unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("Operations:"), "{said}");
}
