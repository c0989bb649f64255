//! Sending of events: within a time limit, to the verified host, without effect on the result of a
//! cycle.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Scene;
use crate::harness::ingest::{Ingest, server_certificate};
use crate::harness::*;

/// The time limit for a flush and the rest of a run
const FLUSH_TIME: Duration = Duration::from_secs(4);

#[test]
fn an_unreachable_silent_or_refusing_ingest_does_not_change_the_result() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://public@{}/42", silent.local_addr().unwrap());
    let refusals = [500, 429].map(Ingest::refusing);
    let away = "http://public@127.0.0.1:1/42".to_owned();
    let nowhere = "https://public@sentry.invalid/42".to_owned();
    let refusing = refusals.iter().map(Ingest::dsn);
    let attempt = |dsn: String| {
        let scene = Scene::new();
        // More reports than can be sent in time one after the other
        for id in 1..=9 {
            scene.upstream.add(Demande::cnous(id).siret("1"));
        }
        let run = || scene.cycle().env("SENTRY_DSN", &dsn).spawn();
        run().wait_within(FLUSH_TIME).success();
        scene.respond(403);
        run().wait_within(FLUSH_TIME).permanent("token_refused");
    };
    thread::scope(|scope| {
        for dsn in [silent, away, nowhere].into_iter().chain(refusing) {
            scope.spawn(|| attempt(dsn));
        }
    });
    assert!(refusals.iter().all(|ingest| ingest.requests().len() >= 2));
}

/// No variable weakens the verification of the certificate: neither the SDK's own nor a proxy.
#[test]
fn a_report_is_sent_only_to_a_host_with_a_trusted_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roots.pem");
    for (dsn_host, proxied) in [("localhost", false), ("sentry.invalid", true)] {
        let (config, trusted) = server_certificate(dsn_host);
        let (_, other) = server_certificate(dsn_host);
        for (variable, roots, arrives) in [
            ("SSL_CERT_FILE", &trusted, true),
            ("SSL_CERT_FILE", &other, false),
            ("DATAPASS_CA_FILE", &trusted, true),
        ] {
            std::fs::write(&file, roots).unwrap();
            let mut scene = Scene::new();
            scene.ingest = Ingest::tls(Arc::clone(&config));
            let address = scene.ingest.address();
            let dsn = match proxied {
                true => format!("https://public@{dsn_host}/42"),
                false => scene.ingest.dsn(),
            };
            scene.respond(403);
            let run = scene
                .cycle()
                .env("SENTRY_DSN", dsn)
                .env(variable, &file)
                .env("SSL_VERIFY", "false")
                .env("HTTPS_PROXY", format!("http://{address}"));
            run.output().permanent("token_refused");
            let requests = scene.ingest.requests();
            let is = |verb: &[u8]| requests.iter().filter(|it| it.starts_with(verb)).count();
            let expected = (usize::from(proxied), usize::from(arrives));
            assert_eq!((is(b"CONNECT "), is(b"POST ")), expected, "{dsn_host}");
        }
    }
}

/// Everything after a signal shares two seconds: grace period, run row and report.
#[test]
fn a_cycle_ends_in_time_after_a_signal_with_a_silent_ingest_and_a_locked_table() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1).siret("1"));
    // Any failure is reported if the last success is days ago.
    database.exec(
        "insert into datapass_pull_runs (outcome, kind, started_at)
         values ('success', 'cycle', now() - interval '9 days')",
    );
    let gate = upstream.gate(On::page(1));
    let run = || {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let dsn = format!("http://public@{}/42", silent.local_addr().unwrap());
        let run = Run::cycle(&upstream, &database).env("SENTRY_DSN", dsn);
        let run = run.arg("-vv");
        (silent, run.any_stderr().spawn())
    };
    let (_silent, running) = run();
    gate.reached();
    let mut client = database.client();
    let mut holder = client.transaction().unwrap();
    holder.batch_execute("lock table datapass_pull_runs").unwrap();
    running.signal("TERM");
    running.wait_after_signal().transient("interrupted");
    drop(holder);
    gate.open();
    upstream.clear_rules();

    // A signal while a report is being sent only ends the wait.
    let (silent, running) = run();
    let _report = silent.accept().unwrap();
    running.signal("TERM");
    let outcome = running.wait_after_signal();
    outcome.success();
    let warning = "Cannot notify Sentry: stopped by a signal";
    assert!(outcome.stderr.contains(warning), "{}", outcome.stderr);
}
