//! The command line as a person meets it: help that reads well, and mistakes that say what to do.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn foretime(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foretime"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for name in ["DATABASE_URL", "FORETIME_DATABASE_URL", "FORETIME_CONFIG"] {
        command.env_remove(name);
    }
    command
}

fn ran(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
    folder
}

#[test]
fn the_help_names_every_command_and_what_it_is_for() {
    let folder = folder();
    let (code, said) = ran(foretime(&["--help"], folder.path()));
    assert_eq!(code, Some(0));
    for word in
        ["up", "run", "demo", "apply", "ingest", "train", "migrate", "doctor", "Nothing from the future"]
    {
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
