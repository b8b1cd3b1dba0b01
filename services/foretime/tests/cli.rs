//! The command line as a person meets it: help that reads well, and mistakes that say what to do.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use frames::files::{read_parquet, write_parquet};
use frames::{Frame, Values};

use crate::shop;
use crate::support::{Ground, Process, folder, foretime};

fn ran(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[test]
fn the_help_names_every_command_and_what_it_is_for() {
    let folder = folder();
    let (code, said) = ran(foretime(&["--help"], folder.path()));
    assert_eq!(code, Some(0));
    for word in [
        "up",
        "run",
        "demo",
        "apply",
        "ingest",
        "train",
        "features",
        "dataset",
        "plan",
        "scaling",
        "migrate",
        "doctor",
        "Nothing from the future",
    ] {
        assert!(said.contains(word), "`{word}` is missing from:\n{said}");
    }
}

#[test]
fn without_a_postgres_the_start_fails_and_says_how_to_get_one() {
    let folder = folder();
    let mut command = foretime(&["--listen", "127.0.0.1:0", "up"], folder.path());
    command.env("PG_BINDIR", folder.path());
    let (code, said) = ran(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("no Postgres server was found") && said.contains("apt-get install postgresql"),
        "{said}"
    );
}

#[test]
fn a_database_that_does_not_answer_is_named_as_such() {
    let folder = folder();
    let mut command = foretime(&["--listen", "127.0.0.1:0", "run", "registry"], folder.path());
    command.env("FORETIME_DATABASE_URL", "postgres:///postgres?host=/nowhere&user=postgres");
    let (code, said) = ran(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no database answers") && said.contains("database_url"), "{said}");
}

#[test]
fn a_service_alone_without_a_shared_database_says_which_setting_it_needs() {
    let folder = folder();
    let (code, said) = ran(foretime(&["run", "monitor"], folder.path()));
    assert_eq!(code, Some(1));
    assert!(said.contains("FORETIME_DATABASE_URL"), "{said}");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused_with_its_name() {
    let folder = folder();
    std::fs::write(folder.path().join("file"), b"not a folder").expect("the folder can be written");
    let (code, said) = ran(foretime(&["--data-dir", "file/data", "up"], folder.path()));
    assert_eq!(code, Some(1));
    assert!(said.contains("file/data") && said.contains("--data-dir"), "{said}");
}

#[test]
fn a_full_data_directory_is_an_error_that_names_it_and_leaves_no_server_behind() {
    let folder = folder();
    // The shell's file size limit stands in for the end of the disk: the kernel refuses the write in the same way.
    let mut command = Command::new("bash");
    let script = format!(
        "ulimit -f 8; exec {} --listen 127.0.0.1:0 --data-dir data up",
        env!("CARGO_BIN_EXE_foretime")
    );
    command.args(["-c", &script]).current_dir(folder.path()).stdin(Stdio::null());
    command.env_remove("DATABASE_URL").env_remove("FORETIME_DATABASE_URL");
    let (code, said) = ran(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("initdb failed") && said.contains("data"), "{said}");
    assert!(!folder.path().join("data/postgres/data/postmaster.pid").exists());
}

#[test]
fn what_is_mistyped_is_told_with_what_would_do() {
    let folder = folder();
    for (arguments, expected) in [
        (&["--listen", "127.0.0.1:1", "jobs", "list"][..], ["Connection refused", "`foretime up`"]),
        (&["jobs", "show", "17"], ["UUID", "`foretime jobs list`"]),
        (&["--config", "nowhere.toml", "doctor"], ["`nowhere.toml`", "--config"]),
        (&["--config", "nowhere.toml", "config", "explain"], ["`nowhere.toml`", "--config"]),
        (&["apply", "nowhere"], ["`nowhere`", "definition files"]),
    ] {
        let (code, said) = ran(foretime(arguments, folder.path()));
        assert_ne!(code, Some(0), "{arguments:?}: {said}");
        assert!(expected.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
        assert!(!said.contains("error sending request"), "{said}");
    }
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let folder = folder();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = holder.local_addr().expect("it is bound").to_string();
    let (code, said) = ran(foretime(&["--listen", &address, "up"], folder.path()));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("http.listen"), "{said}");
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    let folder = folder();
    std::fs::write(folder.path().join("foretime.toml"), "[http]\nlisen = \"127.0.0.1:1\"\n")
        .expect("it can be written");
    let (code, said) = ran(foretime(&["doctor"], folder.path()));
    assert_eq!(code, Some(1));
    assert!(said.contains("lisen"), "{said}");
}

#[test]
fn a_public_address_without_a_token_is_refused() {
    let folder = folder();
    let (code, said) = ran(foretime(&["--listen", "0.0.0.0:0", "up"], folder.path()));
    assert_eq!(code, Some(1));
    assert!(said.contains("FORETIME_HTTP__TOKEN"), "{said}");
}

#[test]
fn the_doctor_finds_a_healthy_machine_healthy() {
    let folder = folder();
    let (code, said) = ran(foretime(&["--listen", "127.0.0.1:0", "doctor"], folder.path()));
    assert_eq!(code, Some(0), "{said}");
    for what in ["data directory", "disk", "port", "device", "postgres", "migrations"] {
        assert!(said.contains(what), "`{what}` is missing from:\n{said}");
    }
}

#[test]
fn the_doctor_is_content_with_a_foretime_that_runs() {
    let folder = folder();
    let up = &mut foretime(&["--listen", "127.0.0.1:0", "--data-dir", "data", "up"], folder.path());
    let mut process = Process::spawn(up, folder.path());
    process.listens();
    let address = process.url.strip_prefix("http://").expect("it says where");
    let (code, said) = ran(foretime(&["--listen", address, "--data-dir", "data", "doctor"], folder.path()));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("a Foretime answers at") && said.contains("current ("), "{said}");
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_is_shown_by_the_name_of_its_model_and_a_name_of_nothing_tells_what_there_is() {
    let ground = Ground::migrated().await;
    let process = ground.start(&mut ground.up());
    shop::open(&process.client(), shop::BY_VISITS).await;
    let address = process.url.strip_prefix("http://").expect("it says where");
    let show = |more: &[&str]| {
        let asked = [&["--listen", address, "loop", "show"], more].concat();
        ran(foretime(&asked, ground.path()))
    };
    let (trees, gpt) = ("\nreturns → returns\n", "\nreturns_by_visits → returns-by-visits\n");
    for (asked, shown) in [
        (&[][..], [true, true]),
        (&["default"], [true, true]),
        (&["--project", "default"], [true, true]),
        (&["returns"], [true, false]),
        (&["returns-by-visits"], [false, true]),
        (&["returns_by_visits", "--project", "default"], [false, true]),
    ] {
        let (code, said) = show(asked);
        assert_eq!(code, Some(0), "{asked:?}: {said}");
        assert_eq!([trees, gpt].map(|loops| said.contains(loops)), shown, "{asked:?}: {said}");
    }
    let (code, said) = show(&["returns_by_visits", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!((code, shown["models"].as_array().map(Vec::len)), (Some(0), Some(1)), "{said}");

    let (code, said) = show(&["flights"]);
    assert!(
        code == Some(1) && said.contains("default, returns, returns-by-visits, returns_by_visits"),
        "{said}"
    );
    let (code, said) = show(&["return"]);
    assert!(code == Some(1) && said.contains("did you mean `returns`?"), "{said}");
    let (code, said) = show(&["returns", "--project", "other"]);
    assert!(code == Some(1) && said.contains("this process serves `default`"), "{said}");
    assert!(process.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_found_shown_ended_and_tried_again_from_a_terminal() {
    let ground = Ground::migrated().await;
    let process = ground.start(&mut ground.service("registry"));
    let job = storage::jobs::NewJob {
        project: "default".to_owned(),
        kind: "watch the sky".to_owned(), // nobody here does
        payload: serde_json::json!({ "until": "dawn" }),
        dedup_key: None,
        priority: 0,
        max_attempts: 3,
    };
    let mut conn = ground.pool().await.acquire().await.expect("it answers");
    let id = storage::jobs::enqueue(&mut conn, &job).await.expect("it is new").to_string();
    let id = id.as_str();
    let address = process.url.strip_prefix("http://").expect("it says where");
    let jobs =
        |asked: &[&str]| ran(foretime(&[&["--listen", address, "jobs"], asked].concat(), ground.path()));
    for (asked, expected) in [
        (&["list", "--state", "queued", "--kind", "watch the sky"][..], [id, "0/3"]),
        (&["show", id], ["\"until\": \"dawn\"", "\"state\": \"queued\""]),
        (&["cancel", id], [id, "is cancelled"]),
        (&["logs", id, "--follow"], ["asked to end", ""]),
        (&["list", "--state", "cancelled"], [id, "watch the sky"]),
        (&["retry", id], [id, "is queued"]),
        (&["logs", id], ["asked to end", "queued again by request"]),
    ] {
        let (code, said) = jobs(asked);
        assert_eq!(code, Some(0), "{asked:?}: {said}");
        assert!(expected.iter().all(|word| said.contains(word)), "{asked:?}: {said}");
    }
    let (code, said) = jobs(&["retry", id]);
    assert!(code == Some(1) && said.contains("only a dead or cancelled job is tried again"), "{said}");
    let (code, said) = jobs(&["list", "--kind", "another&state=dead"]);
    assert!(code == Some(0) && said.lines().count() == 1, "{said}");
    assert!(process.stop().success());
}

#[test]
fn a_folder_without_definitions_and_a_server_that_is_not_there_are_named() {
    let folder = folder();
    let (code, said) = ran(foretime(&["apply", "."], folder.path()));
    assert_eq!(code, Some(1));
    assert!(said.contains("*.toml"), "{said}");
    std::fs::write(folder.path().join("x.toml"), "[[entity]]\nname = \"a\"\nkeys = [\"a\"]\n")
        .expect("it can be written");
    let (code, said) = ran(foretime(&["--listen", "127.0.0.1:9", "apply", "."], folder.path()));
    assert_eq!(code, Some(1));
    assert!(said.contains("foretime up"), "{said}");
}

const DAY: i64 = 86_400_000_000;

/// Three labels of two shops, and three rows of what was sold there, of which one was learned late.
fn sales(folder: &Path) {
    let labels = vec![
        ("shop".to_owned(), Values::text([Some("north"), Some("south"), Some("north")])),
        ("decided".to_owned(), Values::Time(vec![9 * DAY, 9 * DAY, 2 * DAY])),
        ("closed".to_owned(), Values::Boolean(vec![Some(true), Some(false), None])),
    ];
    write_parquet(&folder.join("labels.parquet"), &Frame::new(3, labels)).expect("it can be written");
    let sales = vec![
        ("shop".to_owned(), Values::text([Some("north"), Some("north"), Some("south")])),
        ("day".to_owned(), Values::Time(vec![DAY, 8 * DAY, DAY])),
        ("learned".to_owned(), Values::Time(vec![DAY, 30 * DAY, DAY])),
        ("sold".to_owned(), Values::Integer(vec![10, 20, 30])),
    ];
    write_parquet(&folder.join("sales.parquet"), &Frame::new(3, sales)).expect("it can be written");
}

fn join(folder: &Path, view: &str, more: &[&str]) -> (Option<i32>, String) {
    let asked = ["dataset", "join", "--labels", "labels.parquet", "--cutoff", "decided", "--view", view];
    ran(foretime(&[&asked, ["--out", "out.parquet"].as_slice(), more].concat(), folder))
}

const SALES: &str = "name=s,path=sales.parquet,keys=shop,event_time=day,known_time=learned";

#[test]
fn plain_files_are_joined_without_a_server_and_without_the_future() {
    let folder = folder();
    sales(folder.path());
    let (code, said) = join(folder.path(), &format!("{SALES},max_age=8d"), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("3 rows in, 3 rows out"), "{said}");
    assert!(said.contains("s: PRESENT 3, EXPIRED 0, NOT_FOUND 0, DELETED 0"), "{said}");
    let out = read_parquet(&folder.path().join("out.parquet")).expect("it was written");
    let names: Vec<&str> = out.columns().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["shop", "decided", "closed", "s__sold", "s__status"]);
    assert_eq!(out.find("s__sold"), Some(&Values::Integer(vec![10, 30, 10])));
    assert_eq!(out.find("closed"), Some(&Values::Boolean(vec![Some(true), Some(false), None])));
}

#[test]
fn a_join_that_may_look_later_sees_what_was_learned_later() {
    let folder = folder();
    sales(folder.path());
    let (code, said) = join(folder.path(), &format!("{SALES},max_age=7d"), &["--as-of", "off"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("s: PRESENT 2, EXPIRED 1, NOT_FOUND 0, DELETED 0"), "{said}");
    let out = read_parquet(&folder.path().join("out.parquet")).expect("it was written");
    let sold = out.find("s__sold").expect("it was joined");
    assert_eq!(sold, &Values::Integer(vec![20, frames::NO_INTEGER, 10]));
}

#[test]
fn a_second_view_without_keys_is_about_every_label() {
    let folder = folder();
    sales(folder.path());
    let newest = "name=newest,path=sales.parquet,keys=,event_time=day,boundary=exclusive";
    let (code, said) = join(folder.path(), SALES, &["--view", newest]);
    assert_eq!(code, Some(0), "{said}");
    let out = read_parquet(&folder.path().join("out.parquet")).expect("it was written");
    let names: Vec<&str> = out.columns().iter().skip(5).map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["newest__shop", "newest__learned", "newest__sold", "newest__status"]);
    assert_eq!(out.find("newest__sold"), Some(&Values::Integer(vec![20, 20, 30])));
}

#[test]
fn a_join_of_a_column_that_is_not_there_fails_and_names_file_and_columns() {
    let folder = folder();
    sales(folder.path());
    let (code, said) = join(folder.path(), &SALES.replace("day", "dya"), &[]);
    assert_eq!(code, Some(1), "{said}");
    let expected = "`sales.parquet`: there is no column `dya`; there are: shop, day, learned, sold";
    assert!(said.contains(expected), "{said}");
    assert!(!folder.path().join("out.parquet").exists());
    let (code, said) = join(folder.path(), SALES, &["--as-of", "column:seen"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`labels.parquet`: there is no column `seen`"), "{said}");
}

#[test]
fn a_misspelt_setting_of_a_joined_view_is_refused_with_the_right_one() {
    let folder = folder();
    let (code, said) = join(folder.path(), &format!("{SALES},maxage=7d"), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("did you mean `max_age`?"), "{said}");
}

#[test]
fn features_cannot_be_erased_by_a_slip_and_an_entity_is_asked_for_in_words_that_show_how() {
    let folder = folder();
    let (code, said) = ran(foretime(&["features", "erase", "shop", "--key", "shop=a"], folder.path()));
    assert!(code == Some(1) && said.contains("--yes"), "{said}");
    let (code, said) = ran(foretime(&["features", "get", "--entity", "a", "visits:amount"], folder.path()));
    assert!(code == Some(1) && said.contains("`shop=a`"), "{said}");
    let (code, said) = ran(foretime(&["features", "get", "--help"], folder.path()));
    assert!(code == Some(0) && said.contains("view:feature"), "{said}");
}

/// What a command makes of its standard input.
fn fed(mut command: Command, input: &[u8]) -> (Option<i32>, String) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    command.stdin(file);
    ran(command)
}

fn tokenizer(folder: &Path) {
    let texts = ["the flight was late", "the flight was early", "Zürich 東京 🛫"];
    ::gpt::Bpe::train(texts.iter(), 300, &[]).unwrap().save(&folder.join("tokenizer.json")).unwrap();
}

#[test]
fn text_becomes_ids_and_text_again_whole_and_line_by_line() {
    let folder = folder();
    tokenizer(folder.path());
    let text = "the flight was late\n\n  Zürich → 東京 🛫\r\nend, of \"it\"\n";
    let gpt = |arguments: &[&str]| foretime(&[&["gpt"], arguments].concat(), folder.path());
    for lines in [&[][..], &["--lines"]] {
        let (code, ids) = fed(gpt(&[&["encode", "tokenizer.json"], lines].concat()), text.as_bytes());
        assert_eq!((code, ids.lines().count()), (Some(0), if lines.is_empty() { 1 } else { 4 }), "{ids}");
        let (code, again) = fed(gpt(&[&["decode", "tokenizer.json"], lines].concat()), ids.as_bytes());
        assert_eq!((code, again.as_str()), (Some(0), text));
    }
    let (code, _) = ran(gpt(&["encode", "tokenizer.json", "--text", text, "--out", "ids.safetensors"]));
    let (_, again) = ran(gpt(&["decode", "tokenizer.json", "--ids", "ids.safetensors"]));
    assert_eq!((code, again.as_str()), (Some(0), text));
}

#[test]
fn lines_are_answered_as_they_come() {
    let folder = folder();
    tokenizer(folder.path());
    let mut command = foretime(&["gpt", "encode", "tokenizer.json", "--lines"], folder.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || output.lines().try_for_each(|line| told.send(line)));
    for _ in 0..3 {
        input.write_all(b"the flight\n").unwrap();
        let line =
            heard.recv_timeout(std::time::Duration::from_secs(60)).expect("no line waits for the next one");
        assert!(serde_json::from_str::<Vec<u32>>(&line.unwrap()).is_ok_and(|ids| !ids.is_empty()));
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_no_text_or_no_ids_is_refused_with_its_line() {
    let folder = folder();
    tokenizer(folder.path());
    for (what, input, expected) in [
        ("encode", &b"fine\n\xff\n"[..], "line 2: standard input"),
        ("decode", b"[101]\n[101, -1]\n", "line 2: ids are a JSON list"),
        ("decode", b"[101]\n\n", "line 2: ids are a JSON list"),
        ("decode", b"[100000]\n", "line 1: token 100000 is beyond the vocabulary"),
    ] {
        let command = foretime(&["gpt", what, "tokenizer.json", "--lines"], folder.path());
        let (code, said) = fed(command, input);
        assert!(code == Some(1) && said.contains(expected), "{said}");
    }
}

/// A text whose words follow each other by a rule, with exceptions.
fn text() -> String {
    let words =
        ["the", "flight", "from", "New", "York", "was", "late", "again", "and", "nobody", "knew", "why"];
    let mut at = 0usize;
    (0..6_000)
        .map(|word: usize| {
            at = if word.wrapping_mul(2_654_435_761).is_multiple_of(7) {
                word % 12
            } else {
                (at * 5 + 1) % 12
            };
            words[at].to_owned() + if word % 12 == 11 { "\n" } else { " " }
        })
        .collect()
}

/// Nine tiny models; one option may be another.
fn scaling(other: &[&str], folder: &Path) -> Command {
    let usual = [
        ["--vocabulary", "280"],
        ["--context", "16"],
        ["--batch", "4"],
        ["--sizes", "1x8,1x16,2x16"],
        ["--tokens", "512,1024,2048"],
        ["--hold-out", "1"],
    ];
    let usual = usual.iter().filter(|option| other.first() != Some(&option[0])).flatten().copied();
    let line =
        ["scaling", "grid", "--text", "text.txt"].into_iter().chain(usual).chain(other.iter().copied());
    foretime(&line.collect::<Vec<_>>(), folder)
}

#[test]
fn a_grid_foretells_its_largest_run_and_goes_on_where_it_was_broken_off() {
    let folder = folder();
    std::fs::write(folder.path().join("text.txt"), text()).unwrap();
    let (code, said) = ran(scaling(&[], folder.path()));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("L(N, D) = ") && said.contains("held out: "), "{said}");
    let grid = folder.path().join("grid");
    let read = |name: &str| std::fs::read_to_string(grid.join(name)).unwrap();
    let report: serde_json::Value = serde_json::from_str(&read("scaling.json")).unwrap();
    let (runs, told) = (report["runs"].as_array().unwrap(), &report["held_out"][0]);
    assert_eq!((runs.len(), &told["run"]), (9, &runs[8]["run"]), "{report}");
    let (seen, foretold) = (told["run"]["loss"].as_f64().unwrap(), told["predicted"].as_f64().unwrap());
    assert!((foretold / seen - 1.0).abs() < 0.2, "{told}");
    let picture = read("scaling.svg");
    assert!(picture.starts_with("<svg ") && picture.contains("2x16: "), "{picture}");

    let broken_off = grid.join("runs/2x16-2048.json");
    std::fs::remove_file(&broken_off).unwrap();
    let (_, again) = ran(scaling(&[], folder.path()));
    assert_eq!(again.matches(" kept\n").count(), 8, "{again}");
    assert!(broken_off.exists());
    assert_eq!(serde_json::from_str::<serde_json::Value>(&read("scaling.json")).unwrap(), report);

    let (code, said) = ran(scaling(&["--seed", "5"], folder.path()));
    assert!(code == Some(1) && said.contains("another text or another recipe"), "{said}");
}

#[test]
fn a_grid_that_cannot_be_is_refused_before_anything_is_written() {
    let folder = folder();
    std::fs::write(folder.path().join("text.txt"), text()).unwrap();
    for (option, value, expected) in [
        ("--tokens", "512,1024", "at least 2 of each and 6 runs"),
        ("--hold-out", "4", "4 held out"),
        ("--sizes", "1x8,1x16,1x8", "in the grid twice"),
        ("--sizes", "1x8,1x16,big", "such as 2x64"),
        ("--tokens", "512,1024,1e9", "four passes"),
        ("--tokens", "512,1024,many", "such as 500000"),
        ("--context", "0", "more than 0"),
    ] {
        let (code, said) = ran(scaling(&[option, value], folder.path()));
        assert!(code != Some(0) && said.contains(expected), "{option} {value}: {said}");
    }
    assert!(!folder.path().join("grid").exists());
    if !cfg!(feature = "cuda") {
        let (code, said) = ran(scaling(&["--device", "cuda:0"], folder.path()));
        assert!(code == Some(1) && said.contains("without the Cargo feature `cuda`"), "{said}");
    }
    let (_, said) = ran(foretime(&["scaling", "grid"], folder.path()));
    assert!(said.contains("--text"), "{said}");
}
