//! `check`: one line with a verdict per section, the exit status of a cycle, nothing written or sent.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use chrono::TimeDelta;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::datapass::Clock;
use crate::harness::ingest::{Ingest, server_certificate};
use crate::harness::*;

/// A host that accepts connections, records what it receives, and never responds.
struct Silent {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut bytes = Vec::new();
                let _ = stream.unwrap().read_to_end(&mut bytes);
                recorded.lock().unwrap().push(bytes);
            }
        });
        Self { address, connections }
    }

    /// Returns what each connection sent.
    fn received(&self) -> Vec<Vec<u8>> {
        // They are accepted in the order in which they were made.
        const LAST: &[u8] = b"last";
        TcpStream::connect(self.address).unwrap().write_all(LAST).unwrap();
        let connections = || self.connections.lock().unwrap();
        eventually("the last connection", || connections().last().is_some_and(|it| it == LAST));
        connections().pop();
        connections().clone()
    }
}

/// Everything that a cycle can use
struct Scene {
    upstream: DataPass,
    database: Database,
    sentry: Silent,
    ping: Silent,
    directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        upstream.add(validated(1, 1));
        database.exec(GOOD_JOBS_4);
        Self {
            upstream,
            database,
            sentry: Silent::start(),
            ping: Silent::start(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn check(&self) -> Run {
        let sentry = format!("http://canari@{}/1", self.sentry.address);
        let ping = format!("http://{}/canari", self.ping.address);
        Run::new(["check"])
            .upstream(&self.upstream)
            .database(&self.database)
            .env("SENTRY_DSN", sentry)
            .env("DATAPASS_PING_URL", ping)
            .env("DATAPASS_METRICS_FILE", self.metrics_file())
    }

    fn metrics_file(&self) -> std::path::PathBuf {
        self.directory.path().join("pull.prom")
    }
}

/// Returns the lines with a verdict as (name, detail), in their order.
fn lines(stdout: &str, verdict: &str) -> Vec<(String, String)> {
    let lines = stdout.lines().filter_map(|line| line.strip_prefix(verdict));
    lines
        .filter_map(|line| line.strip_prefix(' ')?.split_once(": "))
        .map(|(name, detail)| (name.to_owned(), detail.to_owned()))
        .collect()
}

fn names(stdout: &str, verdict: &str) -> Vec<String> {
    lines(stdout, verdict).into_iter().map(|it| it.0).collect()
}

#[test]
fn everything_is_ok_and_nothing_is_written_or_sent() {
    let scene = Scene::new();
    let before = scene.database.snapshot();
    let outcome = scene.check().output();
    let stdout = &outcome.assert_success().stdout;
    let (host, port) = scene.database.host_and_port();
    let upstream = scene.upstream.address();
    for line in [
        format!("token         http://{upstream}/api/oauth/token\n"),
        format!("listing       http://{upstream}/api/v1/demandes\n"),
        format!("database      {host}:{port}, "),
        format!("Sentry        {}, environment production\n", scene.sentry.address),
        format!("ping          {}\n", scene.ping.address),
        "sslmode prefer\n".to_owned(),
        "ProcessProactiviteRequestJob".to_owned(),
        format!("\nok   connect: {upstream}\n"),
        "\nok   token: granted\n".to_owned(),
        "\nok   listing: 1 row requested, 1 received\n".to_owned(),
        "\nok   clock: this machine is 0 s".to_owned(),
        "\nok   definition: visible to the account\n".to_owned(),
        "\nok   tables: in schema public: columns, unique indexes and privileges are".to_owned(),
        "\nok   watermark: none yet\n".to_owned(),
        "\nok   jobs: public.good_jobs, as GoodJob 4 writes it\n".to_owned(),
        format!("\nok   metrics file: {} can be", scene.metrics_file().display()),
        format!("\nok   Sentry: {}\n", scene.sentry.address),
        format!("\nok   ping: {}\n", scene.ping.address),
    ] {
        assert!(stdout.contains(&line), "{line}\n{stdout}");
    }
    assert!(stdout.ends_with("\n13 ok, 0 warnings, 0 failed\n"), "{stdout}");
    // Nothing was written, and nothing sent.
    assert_eq!(scene.database.snapshot(), before);
    assert_eq!(scene.database.count("datapass_pull_runs"), 0);
    assert_eq!(scene.directory.path().read_dir().unwrap().count(), 0);
    assert_eq!(scene.sentry.received(), [b""]);
    assert_eq!(scene.ping.received(), [b""]);
}

#[test]
fn the_job_is_shown_only_with_v() {
    let scene = Scene::new();
    let job = "\nok   job: for the record with id 1: {\"id\":";
    let plain = scene.check().output();
    assert!(!plain.assert_success().stdout.contains(job));
    let verbose = scene.check().arg("-v").any_stderr().output();
    assert!(verbose.assert_success().stdout.contains(job), "{}", verbose.stdout);
}

/// A fault, its line, the skipped sections, the exit status and the reason.
type FaultCase<'a> = (&'a dyn Fn(&Scene, Run) -> Run, &'a str, &'a [&'a str], i32, &'a str);

#[test]
fn each_fault_is_one_line() {
    let faults: &[FaultCase<'_>] = &[
        (
            &|_, run| run.env("DATAPASS_PAGE_SIZE", "0"),
            "FAIL settings",
            &[
                "connect",
                "token",
                "listing",
                "clock",
                "definition",
                "database",
                "tables",
                "watermark",
                "jobs",
            ],
            1,
            "configuration",
        ),
        (
            &|_, run| run.env("DATAPASS_AUTH_URL", "http://127.0.0.1:1/token"),
            "FAIL connect",
            &["token", "listing", "clock", "definition"],
            2,
            "connection",
        ),
        (
            &|_, run| run.env("DATAPASS_CLIENT_SECRET", "canari-wrong"),
            "FAIL token",
            &["listing", "clock", "definition"],
            2,
            "unauthorized",
        ),
        (
            &|scene, run| {
                scene.upstream.fault(On::page(1), Fault::Status(403, &[]));
                run
            },
            "FAIL listing",
            &["clock"],
            1,
            "request_refused",
        ),
        (
            &|scene, run| {
                scene.upstream.with(|upstream| {
                    upstream.definitions.retain(|id, _| id == "api_particulier");
                });
                run
            },
            "FAIL definition",
            &[],
            1,
            "no_definition",
        ),
        (
            &|scene, run| {
                let cycle = Run::cycle(&scene.upstream, &scene.database);
                cycle.output().success();
                scene.upstream.with(|upstream| {
                    upstream.definitions.retain(|id, _| id == "api_particulier");
                });
                run
            },
            "FAIL definition",
            &[],
            2,
            "view_changed",
        ),
        (
            &|_, run| run.env("DATABASE_URL", "postgres://pull@127.0.0.1:1/pull"),
            "FAIL database",
            &["tables", "watermark", "jobs"],
            2,
            "database_unavailable",
        ),
        (
            &|scene, run| {
                scene.database.exec("alter table proactivite_requests alter siret type varchar(9)");
                run
            },
            "FAIL tables",
            &[],
            1,
            "database_refused",
        ),
        (
            &|scene, run| {
                scene.database.exec("drop table datapass_pull_watermarks");
                run
            },
            "FAIL tables",
            &["watermark"],
            1,
            "tables_missing",
        ),
        (
            &|scene, run| {
                let sql = "update datapass_pull_watermarks set definition_id = 'other'";
                scene.database.exec(sql);
                run
            },
            "FAIL watermark",
            &[],
            1,
            "definition_changed",
        ),
        (
            &|scene, run| {
                scene.database.exec("alter table good_jobs drop queue_name");
                run
            },
            "FAIL jobs",
            &[],
            1,
            "enqueue_refused",
        ),
    ];
    for (set, line, skipped, code, reason) in faults {
        let scene = Scene::new();
        let outcome = set(&scene, scene.check()).output();
        let stdout = &outcome.assert_code(*code).stdout;
        let context = format!("{line}: {stdout}{}", outcome.stderr);
        let failed: Vec<&str> = stdout.lines().filter(|it| it.starts_with("FAIL")).collect();
        assert!(matches!(failed[..], [it] if it.starts_with(line)), "{context}");
        if *line == "FAIL definition" {
            assert!(
                stdout.contains("ask DataPass for access; it sees api_particulier"),
                "{context}"
            );
        }
        assert_eq!(names(stdout, "skip"), *skipped, "{context}");
        assert_eq!(names(stdout, "warn"), [""; 0], "{context}");
        let tally = stdout.lines().last().unwrap();
        assert!(tally.contains(" ok, 0 warnings, 1 failed"), "{context}");
        let is_skipped = tally.ends_with(&format!(", {} skipped", skipped.len()));
        assert_eq!(is_skipped, !skipped.is_empty(), "{context}");
        let name = line.strip_prefix("FAIL ").unwrap();
        let last = outcome.stderr.lines().last().unwrap();
        assert!(last.contains(&format!("Check failed: {name} stage=")), "{context}");
        assert!(last.ends_with(&format!("reason={reason}")), "{context}");
    }
}

#[test]
fn what_is_a_warning_in_a_cycle_is_a_warning() {
    type Set<'a> = &'a dyn Fn(&Scene, Run) -> Run;
    let warnings: &[(Set<'_>, &str, &str)] = &[
        (
            &|scene, run| {
                let sql = "update datapass_pull_watermarks set last_validated_at = '2090-01-01'";
                scene.database.exec(sql);
                run
            },
            "watermark",
            "It is in the future",
        ),
        (
            &|scene, run| {
                let hour = Clock::Shifted(TimeDelta::hours(1));
                scene.upstream.with(|upstream| upstream.clock = hour);
                run
            },
            "clock",
            "s behind DataPass",
        ),
        (
            &|scene, run| {
                scene.upstream.fault(On::definitions(..), Fault::Status(500, &[]));
                run
            },
            "definition",
            "answered 500",
        ),
        (
            &|_, run| run.env("DATAPASS_METRICS_FILE", "/dev/full"),
            "metrics file",
            "it is not a regular file",
        ),
        (&|_, run| run.env("SENTRY_DSN", "http://canari@127.0.0.1:1/1"), "Sentry", "no connection"),
        (
            &|_, run| run.env("DATAPASS_PING_URL", "http://127.0.0.1:1/canari"),
            "ping",
            "no connection",
        ),
    ];
    for (set, name, words) in warnings {
        let scene = Scene::new();
        let outcome = set(&scene, scene.check()).output();
        let stdout = &outcome.assert_success().stdout;
        let found = lines(stdout, "warn");
        assert!(
            matches!(&found[..], [(it, detail)] if it == name && detail.contains(words)),
            "{name}: {stdout}"
        );
        assert!(stdout.contains(" ok, 1 warning, 0 failed\n"), "{stdout}");
    }
}

#[test]
fn all_faults_are_reported_and_the_first_of_a_cycle_decides() {
    let scene = Scene::new();
    scene
        .database
        .exec("alter table proactivite_requests drop siret; alter table good_jobs drop queue_name");
    let faulty = || {
        let run = scene.check().env("DATAPASS_CLIENT_SECRET", "canari-wrong");
        run.env("DATAPASS_METRICS_FILE", "/proc/pull.prom")
    };
    let outcome = faulty().output();
    let stdout = &outcome.assert_code(1).stdout;
    assert_eq!(names(stdout, "FAIL"), ["token", "tables", "jobs"], "{stdout}");
    assert_eq!(names(stdout, "warn"), ["metrics file"], "{stdout}");
    assert_eq!(names(stdout, "skip"), ["listing", "clock", "definition"], "{stdout}");
    assert!(stdout.ends_with("\n6 ok, 1 warning, 3 failed, 3 skipped\n"), "{stdout}");

    let json = faulty().args(["--format", "json"]).output();
    let json: Value = serde_json::from_str(&json.assert_code(1).stdout).unwrap();
    assert_eq!(json["outcome"], "permanent");
    assert_eq!(json["reason"], "enqueue_refused");
    let checks = json["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 13);
    let mut verdicts = BTreeMap::new();
    for check in checks {
        let keys: Vec<&String> = check.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "verdict", "detail"]);
        *verdicts.entry(check["verdict"].as_str().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(verdicts, BTreeMap::from([("ok", 6), ("warn", 1), ("fail", 3), ("skip", 3)]));
    assert!(checks[1]["detail"].as_str().unwrap().contains("127.0.0.1"), "{json}");
}

#[test]
fn a_watermark_of_another_definition_is_reported_beside_a_missing_table() {
    let scene = Scene::new();
    scene.database.exec(
        "update datapass_pull_watermarks set definition_id = 'canari-2';
         drop table datapass_pull_rejections",
    );
    let stdout = scene.check().output().assert_code(1).stdout.clone();
    assert_eq!(names(&stdout, "FAIL"), ["tables", "watermark"], "{stdout}");
}

#[test]
fn of_several_faults_check_and_a_cycle_end_with_the_same() {
    const WRONG_SECRET: (&str, &str) = ("DATAPASS_CLIENT_SECRET", "canari-wrong");
    const NO_DATABASE: (&str, &str) = ("DATABASE_URL", "postgres://canari@127.0.0.1:1/canari");
    const NO_ACCESS: (&str, &str) = ("DATAPASS_DEFINITION_ID", "canari");
    const NO_DATAPASS: (&str, &str) = ("DATAPASS_AUTH_URL", "http://127.0.0.1:1/token");
    const NO_FAULT: (&str, &str) = ("DATAPASS_CA_FILE", "");
    const NO_API: (&str, &str) = ("DATAPASS_API_BASE_URL", "http://127.0.0.1:1/api");
    const NO_JOBS: &str = "alter table good_jobs drop queue_name";
    const NO_INSERT: &str = "alter table proactivite_requests drop siret";
    const NO_TABLES: &str = "drop table datapass_pull_watermarks";
    const OTHER: &str = "update datapass_pull_watermarks set definition_id = 'canari-2'";
    for (sql, faults, reason) in [
        ("", [NO_DATABASE, NO_ACCESS], "database_unavailable"),
        ("", [WRONG_SECRET, NO_ACCESS], "unauthorized"),
        (NO_INSERT, [WRONG_SECRET; 2], "unauthorized"),
        (NO_INSERT, [NO_ACCESS; 2], "no_definition"),
        (NO_JOBS, [WRONG_SECRET; 2], "enqueue_refused"),
        (NO_TABLES, [NO_DATAPASS; 2], "tables_missing"),
        (OTHER, [NO_DATAPASS; 2], "definition_changed"),
        ("", [NO_DATAPASS, NO_API], "connection"),
        ("", [NO_API; 2], "token_refused"),
        (NO_INSERT, [NO_FAULT; 2], "tables_missing"),
    ] {
        let scene = Scene::new();
        if faults[0] != NO_FAULT {
            scene.upstream.with(|upstream| upstream.clear());
        }
        scene.database.exec(sql);
        if faults[0] == NO_API {
            scene.upstream.fault(On::tokens(..), Fault::Status(400, &[]));
        }
        let outcome = |run: Run| {
            let outcome = run
                .args(["--format", "json"])
                .env(faults[0].0, faults[0].1)
                .env(faults[1].0, faults[1].1)
                .any_stderr()
                .output();
            let json: Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
            (outcome.code(), json["reason"].clone())
        };
        let cycle = Run::cycle(&scene.upstream, &scene.database).args(["--max-retries", "0"]);
        let (of_cycle, of_check) = (outcome(cycle), outcome(scene.check()));
        assert_eq!(of_cycle, of_check, "{sql} {faults:?}");
        assert_eq!(of_cycle.1, reason, "{sql} {faults:?}");
    }
}

#[test]
fn json_is_one_document_for_success_and_invalid_settings() {
    let scene = Scene::new();
    let json = |run: Run, code| -> Value {
        let outcome = run.args(["--format", "json"]).output();
        serde_json::from_str(&outcome.assert_code(code).stdout).unwrap()
    };
    let success = json(scene.check(), 0);
    assert_eq!(success["outcome"], "success");
    assert_eq!(success.get("reason"), None);
    assert_eq!(success["checks"][0]["name"], "settings");
    assert_eq!(success["settings"]["definition"], "proactivite_pour_les_etudiants_boursiers_dyn");
    let invalid = json(scene.check().env("DATABASE_URL", ""), 1);
    assert_eq!(invalid["outcome"], "permanent");
    assert_eq!(invalid["reason"], "configuration");
    assert_eq!(invalid["checks"][0]["verdict"], "fail");
}

#[test]
fn the_deadline_ends_the_check_with_a_verdict() {
    let scene = Scene::new();
    scene.upstream.fault(On::tokens(..), Fault::NoResponse);
    let outcome = scene.check().args(["--timeout", "3s"]).output();
    let stdout = &outcome.assert_code(2).stdout;
    let failed = names(stdout, "FAIL");
    assert!(failed == ["check"] || failed == ["token", "database"], "{stdout}");
    let is_reached = !stdout.contains("FAIL check");
    assert!(is_reached || !stdout.contains("needs "), "{stdout}");
    assert!(stdout.lines().last().unwrap().contains(" failed"), "{stdout}");
}

#[test]
fn a_terminal_has_colours_unless_no_color_is_set_and_nothing_is_retried() {
    let scene = Scene::new();
    let shown = |run: Run| run.env("TERM", "xterm").on_terminal().end().1;
    assert!(shown(scene.check()).contains("\u{1b}[32mok  \u{1b}[0m settings: valid"));
    assert!(!shown(scene.check().env("NO_COLOR", "1")).contains('\u{1b}'));
    // One request, without a retry.
    scene.upstream.take_requests();
    scene.upstream.fault(On::tokens(..), Fault::Status(503, &[]));
    scene.check().output().assert_code(2);
    assert_eq!(scene.upstream.requests_of(Endpoint::Token).len(), 1);
}

#[test]
fn each_invalid_setting_has_its_line() {
    let run = Run::new(["check", "--page-size", "0"]).any_stderr();
    let stdout = run.output().assert_code(1).stdout.clone();
    let failed = |line: &&str| line.starts_with("FAIL settings: ");
    assert_eq!(stdout.lines().filter(failed).count(), 7, "{stdout}");
    let expected = "FAIL settings: --page-size must be a whole number from 1 to 1000\n";
    assert!(stdout.contains(expected), "{stdout}");
}

#[test]
fn report_hosts_are_reached_through_their_proxies_with_tls_and_nothing_is_sent() {
    let scene = Scene::new();
    let (config, trusted) = server_certificate("sentry.invalid");
    let roots = scene.directory.path().join("roots.pem");
    std::fs::write(&roots, trusted).unwrap();
    let tunnel = Ingest::tls(config);
    let proxied = |run: Run| {
        run.env("SENTRY_DSN", "https://canari@sentry.invalid/1")
            .env("HTTPS_PROXY", format!("http://canari:canari@{}", tunnel.address()))
            .env("DATAPASS_PING_URL", "http://ping.invalid/canari")
            .env("HTTP_PROXY", format!("http://{}", scene.ping.address))
            .env("DATAPASS_ALLOW_HTTP", "1")
    };
    let outcome = proxied(scene.check()).env("DATAPASS_CA_FILE", &roots).output();
    let stdout = &outcome.assert_success().stdout;
    for line in [
        format!("\nok   Sentry: sentry.invalid through the proxy http://{}\n", tunnel.address()),
        format!("\nok   ping: ping.invalid through the proxy http://{}\n", scene.ping.address),
    ] {
        assert!(stdout.contains(&line), "{line}\n{stdout}");
    }
    let requests = tunnel.requests();
    assert!(matches!(&requests[..], [connect] if connect.starts_with(b"CONNECT ")));
    assert_eq!(scene.ping.received(), [b""]);

    // A certificate that is not trusted.
    let stdout = proxied(scene.check()).output().assert_success().stdout.clone();
    let warnings = lines(&stdout, "warn");
    assert!(
        matches!(&warnings[..], [(name, detail)] if name == "Sentry" && detail.contains("certificate")),
        "{stdout}"
    );
}
