//! Reports to Sentry, taken by a stand-in: which ones, what they say, and what they never do.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::harness::ingest::Ingest;
use crate::harness::*;

/// What a flush may cost, with what a busy machine adds to it.
const FLUSH_TIME: Duration = Duration::from_millis(3_500);

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

    /// Describes a cycle that is tried once, among variables that the SDK would heed.
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

    /// Adds a cycle of the past, that old, with what it missed.
    fn past(&self, hours: i64, reason: Option<&str>, missing: i64) {
        let outcome = if reason.is_some() {
            "failed"
        } else {
            "success"
        };
        let reason = reason.map_or("null".to_owned(), |reason| format!("'{reason}'"));
        self.database.exec(&format!(
            "insert into datapass_pull_runs (outcome, reason, started_at, missing)
             values ('{outcome}', {reason}, now() - interval '{hours} hours', {missing})"
        ));
    }

    fn answer(&self, status: u16) {
        let on = match status {
            401 | 403 => On::tokens(..),
            _ => On::pages(..),
        };
        self.upstream.fault(on, Fault::Status(status, &[]));
    }
}

/// Level, stage, reason, fingerprint behind the program's name, and message of an event.
type Told = (String, String, String, Vec<String>, String);

fn told(level: &str, stage: &str, reason: &str, fingerprint: &str, message: &str) -> Told {
    let words = fingerprint.split(' ').map(str::to_owned).collect();
    let [level, stage, reason, message] = [level, stage, reason, message].map(str::to_owned);
    (level, stage, reason, words, message)
}

/// Checks what every event has, and returns what tells them apart.
#[track_caller]
fn read(event: &Value) -> Told {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let words: Vec<String> = serde_json::from_value(event["fingerprint"].clone()).unwrap();
    let (name, words) = words.split_first().unwrap();
    assert_eq!(name, "datapass-pull");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(event["release"], format!("datapass-pull@{version}"));
    assert_eq!(event["environment"], "production");
    let tags = event["tags"].as_object().unwrap();
    assert_eq!(tags.len(), 3, "{event}");
    assert!(text(&tags["run_id"]).parse::<uuid::Uuid>().is_ok());
    assert_eq!(event["extra"].as_object().unwrap().len(), 12, "{event}");
    (
        // The protocol's default is left out.
        event["level"].as_str().unwrap_or("error").to_owned(),
        text(&tags["stage"]),
        text(&tags["reason"]),
        words.to_vec(),
        text(&event["message"]),
    )
}

#[test]
fn a_failure_is_reported_when_a_person_should_act() {
    let refused = || {
        let message = "The pull failed in authenticate: token_refused";
        let (stage, reason) = ("authenticate", "token_refused");
        told("error", stage, reason, "failure token_refused", message)
    };
    let lasting = || {
        let message = "The pull failed in authenticate: unauthorized, and not for the first time: \
                       was the secret rotated?";
        let (stage, reason) = ("authenticate", "unauthorized");
        told("error", stage, reason, "failure unauthorized", message)
    };
    let silence = || {
        let message = "The pull failed in list: server_error; nothing succeeded for 2 days";
        told("error", "list", "server_error", "silence", message)
    };
    type Past = &'static [(i64, Option<&'static str>)];
    let cases: [(u16, Past, Option<Told>); 13] = [
        (403, &[(1, None)], Some(refused())),
        (403, &[], Some(refused())),
        // A 401 is noise once, and a rotated secret when it lasts.
        (401, &[(1, None)], None),
        (401, &[(3, Some("unauthorized")), (2, None)], None),
        (401, &[(3, None), (2, Some("server_error"))], None),
        (
            401,
            &[(3, None), (2, Some("unauthorized"))],
            Some(lasting()),
        ),
        (
            401,
            &[(49, None), (2, Some("server_error"))],
            Some(lasting()),
        ),
        (401, &[], Some(lasting())),
        // Anything else when nothing succeeded for long.
        (503, &[(47, None), (2, Some("server_error"))], None),
        (
            503,
            &[(49, None), (2, Some("server_error"))],
            Some(silence()),
        ),
        (
            503,
            &[(60, Some("connection")), (49, None)],
            Some(silence()),
        ),
        (503, &[(49, Some("connection"))], Some(silence())),
        (503, &[], None),
    ];
    for (status, past, expected) in cases {
        let scene = Scene::new();
        for (hours, reason) in past {
            scene.past(*hours, *reason, 0);
        }
        scene.answer(status);
        let outcome = scene.cycle().output();
        let code = if status == 403 { 1 } else { 2 };
        outcome.assert_code(code);
        let events: Vec<Told> = scene.ingest.events().iter().map(read).collect();
        assert_eq!(events, Vec::from_iter(expected), "{status} {past:?}");
    }
}

