//! Reports to Sentry, taken by a local ingest server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::harness::*;

/// Takes envelopes, one event each, and hands the events on.
fn ingest() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dsn = format!("http://public@{}/42", listener.local_addr().unwrap());
    let (events, taken) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let events = events.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                loop {
                    let (mut length, mut line) = (0, String::new());
                    while reader.read_line(&mut line).unwrap_or(0) > 2 {
                        let header = line.to_ascii_lowercase();
                        if let Some(value) = header.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    if length == 0 {
                        return;
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let body = String::from_utf8(body).unwrap();
                    assert!(!body.to_lowercase().contains("canari"), "{body}");
                    let payload = body.lines().nth(2).unwrap();
                    events.send(serde_json::from_str(payload).unwrap()).unwrap();
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"id\":\"0\"}";
                    reader.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    (dsn, taken)
}

#[test]
fn rejected_entries_and_permanent_failures_are_reported() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1).siret("1"));
    upstream.add(Demande::cnous(2));
    let (dsn, events) = ingest();
    let run = || {
        Run::cycle(&upstream, &database)
            .env("SENTRY_DSN", &dsn)
            .any_stderr()
            .output()
    };
    run().success();
    let event = events.recv().unwrap();
    assert_eq!(
        event["message"],
        "Entry D1 is rejected: siret: not 14 digits"
    );
    assert_eq!(
        event["fingerprint"],
        serde_json::json!(["datapass-pull", "rejected", "D1"])
    );
    assert_eq!(event["extra"]["rejected"], 1);
    assert!(
        event["release"]
            .as_str()
            .unwrap()
            .starts_with("datapass-pull@")
    );

    upstream.fault(On::tokens(1..), Fault::Status(403, &[]));
    run().permanent("token_refused");
    let event = events.recv().unwrap();
    assert_eq!(event["tags"]["reason"], "token_refused");
    assert_eq!(event["tags"]["stage"], "authenticate");
}

#[test]
fn an_ingest_that_is_silent_or_away_changes_nothing() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1).siret("1"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for host in [silent, "127.0.0.1:1".to_owned()] {
        let dsn = format!("http://public@{host}/42");
        let run = Run::cycle(&upstream, &database).env("SENTRY_DSN", dsn);
        run.any_stderr().output().success();
    }
}

/// Everything that follows a signal shares two seconds: grace, run row and report.
#[test]
fn a_signal_is_answered_in_time_with_a_silent_ingest_and_a_stuck_database() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1).siret("1"));
    // Any failure is worth a report after a success that is days old.
    database.exec(
        "insert into datapass_pull_runs (outcome, kind, started_at)
         values ('success', 'cycle', now() - interval '9 days')",
    );
    let gate = upstream.gate(On::page(1));
    let run = || {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let dsn = format!("http://public@{}/42", silent.local_addr().unwrap());
        let run = Run::cycle(&upstream, &database).env("SENTRY_DSN", dsn);
        (silent, run.any_stderr().spawn())
    };
    let (_silent, running) = run();
    gate.reached();
    let mut client = database.client();
    let mut holder = client.transaction().unwrap();
    holder
        .batch_execute("lock table datapass_pull_runs")
        .unwrap();
    running.signal("TERM");
    let begun = Instant::now();
    running.wait().transient("interrupted");
    assert!(begun.elapsed().as_millis() < 2000, "{:?}", begun.elapsed());
    drop(holder);
    gate.open();
    upstream.behave();

    // One that comes while a report is on its way changes nothing but the wait.
    let (silent, running) = run();
    let _report = silent.accept().unwrap();
    running.signal("TERM");
    let begun = Instant::now();
    running.wait().success();
    assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
}

#[test]
fn a_bad_dsn_is_a_bad_setting() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run = Run::cycle(&upstream, &database).env("SENTRY_DSN", "canari");
    run.any_stderr().output().permanent("configuration");
}
