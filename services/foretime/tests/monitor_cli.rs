//! `foretime monitor` as a person meets it: two files compared without a server, and a monitor that a server runs.

use std::path::Path;

use frames::files::write_parquet;
use frames::{Frame, Values};
use serde_json::Value;

use crate::features_cli::Terminal;
use crate::support::{Ground, folder, foretime};

const MONITOR: &str = "[[monitor]]\nname = \"visits\"\nmodel = \"visits\"\n";

fn write(file: &Path, shift: f64) {
    let fares = (0..2_000).map(|row| f64::from(row * 1_237 % 2_000) / 100.0 + shift).collect();
    let carriers = Values::text((0..2_000).map(|row| Some(["AA", "UA", "DL"][row % 3])));
    let columns = vec![("fare".to_owned(), Values::Number(fares)), ("carrier".to_owned(), carriers)];
    write_parquet(file, &Frame::new(2_000, columns)).expect("it can be written");
}

#[test]
fn two_files_are_compared_without_a_server_and_so_is_one_with_kept_profiles() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).to_str().expect("a plain name").to_owned();
    write(&folder.path().join("a.parquet"), 0.0);
    write(&folder.path().join("b.parquet"), 5.0);
    let ran = |arguments: &[&str]| {
        let output = foretime(arguments, folder.path()).output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (a, b, kept, json, html) =
        (at("a.parquet"), at("b.parquet"), at("a.profiles"), at("o.json"), at("o.html"));
    let (code, said) = ran(&["monitor", "profile", &a, "--out", &kept]);
    assert!(code == Some(0) && said.contains("2 columns over 2000 rows") && said.contains(&kept), "{said}");
    for reference in [&a, &kept] {
        let compare = ["monitor", "compare", "--reference", reference, "--current", &b];
        let (code, said) = ran(&[&compare[..], &["--json", &json, "--html", &html]].concat());
        assert!(code == Some(0) && said.contains("drift") && said.contains("location"), "{said}");
        let report: Value =
            serde_json::from_slice(&std::fs::read(&json).expect("it is there")).expect("it is JSON");
        let [fare, carrier] = [0, 1].map(|place| &report["columns"][place]);
        assert_eq!(
            (&fare["name"], &fare["kind"], &fare["verdict"]),
            (&"fare".into(), &"number".into(), &"drift".into())
        );
        assert_eq!((&fare["rows_reference"], &fare["rows_current"]), (&2_000.into(), &2_000.into()));
        let [low, effect, high] =
            ["effect_low", "effect", "effect_high"].map(|end| fare[end].as_f64().expect("a number"));
        assert!(low <= effect && effect <= high && (effect - 0.25).abs() < 0.01, "{fare}");
        assert!(fare["measures"]["psi_q10_eps1e-4"].is_number(), "{fare}");
        assert_eq!((&carrier["kind"], &carrier["verdict"]), (&"category".into(), &"ok".into()));
        assert!(std::fs::read_to_string(&html).expect("it is there").contains("<svg"));
        assert_eq!(ran(&[&compare[..], &["--fail-on-drift"]].concat()).0, Some(1));
    }
    let (code, said) = ran(&["monitor", "compare", "--reference", &at("none.parquet"), "--current", &b]);
    assert!(code == Some(1) && said.contains("none.parquet"), "{said}");
    let (code, said) = ran(&["monitor", "compare", "--reference", &a, "--current", &b, "--alpha", "2"]);
    assert!(code == Some(1) && said.contains("between 0 and 1"), "{said}");
}

#[tokio::test]
async fn a_monitor_is_run_and_tried_from_a_terminal() {
    let ground = Ground::migrated().await;
    let process = ground.start(&mut ground.service("feature-store"));
    let mut server = Terminal { process, ground };
    let definitions = server.ground.path().join("definitions");
    std::fs::create_dir(&definitions).expect("it can be made");
    std::fs::write(definitions.join("a.toml"), MONITOR).expect("it can be written");
    server.done(&["apply", definitions.to_str().expect("a plain name")]);
    server.process = server.ground.start(&mut server.ground.service("monitor"));

    let ran = server.done(&["monitor", "run", "visits"]);
    assert!(ran.contains("0 windows judged by inputs, 0 by labels"), "{ran}");
    let tried = server.done(&["monitor", "backtest", "visits", "--min-effect", "0.1"]);
    assert!(tried.contains("0 windows, 0 incidents"), "{tried}");
    assert_eq!(server.done(&["monitor", "incidents"]), "");
    assert!(server.refused(&["monitor", "run", "vists"]).contains("monitor `vists` not found"));
    let nobody = "00000000-0000-7000-8000-000000000000";
    for asked in [&["monitor", "explain", nobody][..], &["monitor", "ack", nobody, "--by", "me"]] {
        let said = server.refused(asked);
        assert!(said.contains("not found"), "{asked:?}: {said}");
    }
}
