//! The floors of the house, kept true: an arrow that is not listed here, SQL outside `storage`, a crate that does not say
//! what holds in it, or a file nobody can read in one sitting fails the build.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// What each package may name among our packages and among the guarded ones. Everything else it may name freely.
const ALLOWED: &[(&str, &[&str], &[&str])] = &[
    ("crates/domain", &[], &["sqlx"]), // derives only, behind a feature: see `domain_binds_to_sqlx_only_if_asked`
    ("crates/statistics", &[], &[]),
    ("crates/storage", &["domain"], &["sqlx"]),
    ("crates/frames", &["domain"], &["polars", "polars-io", "polars-arrow", "arrow", "parquet"]),
    ("crates/gpt", &["domain"], &["candle-core", "candle-nn"]),
    ("crates/boosting", &["domain"], &["forust-ml"]),
    (
        "crates/service-kit",
        &["domain", "statistics", "storage"],
        &[
            "axum",
            "sqlx",
            "opentelemetry",
            "opentelemetry_sdk",
            "opentelemetry-otlp",
            "tracing-opentelemetry",
        ],
    ),
    ("services/feature-store", &["domain", "storage", "frames", "service-kit"], &["axum", "sqlx"]),
    (
        "services/gpt-worker",
        &["domain", "statistics", "storage", "frames", "gpt", "boosting", "service-kit"],
        &["axum", "sqlx"],
    ),
    ("services/monitor", &["domain", "statistics", "storage", "frames", "service-kit"], &["axum", "sqlx"]),
    ("services/registry", &["domain", "statistics", "storage", "frames", "service-kit"], &["axum", "sqlx"]),
    (
        "services/foretime",
        &[
            "domain",
            "statistics",
            "storage",
            "frames",
            "service-kit",
            "gpt",
            "feature-store",
            "gpt-worker",
            "monitor",
            "registry",
        ],
        &["axum", "sqlx"],
    ),
    (
        "tests",
        &[
            "domain",
            "storage",
            "frames",
            "service-kit",
            "feature-store",
            "gpt-worker",
            "monitor",
            "registry",
            "foretime",
        ],
        &["axum", "sqlx"],
    ),
];

/// Heavy libraries that one floor keeps from the others.
const HEAVY: &[&str] = &[
    "axum",
    "sqlx",
    "polars",
    "polars-io",
    "polars-arrow",
    "arrow",
    "parquet",
    "candle-core",
    "candle-nn",
    "forust-ml",
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry-otlp",
    "tracing-opentelemetry",
];

/// What writes SQL, whichever way it is imported.
const WRITES_SQL: &[&str] =
    &["sqlx::query", "sqlx::raw_sql", "query!(", "query_as!(", "query_scalar!(", "QueryBuilder"];

/// From this migration on, the schema says which programs it serves.
const FIRST_WITH_A_FLOOR: &str = "20261130000010_schema_compatibility.sql";

/// What a migration does that older programs may not survive.
const TAKES_AWAY: &[&str] = &["drop table", "drop column", " rename ", "set not null"];

/// The longest a file may be before its tests, in lines.
const LONGEST: usize = 800;

#[test]
fn every_dependency_points_down() {
    let ours = packages();
    let mut wrong = Vec::new();
    for (package, allowed, heavy) in ALLOWED {
        let guarded = |name: &String| ours.contains_key(name) || HEAVY.contains(&name.as_str());
        let may = |name: &String| allowed.contains(&name.as_str()) || heavy.contains(&name.as_str());
        let named = dependencies(&manifest(&root().join(package)));
        wrong.extend(
            named.iter().filter(|name| guarded(name) && !may(name)).map(|name| format!("{package} → {name}")),
        );
    }
    assert!(
        wrong.is_empty(),
        "arrows that point up or sideways, or libraries kept by another floor: {wrong:#?}"
    );
}

#[test]
fn every_package_has_a_floor() {
    let known: BTreeSet<PathBuf> = ALLOWED.iter().map(|(package, _, _)| root().join(package)).collect();
    let homeless: Vec<PathBuf> =
        packages().into_values().filter(|package| !known.contains(package)).collect();
    assert!(homeless.is_empty(), "say what these may depend on, in `ALLOWED`: {homeless:#?}");
}

#[test]
fn domain_binds_to_sqlx_only_if_asked() {
    let domain = manifest(&root().join("crates/domain"));
    assert_eq!(domain["dependencies"]["sqlx"].get("optional"), Some(&toml::Value::Boolean(true)));
    let default = domain["features"].get("default");
    assert!(default.is_none(), "`domain` has default features: {default:?}");
}

