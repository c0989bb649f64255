//! Events for Sentry, received by a fake server: when one is sent, and its content.

mod delivery;
mod panics;

use std::os::unix::fs::PermissionsExt;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::ingest::Ingest;
use crate::harness::*;

struct Scene {
    upstream: DataPass,
    database: Database,
    ingest: Ingest,
}

impl Scene {
    fn new() -> Self {
        Self {
            upstream: DataPass::start(),
            database: Database::migrated(),
            ingest: Ingest::start(),
        }
    }

    /// Describes a cycle without retries, with variables set that Sentry's own client would read.
    fn cycle(&self) -> Run {
        Run::cycle(&self.upstream, &self.database)
            .env("DATABASE_URL", self.database.url_as("postgres", "canari"))
            .env("SENTRY_DSN", self.ingest.dsn())
            .env("SENTRY_RELEASE", "canari")
            .env("HOSTNAME", "canari")
            .env("USER", "canari")
            .env("HTTP_PROXY", "http://canari:canari@127.0.0.1:1")
            .args(["--max-retries", "0"])
            .any_stderr()
    }

    /// Adds a run that started this many hours ago and failed for this reason, or succeeded.
    fn add_run(&self, hours: i64, reason: Option<&str>) {
        let outcome = if reason.is_some() { "failed" } else { "success" };
        let reason = reason.map_or("null".to_owned(), |reason| format!("'{reason}'"));
        self.database.exec(&format!(
            "insert into datapass_pull_runs (outcome, reason, started_at)
             values ('{outcome}', {reason}, now() - interval '{hours} hours')"
        ));
    }

    fn respond(&self, status: u16) {
        let on = match status {
            401 | 403 => On::tokens(..),
            _ => On::pages(..),
        };
        self.upstream.fault(on, Fault::Status(status, &[]));
    }
}

/// Level, stage, reason, fingerprint without the program's name, and message of an event.
type Shown = (String, String, String, Vec<String>, String);

fn shown(level: &str, stage: &str, reason: &str, fingerprint: &str, message: &str) -> Shown {
    let words = fingerprint.split(' ').map(str::to_owned).collect();
    let [level, stage, reason, message] = [level, stage, reason, message].map(str::to_owned);
    (level, stage, reason, words, message)
}

/// Checks what all events have in common, and returns the rest.
#[track_caller]
fn read(event: &Value) -> Shown {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let words: Vec<String> = serde_json::from_value(event["fingerprint"].clone()).unwrap();
    let (name, words) = words.split_first().unwrap();
    assert_eq!(name, "datapass-pull");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(event["release"], format!("datapass-pull@{version}"));
    assert_eq!(event["environment"], "production");
    let tags = event["tags"].as_object().unwrap();
    assert_eq!(tags.len(), 4, "{event}");
    let definition = "proactivite_pour_les_etudiants_boursiers_dyn";
    assert_eq!(tags["definition"], definition);
    assert!(text(&tags["run_id"]).parse::<uuid::Uuid>().is_ok());
    assert_eq!(event["extra"].as_object().unwrap().len(), 13, "{event}");
    (
        // The protocol's default is omitted.
        event["level"].as_str().unwrap_or("error").to_owned(),
        text(&tags["stage"]),
        text(&tags["reason"]),
        words.to_vec(),
        text(&event["message"]),
    )
}

