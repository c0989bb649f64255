//! Check-ins with Sentry Crons and Healthchecks pings: one start and one end per process.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::ingest::Ingest;
use crate::harness::*;

/// Path and query of the ping URL, which are a secret.
const PATH: &str = "/canari-uuid/?create=1";

struct Scene {
    upstream: DataPass,
    database: Database,
    sentry: Ingest,
    healthchecks: Ingest,
}

impl Scene {
    fn new() -> Self {
        Self {
            upstream: DataPass::start(),
            database: Database::migrated(),
            sentry: Ingest::start(),
            healthchecks: Ingest::start(),
        }
    }

    fn cycle(&self) -> Run {
        Run::cycle(&self.upstream, &self.database)
            .env("SENTRY_DSN", self.sentry.dsn())
            .env("SENTRY_ENVIRONMENT", "staging")
            .env("SENTRY_MONITOR_SLUG", "pull")
            .env("DATAPASS_PING_URL", self.healthchecks.url(PATH))
            .args(["--max-retries", "0", "--enqueue", "none"])
    }

    /// Takes the pings so far: the end of the path, the `rid`, and the body.
    fn pings(&self) -> Vec<(String, String, String)> {
        let ping = |(target, body): (String, String)| {
            let (path, query) = target.split_once('?').unwrap();
            let signal = path.strip_prefix("/canari-uuid/").unwrap().to_owned();
            let id = query.strip_prefix("create=1&rid=").unwrap().to_owned();
            (signal, id, body)
        };
        self.healthchecks.posts().into_iter().map(ping).collect()
    }

    /// Takes the check-ins so far, without events.
    fn check_ins(&self) -> Vec<Value> {
        let envelopes = self.sentry.envelopes().into_iter();
        let check_ins = envelopes.filter(|(kind, _)| kind == "check_in");
        check_ins.map(|(_, item)| item).collect()
    }
}

fn run_id(outcome: &Outcome) -> String {
    let words = outcome.stdout.split_whitespace();
    let mut ids = words.filter_map(|word| word.strip_prefix("run_id="));
    ids.next().unwrap().to_owned()
}

#[test]
fn a_success_is_a_start_and_an_end() {
    let scene = Scene::new();
    scene.upstream.add(Demande::cnous(1));
    let run = scene.cycle().args(["--timeout", "90s"]);
    let outcome =
        run.env("DATAPASS_RETRY_FOR", "1h").env("DATAPASS_PULL_CRON", "30 2 * * mon-fri").output();
    outcome.success();
    let id = run_id(&outcome);
    let line = outcome.stdout.trim_end().to_owned();
    let start = ("start".to_owned(), id.clone(), String::new());
    assert_eq!(scene.pings(), [start, ("0".to_owned(), id.clone(), line)]);

    let check_ins = scene.check_ins();
    let [start, end] = &check_ins[..] else { panic!("{check_ins:?}") };
    let mut expected = json!({
        "check_in_id": id.replace('-', ""),
        "monitor_slug": "pull",
        "status": "in_progress",
        "environment": "staging",
        "monitor_config": {
            "schedule": {"type": "crontab", "value": "30 2 * * 1-5"},
            "checkin_margin": 62,
            "max_runtime": 63,
            "timezone": "UTC",
        },
    });
    assert_eq!(*start, expected);
    let duration = end["duration"].as_f64().unwrap();
    assert!(duration > 0.0 && duration < 60.0, "{duration}");
    expected["status"] = json!("ok");
    expected["duration"] = json!(duration);
    assert_eq!(*end, expected);
}

/// The body is the summary line, in the format of standard output, even with `--quiet`.
#[test]
fn the_body_is_the_summary_in_its_format() {
    let scene = Scene::new();
    scene.cycle().arg("--quiet").output().assert_success();
    let outcome = scene.cycle().args(["--format", "json"]).output();
    let pings = scene.pings();
    assert!(pings[1].2.starts_with("outcome=success pages=1 "), "{}", pings[1].2);
    assert_eq!(pings[3].2, outcome.stdout.trim_end());
}

