//! Secrets and personal data reach no output of any kind, at any log level, in any failure.
//!
//! Every secret and every piece of personal data contains the canary word, in lower or upper case.
//! Each run here logs at the highest level, and the word must not occur in its output, in its
//! metrics file, in the process data that other users can read, and in any column of any table.

mod datapass;
mod settings;
mod tables;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::harness::datapass::CANARY;
use crate::harness::*;

/// The canary in base64, at each offset modulo three.
const IN_BASE64: [&str; 3] = ["Y2FuYXJp", "NhbmFy", "jYW5hcm"];

/// A password with all characters that may be quoted wrongly.
const PASSWORD: &str = r#"canari-p@ss:w/rd?&#%41+ \'"é=x"#;

fn assert_clean(name: &str, place: &str, text: &str) {
    let found =
        text.to_lowercase().contains(CANARY) || IN_BASE64.iter().any(|it| text.contains(it));
    assert!(!found, "{name}: {place} holds the canary:\n{text}");
}

/// Runs it with the complete log in a format, expects a status, and checks every output.
fn assert_no_leak(name: &str, database: &Database, code: i32, run: &Run, format: &str) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("metrics.prom");
    let run = run.clone().any_stderr().env("RUST_LOG", "trace").arg("-vvv");
    let run = run.env("DATAPASS_FORMAT", format).env("DATAPASS_LOG_FORMAT", format);
    let run = run.env("DATAPASS_MAX_RETRIES", "0").env("DATAPASS_METRICS_FILE", &metrics);
    let outcome = run.output();
    assert_eq!(outcome.code(), code, "{name}: {}{}", outcome.stdout, outcome.stderr);
    assert_clean(name, "standard output", &outcome.stdout);
    assert_clean(name, "standard error", &outcome.stderr);
    let metrics = fs::read_to_string(&metrics).unwrap_or_default();
    assert_clean(name, "the metrics file", &metrics);
    assert_clean_tables(name, database);
}

/// Checks a cycle with a log in JSON, and `check`, which prints the same failures on standard
/// output, with a log in text.
fn assert_no_leak_in_both(
    name: &str,
    upstream: &DataPass,
    database: &Database,
    code: i32,
    set: impl Fn(Run) -> Run,
) {
    for (command, format) in [("pull", "json"), ("check", "text")] {
        let run = Run::new([command]).upstream(upstream).database(database);
        assert_no_leak(&format!("{command}, {name}"), database, code, &set(run), format);
    }
}

/// Checks every column of every table.
fn assert_clean_tables(name: &str, database: &Database) {
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

/// The check itself detects a leak in each output.
#[test]
fn a_leak_is_detected() {
    let database = Database::migrated();
    let leak_message = |script: &str| {
        let run = Run::new::<&str>([]).through(["sh", "-c", script]);
        let assert_no_leak = || assert_no_leak("a leak", &database, 0, &run, "text");
        let message = catch_unwind(AssertUnwindSafe(assert_no_leak)).unwrap_err();
        *message.downcast::<String>().unwrap()
    };
    for (script, place) in [
        ("echo Canari", "standard output"),
        ("echo Y2FuYXJp >&2", "standard error"),
        (r#"echo canari > "$DATAPASS_METRICS_FILE""#, "the metrics file"),
    ] {
        let message = leak_message(script);
        assert!(message.starts_with(&format!("a leak: {place} holds")), "{message}");
    }
    database.exec("insert into datapass_pull_runs (outcome, reason) values ('x', 'CANARI')");
    let message = leak_message("");
    assert!(message.starts_with("a leak: datapass_pull_runs holds"), "{message}");
}

fn entry(id: i64) -> Demande {
    Demande::cnous(id).validated(at("2026-05-18T10:00:00Z"))
}
