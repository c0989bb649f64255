//! `--retry-for`: a cycle that ends transient is run again, by the same process.

use std::fs;

use crate::harness::ingest::Ingest;
use crate::harness::*;

struct Scene {
    upstream: DataPass,
    database: Database,
    healthchecks: Ingest,
}

impl Scene {
    /// Makes a scene whose first listing fails.
    fn new() -> Self {
        let upstream = DataPass::start();
        upstream.add(Demande::cnous(1));
        upstream.fault(On::page(1), Fault::Status(503, &[]));
        Self { upstream, database: Database::migrated(), healthchecks: Ingest::start() }
    }

    fn cycle(&self, retry_for: &str) -> Run {
        Run::cycle(&self.upstream, &self.database)
            .env("DATAPASS_PING_URL", self.healthchecks.url("/uuid"))
            .args(["--max-retries", "0", "--enqueue", "none"])
            .args(["--retry-for", retry_for])
    }

    /// Takes the last path segments of the pings so far.
    fn signals(&self) -> Vec<String> {
        let posts = self.healthchecks.posts();
        let signals = posts.iter().map(|(target, _)| {
            let (path, _) = target.split_once('?').unwrap();
            path.strip_prefix("/uuid/").unwrap().to_owned()
        });
        signals.collect()
    }
}

const FAILURE: &str = "The cycle failed (server_error): GET /api/v1/demandes";
const WAIT: &str = "; running it again in 60 s";

/// The clock is moved past the end of the wait after its start.
#[test]
fn a_transient_cycle_is_run_again() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().unwrap();
    let ahead = folder.path().join("ahead");
    let metrics = folder.path().join("it.prom");
    let running = scene
        .cycle("2m")
        .env("LD_PRELOAD", clock_library(folder.path()))
        .env("CLOCK_AHEAD", &ahead)
        .env("DATAPASS_METRICS_FILE", &metrics)
        .stderr(FAILURE)
        .spawn();
    running.wait_for_stderr(WAIT);
    fs::write(&ahead, "").unwrap();
    let outcome = running.wait();
    assert_eq!(outcome.success().created, 1);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);

    let runs = scene.database.runs();
    let ends: Vec<_> = runs.iter().map(|run| &run["reason"]).collect();
    assert_eq!(ends, [&"server_error".into(), &serde_json::Value::Null]);
    let ids = [0, 1].map(|run: usize| runs[run]["run_id"].as_str().unwrap());
    assert_ne!(ids[0], ids[1]);
    assert!(outcome.stdout.contains(&format!("run_id={}", ids[1])));
    // One start and one end, both with the id of the first cycle.
    let posts = scene.healthchecks.posts();
    let targets: Vec<&str> = posts.iter().map(|(target, _)| &**target).collect();
    let expected = ["start", "0"].map(|signal| format!("/uuid/{signal}?rid={}", ids[0]));
    assert_eq!(targets, expected);
    assert_eq!(posts[1].1, outcome.stdout.trim_end());
    let metrics = fs::read_to_string(metrics).unwrap();
    assert!(metrics.contains("\ndatapass_pull_last_exit_status{"), "{metrics}");
    assert!(!metrics.contains("_status{} 2\n"), "{metrics}");
}

#[test]
fn there_is_no_retry_if_its_wait_would_exceed_the_limit() {
    let scene = Scene::new();
    scene.cycle("59s").output().transient("server_error");
    assert_eq!(scene.database.runs().len(), 1);
    assert_eq!(scene.signals(), ["start", "2"]);
}

#[test]
fn an_unauthorized_or_permanent_failure_is_not_retried() {
    for (status, code, reason) in [(401, 2, "unauthorized"), (403, 1, "token_refused")] {
        let scene = Scene::new();
        scene.upstream.fault(On::tokens(..), Fault::Status(status, &[]));
        let outcome = scene.cycle("1h").output();
        outcome.assert_code(code);
        assert!(outcome.stdout.contains(&format!(" reason={reason} ")));
        assert_eq!(scene.signals(), ["start".to_owned(), code.to_string()]);
    }
}

#[test]
fn a_signal_ends_the_wait() {
    for signal in ["TERM", "INT", "HUP"] {
        let scene = Scene::new();
        let running = scene.cycle("1h").stderr(FAILURE).spawn();
        running.wait_for_stderr(WAIT);
        running.signal(signal);
        let summary = running.wait_after_signal().transient("interrupted");
        assert_eq!(summary.pages, 0);
        let runs = scene.database.runs();
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0]["reason"], "server_error");
        assert_eq!(scene.signals(), ["start", "2"]);
    }
}