#[test]
fn a_failure_before_the_past_is_known_is_reported() {
    let scene = Scene::new();
    let run = scene.cycle().env(
        "DATABASE_URL",
        "postgres://canari:canari@127.0.0.1:1/canari",
    );
    run.output().transient("database_unavailable");
    let message = "The pull failed in prepare: database_unavailable; when it succeeded last is not \
                   known";
    let (stage, reason) = ("prepare", "database_unavailable");
    let fingerprint = "failure database_unavailable";
    let events: Vec<Told> = scene.ingest.events().iter().map(read).collect();
    assert_eq!(
        events,
        [told("warning", stage, reason, fingerprint, message)]
    );
}

#[test]
fn entries_that_need_a_look_are_reported_one_issue_each() {
    let scene = Scene::new();
    scene.past(1, None, 1);
    scene.database.exec(
        "update datapass_pull_watermarks set last_validated_at = '2026-06-01T00:00:00Z',
             definition_id = 'proactivite_pour_les_etudiants_boursiers_dyn'",
    );
    let june = |id: i64| Demande::cnous(id).validated(at("2026-06-02T08:00:00Z"));
    scene.upstream.add(june(1).siret("1"));
    scene.upstream.add(june(2).data("echelon_bourse", "canari"));
    scene.upstream.add(Demande::cnous(3).never_validated());
    // Two of before the look-back that the table does not have, one more than before.
    scene.upstream.add(Demande::cnous(4));
    scene.upstream.add(Demande::cnous(5));
    let future = Utc::now() + TimeDelta::days(30);
    scene.upstream.add(Demande::cnous(6).validated(future));
    let summary = scene.cycle().output().success();
    let counts = (summary.rejected, summary.dropped, summary.missing);
    assert_eq!(counts, (2, 1, 2));
    let events = scene.ingest.events();
    let warning =
        |reason, fingerprint, message| told("warning", "create", reason, fingerprint, message);
    let expected = [
        warning(
            "missing",
            "missing",
            "2 entries from before the look-back are not in the table, 1 in the cycle before; \
             `--since` takes them",
        ),
        warning(
            "future",
            "future",
            "1 entries are dated after DataPass' own clock",
        ),
        warning(
            "rejected",
            "rejected D1",
            "Entry D1 is rejected: siret: not 14 digits",
        ),
        warning(
            "rejected",
            "rejected D2",
            "Entry D2 is rejected: data.echelon_bourse: unknown",
        ),
        warning(
            "dropped",
            "dropped D3",
            "Entry D3 has no validation time and is dropped; only `datapass-pull watermark reset` \
             takes it",
        ),
    ];
    let told: Vec<Told> = events.iter().map(read).collect();
    assert_eq!(told, expected);
    let counts = json!({
        "pages": summary.pages, "seen": 6, "matched": 4, "created": 1, "existing": 0,
        "revalidated": 0, "rejected": 2, "accepted": 0, "dropped": 1, "enqueued": 0, "missing": 2,
        "drift_rewinds": 0,
    });
    assert_eq!(events[0]["extra"], counts);

    // What is missing is told when it grows; what is rejected or dropped, as long as it is.
    scene.cycle().output().success();
    let again: Vec<Told> = scene.ingest.events().iter().map(read).collect();
    assert_eq!(again, expected[1..]);
    scene.cycle().arg("--dry-run").output().success();
    assert!(scene.ingest.events().is_empty());
}

#[test]
fn many_rejected_entries_are_a_few_reports() {
    let scene = Scene::new();
    for id in 1..=13 {
        scene.upstream.add(Demande::cnous(id).siret("1"));
    }
    scene.cycle().output().success();
    let events: Vec<Told> = scene.ingest.events().iter().map(read).collect();
    assert_eq!(events.len(), 11);
    let message = "3 more entries are rejected; `datapass-pull rejected list` names them";
    let more = told("warning", "create", "rejected", "rejected", message);
    assert_eq!(events[0], more);
    assert_eq!(events[10].3, ["rejected", "D10"]);
}

#[test]
fn a_cycle_without_a_finding_reports_nothing() {
    let scene = Scene::new();
    scene.upstream.add(Demande::cnous(1));
    scene.cycle().output().success();
    assert!(scene.ingest.requests().is_empty());
}

