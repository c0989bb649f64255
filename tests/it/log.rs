//! The log: one JSON object per line with the fields to search for, and text on a terminal.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::*;

const STAGES: [&str; 5] = ["prepare", "authenticate", "list", "create", "advance"];

fn cycle(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database)
        .args(["--log-format", "json", "-vv", "--page-size", "10"])
        .any_stderr()
}

/// Parses the log of a run; every line has its time, level, message, run and stage.
#[track_caller]
fn events(outcome: &Outcome, database: &Database) -> Vec<Value> {
    let sql = "select run_id::text from datapass_pull_runs order by id desc limit 1";
    let run_id: String = database.client().query_one(sql, &[]).unwrap().get(0);
    let lines = outcome.stderr.lines();
    let events: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &events {
        let keys: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys[..4], ["time", "level", "message", "run_id"], "{event}");
        let time = event["time"].as_str().unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{event}");
        assert_eq!(event["run_id"], run_id, "{event}");
        assert!(STAGES.contains(&event["stage"].as_str().unwrap()), "{event}");
    }
    events
}

/// Returns the only event whose message contains this text.
#[track_caller]
fn only<'a>(events: &'a [Value], text: &str) -> &'a Value {
    let is = |event: &&Value| event["message"].as_str().unwrap().contains(text);
    let found: Vec<&Value> = events.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{text}: {events:#?}");
    found[0]
}