#[test]
fn a_failure_is_reported_when_it_is_permanent_or_lasts() {
    let refused = || {
        let message = "The cycle failed in authenticate: token_refused";
        let (stage, reason) = ("authenticate", "token_refused");
        shown("error", stage, reason, "failure token_refused", message)
    };
    let lasting = || {
        let message = "The cycle failed in authenticate: unauthorized; was the secret rotated?";
        let (stage, reason) = ("authenticate", "unauthorized");
        shown("error", stage, reason, "failure unauthorized", message)
    };
    let silence = || {
        let message = "The cycle failed in list: server_error; nothing succeeded for 2 days";
        shown("error", "list", "server_error", "silence", message)
    };
    type Past = &'static [(i64, Option<&'static str>)];
    let cases: [(u16, Past, Option<Shown>); 13] = [
        (403, &[(1, None)], Some(refused())),
        (403, &[], Some(refused())),
        // A single 401 is noise; a lasting one means that the secret was rotated.
        (401, &[(1, None)], None),
        (401, &[(3, Some("unauthorized")), (2, None)], None),
        (401, &[(3, None), (2, Some("server_error"))], None),
        (401, &[(3, None), (2, Some("unauthorized"))], Some(lasting())),
        (401, &[(49, None), (2, Some("server_error"))], Some(lasting())),
        (401, &[], Some(lasting())),
        // Another transient failure is reported after two days without a success.
        (503, &[(47, None), (2, Some("server_error"))], None),
        (503, &[(49, None), (2, Some("server_error"))], Some(silence())),
        (503, &[(60, Some("connection")), (49, None)], Some(silence())),
        (503, &[(49, Some("connection"))], Some(silence())),
        (503, &[], None),
    ];
    for (status, past, expected) in cases {
        let scene = Scene::new();
        for (hours, reason) in past {
            scene.add_run(*hours, *reason);
        }
        scene.respond(status);
        let outcome = scene.cycle().output();
        let code = if status == 403 { 1 } else { 2 };
        outcome.assert_code(code);
        let events: Vec<Shown> = scene.ingest.events().iter().map(read).collect();
        assert_eq!(events, Vec::from_iter(expected), "{status} {past:?}");
    }
}

#[test]
fn a_failure_before_the_last_success_is_known_is_reported() {
    let scene = Scene::new();
    let run = scene.cycle().env("DATABASE_URL", "postgres://canari:canari@127.0.0.1:1/canari");
    run.output().transient("database_unavailable");
    let message = "The cycle failed in prepare: database_unavailable; when it succeeded last is not \
                   known";
    let (stage, reason) = ("prepare", "database_unavailable");
    let fingerprint = "failure database_unavailable";
    let events: Vec<Shown> = scene.ingest.events().iter().map(read).collect();
    assert_eq!(events, [shown("warning", stage, reason, fingerprint, message)]);
}

#[test]
fn each_problem_with_entries_is_reported_as_its_own_issue() {
    let scene = Scene::new();
    scene.add_run(1, None);
    scene.database.exec(
        "update datapass_pull_watermarks set last_validated_at = '2026-06-01T00:00:00Z',
             definition_id = 'proactivite_pour_les_etudiants_boursiers_dyn'",
    );
    let june = |id: i64| Demande::cnous(id).validated(at("2026-06-02T08:00:00Z"));
    scene.upstream.add(june(1).siret("1"));
    scene.upstream.add(june(2).data("echelon_bourse", "canari"));
    scene.upstream.add(Demande::cnous(3).never_validated());
    // Two entries validated before the watermark and never handled
    scene.upstream.add(Demande::cnous(4));
    scene.upstream.add(Demande::cnous(5));
    let future = Utc::now() + TimeDelta::days(30);
    scene.upstream.add(Demande::cnous(6).validated(future));
    let summary = scene.cycle().output().success();
    let counts = (summary.rejected, summary.late, summary.created);
    assert_eq!(counts, (2, 3, 4));
    let events = scene.ingest.events();
    let warning =
        |reason, fingerprint, message| shown("warning", "create", reason, fingerprint, message);
    let expected = [
        warning("future", "future", "1 entries are dated after DataPass' own clock"),
        warning(
            "late",
            "late",
            "Created late, although older than the watermark: D4, D5, D3 (3 in all)",
        ),
        warning(
            "rejected",
            "rejected D1",
            "Rejected D1: siret: not 14 digits; retried every cycle",
        ),
        warning(
            "rejected",
            "rejected D2",
            "Rejected D2: data.echelon_bourse: unknown; retried every cycle",
        ),
    ];
    let events_shown: Vec<Shown> = events.iter().map(read).collect();
    assert_eq!(events_shown, expected);
    let counts = json!({
        "pages": summary.pages, "seen": 6, "matched": 6, "created": 4, "late": 3, "existing": 0,
        "deleted": 0, "revalidated": 0, "rejected": 2, "accepted": 0, "skipped": 0, "enqueued": 0,
        "drift_rewinds": 0,
    });
    assert_eq!(events[0]["extra"], counts);

    // A late entry is reported once, a rejected or future one with each cycle.
    scene.cycle().output().success();
    let again: Vec<Shown> = scene.ingest.events().iter().map(read).collect();
    assert_eq!(again[0], expected[0]);
    assert_eq!(again[1..], expected[2..]);
    scene.cycle().arg("--dry-run").output().success();
    assert!(scene.ingest.events().is_empty());
}

