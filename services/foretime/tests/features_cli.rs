//! `foretime features` and `foretime dataset` against a server that runs: what they print, and what they say to a mistake.

use std::io::Write;
use std::process::Stdio;

use frames::files::{read_arrow, read_parquet};
use frames::rows::to_json;

use crate::support::{Ground, Process, foretime};

const DEFINITIONS: &str = r#"
[[entity]]
name = "shop"
keys = ["shop"]

[[source]]
name = "visits"
columns = { shop = "text", at = "time", amount = "number", price = "decimal(12,2)" }
event_time = "at"
known_time = "at"

[[feature_view]]
name = "latest"
entity = "shop"
source = "visits"
features = ["amount", "price"]
tags = ["money"]

[[feature_view]]
name = "visits"
entity = "shop"
source = "visits"
log = ["amount"]

[[dataset]]
name = "spending"
spine = { view = "visits" }
horizon = "1h"
label = "amount > 1"
views = ["latest"]
split = { train_until = "2013-10-20T00:00:00Z", validation_until = "2013-10-25T00:00:00Z" }
"#;

/// A terminal beside a service that runs.
pub(crate) struct Terminal {
    pub(crate) process: Process,
    pub(crate) ground: Ground,
}

impl Terminal {
    /// Runs a command; answers whether it succeeded, and what it printed on both outputs.
    pub(crate) fn told(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let address = self.process.url.trim_start_matches("http://");
        let mut child = foretime(arguments, self.ground.path())
            .env("FORETIME_HTTP__LISTEN", address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let (succeeded, said) = self.told(arguments, "");
        assert!(succeeded, "{arguments:?}: {said}");
        said
    }

    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let (succeeded, said) = self.told(arguments, "");
        assert!(!succeeded, "{arguments:?} succeeded: {said}");
        said
    }
}

#[tokio::test]
async fn features_and_datasets_are_handled_from_a_terminal() {
    let ground = Ground::migrated().await;
    let process = ground.start(&mut ground.service("feature-store"));
    let server = Terminal { process, ground };
    let folder = server.ground.path();
    let definitions = folder.join("definitions");
    std::fs::create_dir(&definitions).expect("it can be made");
    std::fs::write(definitions.join("a.toml"), DEFINITIONS).expect("it can be written");
    server.done(&["apply", definitions.to_str().expect("a plain name")]);

    let lines: String = (0..40)
        .map(|row| format!("{{\"shop\":\"s{}\",\"at\":\"2013-10-{:02}T00:00:00Z\",\"amount\":{},\"price\":\"{row}.10\"}}\n", row % 4, 1 + row % 28, row % 3))
        .collect();
    let (_, said) = server.told(&["features", "ingest", "visits", "-"], &lines);
    assert!(said.contains("40 taken (seq 1)"), "{said}");
    let listed = server.done(&["features", "list", "--tag", "money"]);
    assert!(listed.contains("latest") && listed.contains("40") && !listed.contains("visits"), "{listed}");
    let shown = server.done(&["features", "show", "latest"]);
    assert!(shown.contains("40 rows of 4 entities") && shown.contains("decimal(12,2)"), "{shown}");
    let got =
        server.done(&["features", "get", "--entity", "shop=s3", "--entity", "shop=nobody", "latest:price"]);
    assert!(got.contains("\"27.10\"") && got.contains("PRESENT") && got.contains("NOT_FOUND"), "{got}");

    let built = server.done(&["dataset", "build", "spending", "--format", "parquet"]);
    assert!(built.contains("40 rows") && built.contains("0 of its values were learned after"), "{built}");
    let sets = server.done(&["dataset", "show"]);
    let id = sets.split_whitespace().next().expect("there is a set").to_owned();
    assert!(sets.contains("spending"), "{sets}");
    assert!(server.done(&["dataset", "show", &id, "--json"]).contains("\"spec_hash\""));
    let (parquet, arrow) = (folder.join("o.parquet"), folder.join("o.arrow"));
    for out in [&parquet, &arrow] {
        server.done(&["dataset", "export", &id, "--out", out.to_str().expect("a plain name")]);
    }
    let rows = read_parquet(&parquet).expect("it is Parquet");
    assert_eq!(rows.rows(), 40);
    assert_eq!(to_json(&rows), to_json(&read_arrow(&arrow).expect("it is Arrow")));

    let said = server.refused(&["dataset", "build", "spendign"]);
    assert!(
        said.contains("there is no dataset `spendign`") && said.contains("did you mean `spending`"),
        "{said}"
    );
    let said = server.refused(&["dataset", "build", "revenue"]);
    assert!(said.contains("there are: spending"), "{said}");
    assert!(server.refused(&["features", "show", "lates"]).contains("did you mean `latest`"));
    let said = server.refused(&["features", "get", "--entity", "shop=s1", "latest:amuont"]);
    assert!(said.contains("did you mean `amount`"), "{said}");
    let below_a_file = definitions.join("a.toml/o.parquet");
    let said =
        server.refused(&["dataset", "export", &id, "--out", below_a_file.to_str().expect("a plain name")]);
    assert!(said.contains("a.toml"), "{said}");
    assert!(server.refused(&["features", "erase", "shop", "--key", "shop=s3"]).contains("--yes"));
    let receipt =
        server.done(&["features", "erase", "shop", "--key", "shop=s3", "--yes", "--reason", "request 4"]);
    assert!(
        receipt.contains("request 4") && receipt.contains("rows_removed") && receipt.contains("sha256"),
        "{receipt}"
    );
    let got = server.done(&["features", "get", "--entity", "shop=s3", "latest:price"]);
    assert!(got.contains("NOT_FOUND"), "{got}");
}