#[test]
fn events_have_run_stage_reason_page_and_attempt() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for id in 1..=30 {
        upstream.add(Demande::cnous(id));
    }
    upstream.add(Demande::cnous(31).siret("1"));
    upstream.fault(On::token(1), Fault::Status(503, &[]));
    upstream.fault(On::page(2), Fault::Status(500, &[]));
    let outcome = cycle(&upstream, &database).args(["--concurrency", "1"]).output();
    let summary = outcome.success();
    assert_eq!(upstream.requests_of(Endpoint::Token).len(), 2);
    let events = events(&outcome, &database);

    let retried = |text| {
        let event = only(&events, text);
        assert_eq!((&event["level"], &event["attempt"]), (&"WARN".into(), &1.into()));
        assert_eq!(event["reason"], "server_error");
        let wait_ms = event["wait_ms"].as_u64().unwrap();
        assert!((1000..=2000).contains(&wait_ms), "{event}");
        let message = event["message"].as_str().unwrap();
        let host = format!(" at {} answered ", upstream.address());
        for part in [&host, "; retrying in "] {
            assert!(message.contains(part), "{event}");
        }
        (event["stage"].as_str().unwrap(), event["page"].as_u64())
    };
    assert_eq!(retried("answered 503"), ("authenticate", None));
    assert_eq!(retried("answered 500"), ("list", Some(2)));
    // Each page has its own number.
    let pages = |text: &str| {
        let of = events.iter().filter(|it| it["message"].as_str().unwrap().contains(text));
        of.map(|event| event["page"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let expected: Vec<u64> = (1..=summary.pages).collect();
    assert!(expected.len() > 3);
    assert_eq!(pages("Page at offset "), expected);
    assert_eq!(pages("demandes are listed so far"), expected);
    let rejected = only(&events, "Rejected D31");
    assert_eq!((&rejected["stage"], &rejected["level"]), (&"create".into(), &"WARN".into()));
    let stages: BTreeSet<&str> = events.iter().map(|it| it["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, BTreeSet::from(STAGES));

    upstream.fault(On::pages(..), Fault::Status(403, &[]));
    let outcome = cycle(&upstream, &database).output();
    outcome.permanent("request_refused");
    let events = self::events(&outcome, &database);
    let last = events.last().unwrap();
    let found = ["level", "stage", "reason"].map(|key| last[key].as_str().unwrap());
    assert_eq!(found, ["ERROR", "list", "request_refused"]);
}

#[test]
fn the_first_line_names_version_and_commit_as_the_program_does() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let outcome = cycle(&upstream, &database).args(["--retry-for", "2h"]).output();
    outcome.success();
    let first = events(&outcome, &database).swap_remove(0);
    assert!(first["message"].as_str().unwrap().contains("; retry for 7200 s"), "{first}");
    let version = Run::new(["--version"]).output().stdout;
    let mut lines = version.lines().map(|line| line.replace("datapass-pull ", "version "));
    let version = lines.next().unwrap();
    let commit = lines.next().unwrap().replace("commit: ", "commit ");
    let expected = format!("Settings: {version}; {commit}; token http://");
    assert!(first["message"].as_str().unwrap().starts_with(&expected), "{first}");
}

#[test]
fn a_cycle_that_cannot_start_logs_in_json_too() {
    let outcome = Run::new(["--log-format", "json"]).any_stderr().output();
    outcome.permanent("configuration");
    let event: Value = serde_json::from_str(outcome.stderr.trim_end()).unwrap();
    assert_eq!((&event["stage"], &event["reason"]), (&"prepare".into(), &"configuration".into()));
    let warned = Run::new(["--log-format", "json", "status"]).env("DATAPASS_TYPO", "1");
    let stderr = warned.any_stderr().output().stderr;
    let event: Value = serde_json::from_str(stderr.lines().next().unwrap()).unwrap();
    assert_eq!((&event["stage"], &event["level"]), (&"prepare".into(), &"WARN".into()));
}

#[test]
fn on_a_terminal_each_problem_is_one_line() {
    let status = Run::new(["status", "--enqueue", "x"]).env("DATAPASS_JOB_CLASS", "x");
    let (code, screen) = status.on_terminal().end();
    assert_eq!(code, 1, "{screen}");
    let lines: Vec<&str> = screen.lines().collect();
    let expected = ["DATABASE_URL is not set", "--enqueue must be", "DATAPASS_JOB_CLASS must be"];
    assert_eq!(lines.len(), expected.len(), "{screen}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!("error: {expected}")), "{screen}");
    }
    let run = Run::new::<&str>([]).env("DATAPASS_TYPO", "1");
    let (code, screen) = run.clone().on_terminal().end();
    assert_eq!(code, 1, "{screen}");
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines[0], "warning: Unknown variable DATAPASS_TYPO: it has no effect");
    let problems = &lines[1..lines.len() - 1];
    assert_eq!(problems.len(), 6, "{screen}");
    assert!(problems.iter().all(|line| line.starts_with("error: ")), "{screen}");
    assert!(problems[5].contains("--env-file"), "{screen}");

    let outcome = run.any_stderr().output();
    outcome.permanent("configuration");
    let last = outcome.stderr.lines().last().unwrap();
    assert!(last.contains(" ERROR datapass-pull: Missing or invalid settings: "), "{last}");
    assert!(last.ends_with(" stage=prepare reason=configuration"), "{last}");
}

#[test]
fn a_usage_error_shows_the_usage_on_a_terminal_and_is_one_line_in_a_log() {
    let run = || Run::new(["status", "--since", "7d"]);
    let (code, screen) = run().on_terminal().end();
    assert_eq!(code, 1, "{screen}");
    assert!(screen.starts_with("error: unexpected argument '--since'"), "{screen}");
    assert!(screen.contains("Usage: datapass-pull status"), "{screen}");
    let outcome = run().output();
    let stderr = &outcome.assert_code(1).stderr;
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let expected = "The command line is not understood: unexpected argument '--since' found";
    assert!(stderr.contains(expected), "{stderr}");
    assert!(stderr.contains("reason=usage"), "{stderr}");
    let outcome = Run::new(["schedule", "kubernetes"]).output();
    let stderr = &outcome.assert_code(1).stderr;
    let expected = "the following required arguments were not provided: --image <IMAGE> stage=";
    assert!(stderr.contains(expected), "{stderr}");
    let outcome = Run::new(["--log-format", "json", "--oops"]).any_stderr().output();
    outcome.permanent("usage");
    let event: Value = serde_json::from_str(outcome.stderr.trim_end()).unwrap();
    assert_eq!(event["reason"], "usage");
}