#[test]
fn every_crate_says_what_belongs_in_it_and_what_always_holds() {
    let silent: Vec<PathBuf> = packages()
        .into_values()
        .map(|package| package.join("src/lib.rs"))
        .filter(|library| library.exists())
        .filter(|library| {
            let docs: Vec<String> =
                read(library).lines().take_while(|line| line.starts_with("//!")).map(str::to_owned).collect();
            docs.len() < 3 || !docs.iter().any(|line| line.contains("Invariants:"))
        })
        .collect();
    assert!(silent.is_empty(), "no module docs with `Invariants:` at the top of {silent:#?}");
}

#[test]
fn only_storage_writes_sql() {
    let storage = root().join("crates/storage");
    let elsewhere: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|file| !file.starts_with(&storage))
        .filter(|file| WRITES_SQL.iter().any(|marker| read(file).contains(marker)))
        .collect();
    assert!(elsewhere.is_empty(), "SQL belongs in crates/storage; it was found in {elsewhere:#?}");
}

#[test]
fn a_migration_that_takes_away_says_which_programs_are_still_served() {
    let files = entries(&root().join("migrations"));
    let silent: Vec<&PathBuf> = files
        .iter()
        .filter(|file| file.file_name().is_some_and(|name| name > OsStr::new(FIRST_WITH_A_FLOOR)))
        .filter(|file| takes_away(&read(file)) && !read(file).contains("update schema_compatibility"))
        .collect();
    assert!(files.iter().any(|file| file.ends_with(FIRST_WITH_A_FLOOR)), "it is not among the migrations");
    assert!(silent.is_empty(), "raise `schema_compatibility.oldest_program` in {silent:#?}");
}

#[test]
fn what_takes_away_is_told_from_what_adds() {
    for sql in [
        "drop table jobs;",
        "ALTER TABLE a\n  drop column b",
        "alter table a rename to b",
        "alter column x type text",
    ] {
        assert!(takes_away(sql), "{sql}");
    }
    for sql in [
        "-- nothing to drop table for",
        "create table a ()",
        "drop index b",
        "alter table a add column c text",
    ] {
        assert!(!takes_away(sql), "{sql}");
    }
}

/// Whether SQL takes something away, or changes it, that programs may use.
fn takes_away(sql: &str) -> bool {
    let code = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let code = code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ").to_lowercase();
    let changes_type = code.split("alter column ").skip(1).any(|rest| rest.split(' ').nth(1) == Some("type"));
    changes_type || TAKES_AWAY.iter().any(|marker| code.contains(marker))
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|file| (lines_before_tests(&read(&file)), file))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, file)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "split these files, {LONGEST} lines are the most: {long:#?}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn manifest(package: &Path) -> toml::Table {
    let file = package.join("Cargo.toml");
    read(&file).parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Name → folder of every package of the workspace.
fn packages() -> BTreeMap<String, PathBuf> {
    let mut folders = vec![root().join("tests")];
    for shelf in ["crates", "services"] {
        folders.extend(
            entries(&root().join(shelf)).into_iter().filter(|folder| folder.join("Cargo.toml").exists()),
        );
    }
    let name =
        |folder: &Path| manifest(folder)["package"]["name"].as_str().expect("a name is text").to_owned();
    folders.into_iter().map(|folder| (name(&folder), folder)).collect()
}

/// What a manifest names to build its library: tests may name more. A renamed dependency counts under its real name.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let mut tables: Vec<&toml::Table> = tables_of(manifest).collect();
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table).flat_map(tables_of));
    }
    let real = |(name, how): (&String, &toml::Value)| {
        how.get("package").and_then(toml::Value::as_str).map_or_else(|| name.clone(), str::to_owned)
    };
    tables.into_iter().flatten().map(real).collect()
}

fn tables_of(manifest: &toml::Table) -> impl Iterator<Item = &toml::Table> {
    ["dependencies", "build-dependencies"].into_iter().filter_map(|section| manifest.get(section)?.as_table())
}

/// Every Rust file that ships: not tests, not what cargo made.
fn sources() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = packages().into_values().map(|package| package.join("src")).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder) {
            let test = entry.file_stem().is_some_and(|stem| stem == "tests");
            if entry.is_dir() && !test {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") && !test {
                files.push(entry);
            }
        }
    }
    assert!(files.len() > 50, "only {} files were found, so nothing was checked", files.len());
    files.sort();
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a listed file is there").path())
        .collect()
}

/// Lines before the module of unit tests that a file ends with, if it does.
fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{'))
        .unwrap_or(lines.len())
}