#[test]
fn a_failure_sends_its_status_and_one_that_could_not_start_only_an_end() {
    let scene = Scene::new();
    scene.upstream.fault(On::pages(1..), Fault::Status(503, &[]));
    scene.upstream.fault(On::token(2), Fault::Status(403, &[]));
    let secretless = || scene.cycle().env_remove("DATAPASS_CLIENT_SECRET");
    type Case = (Run, i32, &'static str, &'static [&'static str]);
    let cases: [Case; 7] = [
        (scene.cycle(), 2, "server_error", &["start", "2"]),
        (scene.cycle(), 1, "token_refused", &["start", "1"]),
        (secretless(), 1, "configuration", &["1"]),
        (scene.cycle().env("DATAPASS_PAGE_SIZE", "0"), 1, "configuration", &["1"]),
        (scene.cycle().arg("--frobnicate"), 1, "usage", &["1"]),
        (secretless().env("DATAPASS_PING_URL", "canari"), 1, "configuration", &[]),
        (secretless().env("SENTRY_DSN", "canari"), 1, "configuration", &["1"]),
    ];
    for (number, (run, code, reason, signals)) in cases.into_iter().enumerate() {
        let outcome = run.any_stderr().output();
        outcome.assert_code(code);
        assert!(outcome.stdout.contains(&format!(" reason={reason} ")));
        let pings = scene.pings();
        let sent: Vec<&str> = pings.iter().map(|(signal, ..)| &**signal).collect();
        assert_eq!(sent, signals, "{number}");
        assert!(pings.iter().all(|(_, id, _)| *id == run_id(&outcome)));
        let check_ins = scene.check_ins();
        let statuses: Vec<&str> =
            check_ins.iter().map(|it| it["status"].as_str().unwrap()).collect();
        let expected: &[&str] = match number {
            0 | 1 => &["in_progress", "error"],
            6 => &[],
            _ => &["error"],
        };
        assert_eq!(statuses, expected, "{number}");
    }
}

#[test]
fn a_dry_run_and_other_commands_send_nothing() {
    let scene = Scene::new();
    let secretless = scene.cycle().env_remove("DATAPASS_CLIENT_SECRET");
    for run in [
        scene.cycle().arg("--dry-run"),
        secretless.arg("--dry-run"),
        scene.cycle().args(["--dry-run", "--frobnicate"]),
    ] {
        run.any_stderr().output();
    }
    for command in ["check", "status", "migrate"] {
        let run = Run::new([command]).upstream(&scene.upstream);
        let run = run.database(&scene.database).any_stderr();
        run.env("SENTRY_DSN", scene.sentry.dsn())
            .env("SENTRY_MONITOR_SLUG", "pull")
            .env("DATAPASS_PING_URL", scene.healthchecks.url(PATH))
            .output()
            .assert_success();
    }
    assert!(scene.sentry.requests().is_empty());
    assert!(scene.healthchecks.requests().is_empty());
}

#[test]
fn an_unreachable_silent_or_refusing_receiver_is_a_warning() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let refusing = Ingest::refusing(500);
    let refusing = refusing.address().to_string();
    let attempt = |host: &str, problem: &str| {
        let scene = Scene::new();
        let run = || {
            let run = scene.cycle().env("SENTRY_DSN", format!("http://canari@{host}/42"));
            let run = run.env("DATAPASS_PING_URL", format!("http://{host}{PATH}"));
            run.stderr(format!("Cannot notify Sentry: {problem}"))
                .stderr(format!("Cannot notify the host of DATAPASS_PING_URL: {problem}"))
        };
        // Two seconds at the start, two at the end.
        let limit = Duration::from_secs(6);
        let outcome = run().spawn().wait_within(limit);
        outcome.success();
        let warnings = outcome.stderr.lines().count();
        assert_eq!(warnings, 4, "{}", outcome.stderr);
        scene.upstream.fault(On::everything(), Fault::Status(403, &[]));
        // The last line of standard error is the failure, and no log level shows the URL.
        run().spawn().wait_within(limit).permanent("token_refused");
        let verbose = run().any_stderr().arg("-vvv").env("RUST_LOG", "trace");
        verbose.output().permanent("token_refused");
    };
    thread::scope(|scope| {
        scope.spawn(|| attempt("127.0.0.1:1", "127.0.0.1:1: no connection"));
        scope.spawn(|| attempt(&silent, ""));
        scope.spawn(|| attempt(&refusing, &format!("{refusing}: answered 500")));
    });
}

/// All reports after a signal share two seconds, in which the summary is printed too.
#[test]
fn a_silent_receiver_does_not_delay_the_end_after_a_signal() {
    let scene = Scene::new();
    let gate = scene.upstream.gate(On::page(1));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let run = scene.cycle().env("DATAPASS_PING_URL", format!("http://{silent}{PATH}"));
    let running = run.any_stderr().spawn();
    gate.reached();
    running.signal("TERM");
    let outcome = running.wait_after_signal();
    outcome.transient("interrupted");
    let last = outcome.stderr.lines().last().unwrap();
    assert!(last.contains("Stopped by a signal"), "{last}");
    let check_ins = scene.check_ins();
    assert_eq!(check_ins.len(), 2);
    assert_eq!(check_ins[1]["status"], "error");
}