#[test]
fn an_ingest_that_is_away_silent_or_refusing_changes_no_end() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://public@{}/42", silent.local_addr().unwrap());
    let refusals = [500, 429].map(Ingest::refusing);
    let away = "http://public@127.0.0.1:1/42".to_owned();
    let nowhere = "https://public@sentry.invalid/42".to_owned();
    let refusing = refusals.iter().map(Ingest::dsn);
    let attempt = |dsn: String| {
        let scene = Scene::new();
        scene.upstream.add(Demande::cnous(1).siret("1"));
        let run = || scene.cycle().env("SENTRY_DSN", &dsn);
        let begun = Instant::now();
        run().output().success();
        scene.answer(403);
        run().output().permanent("token_refused");
        let took = begun.elapsed();
        assert!(took < 2 * FLUSH_TIME, "{dsn}: {took:?}");
    };
    thread::scope(|scope| {
        for dsn in [silent, away, nowhere].into_iter().chain(refusing) {
            scope.spawn(|| attempt(dsn));
        }
    });
    assert!(refusals.iter().all(|ingest| ingest.requests().len() == 2));
}

/// Makes a server's settings for a host name, and the authority that the name is signed by.
fn certified(name: &str) -> (Arc<ServerConfig>, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (Arc::new(config), pem)
}

/// No variable weakens the check of the certificate: not the SDK's own, and not a proxy.
#[test]
fn a_report_goes_to_the_certified_host_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roots.pem");
    for (dsn_host, proxied) in [("localhost", false), ("sentry.invalid", true)] {
        let (config, trusted) = certified(dsn_host);
        let (_, other) = certified(dsn_host);
        for (roots, arrives) in [(&trusted, true), (&other, false)] {
            std::fs::write(&file, roots).unwrap();
            let mut scene = Scene::new();
            scene.ingest = Ingest::tls(Arc::clone(&config));
            let address = scene.ingest.address();
            let dsn = match proxied {
                true => format!("https://public@{dsn_host}/42"),
                false => scene.ingest.dsn(),
            };
            scene.answer(403);
            let run = scene
                .cycle()
                .env("SENTRY_DSN", dsn)
                .env("SSL_CERT_FILE", &file)
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
    let run = Run::cycle(&upstream, &database)
        .env("SENTRY_DSN", "canari")
        .env("DATAPASS_CLIENT_ID", "");
    let outcome = run.any_stderr().output();
    outcome.permanent("configuration");
    for name in ["SENTRY_DSN must be", "DATAPASS_CLIENT_ID is not set"] {
        assert!(outcome.stderr.contains(name), "{}", outcome.stderr);
    }
}

/// A cycle that cannot even start is heard of wherever the settings still say who listens.
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
        let status = text
            .lines()
            .find_map(|line| line.strip_prefix("datapass_pull_last_exit_status "));
        assert!(text.contains("\ndatapass_pull_last_success_timestamp_seconds "));
        status.unwrap().to_owned()
    };
    let secretless = || run().env_remove("DATAPASS_CLIENT_SECRET");
    let by_file = || {
        let run = run().env_remove("SENTRY_DSN").arg("--env-file").arg(&file);
        run.env_remove("DATAPASS_METRICS_FILE")
            .arg("--metrics-file")
            .arg(&metrics)
    };
    let cases = [
        ("configuration", true, secretless()),
        ("configuration", true, run().env("DATAPASS_PAGE_SIZE", "0")),
        (
            "configuration",
            true,
            run().env("DATAPASS_ALLOW_HTTP", "perhaps"),
        ),
        (
            "configuration",
            true,
            by_file().env("DATAPASS_CLIENT_ID", ""),
        ),
        (
            "configuration",
            false,
            secretless().env("SENTRY_DSN", "nonsense"),
        ),
        ("usage", true, run().args(["--concurrency", "9"])),
        ("usage", true, run().args(["pull", "--frobnicate"])),
        ("usage", true, by_file().arg("--frobnicate")),
    ];
    for (reason, reported, run) in cases {
        assert_eq!(status(), "0");
        let outcome = run.output();
        outcome.permanent(reason);
        let message = format!("The pull failed in prepare: {reason}");
        let fingerprint = format!("failure {reason}");
        let expected = told("error", "prepare", reason, &fingerprint, &message);
        let events: Vec<Told> = scene.ingest.events().iter().map(read).collect();
        assert_eq!(
            events,
            Vec::from_iter(reported.then_some(expected)),
            "{}",
            outcome.stderr
        );
        assert_eq!(status(), "1");
        scene
            .cycle()
            .env("DATAPASS_METRICS_FILE", &metrics)
            .output()
            .success();
    }
    // Nobody is to hear of these.
    for run in [
        secretless().arg("--dry-run"),
        run().args(["--dry-run", "--frobnicate"]),
    ] {
        assert_eq!(run.output().code(), 1);
    }
    for command in ["status", "check", "--version"] {
        secretless().env("DATABASE_URL", "").arg(command).output();
    }
    assert!(scene.ingest.requests().is_empty());
    assert_eq!(status(), "0");
}