#[test]
fn at_most_ten_rejected_entries_are_reported_each() {
    let scene = Scene::new();
    for id in 1..=13 {
        scene.upstream.add(Demande::cnous(id).siret("1"));
    }
    let future = Utc::now() + TimeDelta::days(30);
    scene.upstream.add(Demande::cnous(14).validated(future));
    scene.cycle().output().success();
    let events: Vec<Shown> = scene.ingest.events().iter().map(read).collect();
    assert_eq!(events.len(), 12);
    assert_eq!(events[0].3, ["future"]);
    let message = "3 more entries are rejected; `datapass-pull rejected list` names them";
    let more = shown("warning", "create", "rejected", "rejected", message);
    assert_eq!(events[1], more);
    assert_eq!(events[11].3, ["rejected", "D10"]);
}

#[test]
fn a_cycle_without_a_problem_reports_nothing() {
    let scene = Scene::new();
    scene.upstream.add(Demande::cnous(1));
    scene.cycle().output().success();
    assert!(scene.ingest.requests().is_empty());
}

#[test]
fn an_invalid_dsn_is_reported_with_the_other_invalid_settings() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run =
        Run::cycle(&upstream, &database).env("SENTRY_DSN", "canari").env("DATAPASS_CLIENT_ID", "");
    let outcome = run.any_stderr().output();
    outcome.permanent("configuration");
    for name in ["SENTRY_DSN must be", "DATAPASS_CLIENT_ID is not set"] {
        assert!(outcome.stderr.contains(name), "{}", outcome.stderr);
    }
}

/// A cycle that cannot start is reported if the settings of the report are valid.
#[test]
fn a_cycle_that_cannot_start_is_reported() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().unwrap();
    let (file, metrics) = (folder.path().join("env"), folder.path().join("it.prom"));
    std::fs::write(&file, format!("SENTRY_DSN={}\n", scene.ingest.dsn())).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let run = || scene.cycle().env("DATAPASS_METRICS_FILE", &metrics);
    run().output().success();
    let status = || {
        let text = std::fs::read_to_string(&metrics).unwrap();
        let status =
            text.lines().find_map(|line| line.strip_prefix("datapass_pull_last_exit_status{"));
        assert!(text.contains("\ndatapass_pull_last_success_timestamp_seconds{"));
        let (_, status) = status.unwrap().split_once("} ").unwrap();
        status.to_owned()
    };
    let secretless = || run().env_remove("DATAPASS_CLIENT_SECRET");
    let by_file = || {
        let run = run().env_remove("SENTRY_DSN").arg("--env-file").arg(&file);
        run.env_remove("DATAPASS_METRICS_FILE").arg("--metrics-file").arg(&metrics)
    };
    let cases = [
        ("configuration", true, secretless()),
        ("configuration", true, run().env("DATAPASS_PAGE_SIZE", "0")),
        ("configuration", true, run().env("DATAPASS_ALLOW_HTTP", "perhaps")),
        ("configuration", true, by_file().env("DATAPASS_CLIENT_ID", "")),
        ("configuration", false, secretless().env("SENTRY_DSN", "nonsense")),
        ("usage", true, run().args(["--concurrency", "9"])),
        ("usage", true, run().args(["pull", "--frobnicate"])),
        ("usage", true, by_file().arg("--frobnicate")),
    ];
    for (reason, reported, run) in cases {
        assert_eq!(status(), "0");
        let outcome = run.output();
        outcome.permanent(reason);
        let message = format!("The cycle failed in prepare: {reason}");
        let fingerprint = format!("failure {reason}");
        let expected = shown("error", "prepare", reason, &fingerprint, &message);
        let events: Vec<Shown> = scene.ingest.events().iter().map(read).collect();
        assert_eq!(events, Vec::from_iter(reported.then_some(expected)), "{}", outcome.stderr);
        assert_eq!(status(), "1");
        scene.cycle().env("DATAPASS_METRICS_FILE", &metrics).output().success();
    }
    // Neither a dry run nor another command reports anything.
    for run in [secretless().arg("--dry-run"), run().args(["--dry-run", "--frobnicate"])] {
        assert_eq!(run.output().code(), 1);
    }
    for command in ["status", "check", "--version"] {
        secretless().env("DATABASE_URL", "").arg(command).output();
    }
    assert!(scene.ingest.requests().is_empty());
    assert_eq!(status(), "0");
}
