//! Secrets and personal data reach no output of any kind, at any log level, in any failure.
//!
//! Every secret and every piece of personal data holds one word, in lower or upper case. Each run
//! here logs as much as can be asked for, and the word is looked for in what it printed, in its
//! metrics file, in what other users see of its process, and in every column of every table.

mod datapass;
mod settings;
mod tables;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::harness::datapass::CANARY;
use crate::harness::*;

/// The word in base64, wherever it begins in a group of three.
const IN_BASE64: [&str; 3] = ["Y2FuYXJp", "NhbmFy", "jYW5hcm"];

/// A password with all that may be quoted wrongly.
const PASSWORD: &str = r#"canari-p@ss:w/rd?&#%41+ \'"é=x"#;

fn assert_clean(name: &str, place: &str, text: &str) {
    let found =
        text.to_lowercase().contains(CANARY) || IN_BASE64.iter().any(|it| text.contains(it));
    assert!(!found, "{name}: {place} holds the canary:\n{text}");
}

/// Runs it with all of the log in that form, expects a status, and looks everywhere.
fn hunt(name: &str, database: &Database, code: i32, run: &Run, form: &str) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("metrics.prom");
    let run = run.clone().any_stderr().env("RUST_LOG", "trace").arg("-vvv");
    let run = run.env("DATAPASS_FORMAT", form).env("DATAPASS_LOG_FORMAT", form);
    let run = run.env("DATAPASS_MAX_RETRIES", "0").env("DATAPASS_METRICS_FILE", &metrics);
    let outcome = run.output();
    assert_eq!(outcome.code(), code, "{name}: {}{}", outcome.stdout, outcome.stderr);
    assert_clean(name, "standard output", &outcome.stdout);
    assert_clean(name, "standard error", &outcome.stderr);
    let metrics = fs::read_to_string(&metrics).unwrap_or_default();
    assert_clean(name, "the metrics file", &metrics);
    look_into_tables(name, database);
}

/// Hunts in a cycle with a log in JSON, and in `check`, which tells the same failures on standard
/// output, with one in text.
fn hunt_in_both(
    name: &str,
    upstream: &DataPass,
    database: &Database,
    code: i32,
    set: impl Fn(Run) -> Run,
) {
    for (command, form) in [("pull", "json"), ("check", "text")] {
        let run = Run::new([command]).upstream(upstream).database(database);
        hunt(&format!("{command}, {name}"), database, code, &set(run), form);
    }
}

/// Looks into every column of every table.
fn look_into_tables(name: &str, database: &Database) {
    let mut client = database.client();
    let tables = "select oid::regclass::text from pg_class where relkind in ('r', 'p', 'm')
                   and relnamespace not in ('pg_catalog'::regnamespace,
                                            'information_schema'::regnamespace)
                   and relpersistence <> 't' and relnamespace <> 'pg_toast'::regnamespace";
    for table in client.query(tables, &[]).unwrap() {
        let table: String = table.get(0);
        let rows = client.query(&format!("select t::text from {table} t"), &[]);
        for row in rows.unwrap() {
            assert_clean(name, &table, row.get(0));
        }
    }
}

/// The hunt itself: it finds a leak wherever one is.
#[test]
fn a_leak_is_found() {
    let database = Database::migrated();
    let hunted = |script: &str| {
        let run = Run::new::<&str>([]).through(["sh", "-c", script]);
        let hunt = || hunt("a leak", &database, 0, &run, "text");
        let told = catch_unwind(AssertUnwindSafe(hunt)).unwrap_err();
        *told.downcast::<String>().unwrap()
    };
    for (script, place) in [
        ("echo Canari", "standard output"),
        ("echo Y2FuYXJp >&2", "standard error"),
        (r#"echo canari > "$DATAPASS_METRICS_FILE""#, "the metrics file"),
    ] {
        let told = hunted(script);
        assert!(told.starts_with(&format!("a leak: {place} holds")), "{told}");
    }
    database.exec("insert into datapass_pull_runs (outcome, reason) values ('x', 'CANARI')");
    let told = hunted("");
    assert!(told.starts_with("a leak: datapass_pull_runs holds"), "{told}");
}

fn entry(id: i64) -> Demande {
    Demande::cnous(id).validated(at("2026-05-18T10:00:00Z"))
}
