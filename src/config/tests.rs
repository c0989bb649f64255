//! What the settings accept, refuse and report.

mod sources;

use std::ffi::OsString;
use std::time::Duration;

use chrono::{TimeZone, Utc};
use secrecy::ExposeSecret;

use super::*;
use crate::cli::variables::VARIABLES;
use crate::cli::{self, Cli, Command, Job, KubernetesArgs, Scheduler};
use crate::error::{Reason, Result, Stage};

const COMPLETE: &[(&str, &str)] = &[
    ("DATAPASS_AUTH_URL", "https://datapass.example/api/oauth/token"),
    ("DATAPASS_API_BASE_URL", "https://datapass.example/api/v1/"),
    ("DATAPASS_CLIENT_ID", "client"),
    ("DATAPASS_CLIENT_SECRET", "s3cret"),
    ("DATABASE_URL", "postgres://u:p@h/d"),
];

/// An invalid value that must show nowhere.
const CANARY: &str = "hunter2";

/// What a command asked for.
enum Asked {
    Pull(Box<(PullConfig, Reports, Format)>),
    Schedule(Box<ScheduleConfig>),
}

type Variables = Vec<(OsString, OsString)>;

fn variables(base: &[(&str, &str)], more: &[(&str, &str)]) -> Variables {
    let is_kept = |(name, _): &&(&str, &str)| !more.iter().any(|(other, _)| other == name);
    let all = base.iter().filter(is_kept).chain(more);
    all.map(|(name, value)| (name.into(), value.into())).collect()
}

/// Asks for what a command needs, and returns the warnings, too.
fn run(args: &str, variables: Variables) -> (Result<Asked>, Vec<String>) {
    let args = std::iter::once("datapass-pull").chain(args.split_whitespace());
    let args: Vec<OsString> = args.map(OsString::from).collect();
    let Cli { command, options } = cli::parse(&args).unwrap();
    let now = Utc.with_ymd_and_hms(2026, 5, 18, 10, 0, 0).unwrap();
    let mut settings = Settings::new(options, variables, now);
    let asked = match command {
        Command::Pull(args) => {
            let (reports, format) = (settings.reports(), settings.format);
            let config = settings.pull(&args);
            config.map(|config| Asked::Pull(Box::new((config, reports, format))))
        }
        Command::Schedule { scheduler } => {
            let config = settings.schedule(scheduler);
            config.map(|config| Asked::Schedule(Box::new(config)))
        }
        command => panic!("{command:?}"),
    };
    let warnings = settings.warnings.iter().cloned().collect();
    (settings.finish(asked), warnings)
}

fn loaded(args: &str, variables: Variables) -> (PullConfig, Reports, Format) {
    match run(args, variables).0.unwrap_or_else(|it| panic!("{it}")) {
        Asked::Pull(asked) => *asked,
        Asked::Schedule(_) => panic!("{args}"),
    }
}

fn pull(args: &str, more: &[(&str, &str)]) -> (PullConfig, Reports, Format) {
    loaded(args, variables(COMPLETE, more))
}

fn schedule(args: &str, more: &[(&str, &str)]) -> (ScheduleConfig, Vec<String>) {
    let (asked, warnings) = run(&format!("schedule {args}"), variables(&[], more));
    match asked.unwrap_or_else(|it| panic!("{it}")) {
        Asked::Schedule(config) => (*config, warnings),
        Asked::Pull(..) => panic!("{args}"),
    }
}

fn problem(args: &str, base: &[(&str, &str)], more: &[(&str, &str)]) -> (Reason, String) {
    let Err(failure) = run(args, variables(base, more)).0 else { panic!("{args} is valid") };
    assert_eq!(failure.stage, Stage::Prepare);
    let message = failure.error_chain();
    assert!(!message.contains(CANARY), "{message}");
    assert!(!message.contains('\n'), "{message}");
    (failure.reason, message)
}

#[test]
fn a_cycle_without_options_has_all_defaults() {
    let (config, reports, format) = pull("", &[]);
    assert_eq!(config.upstream.auth_url.as_str(), "https://datapass.example/api/oauth/token");
    assert_eq!(config.upstream.api_base_url.as_str(), "https://datapass.example/api/v1");
    assert_eq!(config.upstream.client_id, "client");
    assert_eq!(config.upstream.client_secret.expose_secret(), "s3cret");
    assert_eq!(config.upstream.definition_id, "proactivite_pour_les_etudiants_boursiers_dyn");
    assert!(config.upstream.http.roots.is_none());
    let url = &config.database;
    assert_eq!(url.config.get_password(), Some(&b"p"[..]));
    assert_eq!(url.servers[0].to_string(), "h:5432");
    assert_eq!(config.job.enqueue, Enqueue::Auto);
    assert_eq!(config.job.class, "ProcessProactiviteRequestJob");
    assert_eq!((config.job.queue.as_str(), config.job.app.as_str()), ("default", "relais"));
    assert_eq!(config.job.argument, JobArgument::Record);
    assert_eq!(config.job.priority, 0);
    assert!(reports.sentry.is_none() && reports.metrics_file.is_none());
    assert!(reports.ping.is_none());
    assert_eq!(reports.definition_id, Some(config.upstream.definition_id.clone()));
    assert!(config.since.is_none() && config.retry_for.is_none() && !config.dry_run);
    assert_eq!(format, Format::Text);
    assert_eq!((config.page_size, config.concurrency, config.max_retries), (1_000, 2, 5));
    assert_eq!(config.timeout, Duration::from_secs(900));
    let shown = format!("{config:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("u:p"), "{shown}");
}

#[test]
fn an_option_overrides_the_variable_which_overrides_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    std::fs::write(&path, "DATAPASS_PAGE_SIZE=3\nDATAPASS_TIMEOUT=3m\nDATAPASS_RETRY_FOR=3h\n")
        .unwrap();
    let variables =
        [("DATAPASS_PAGE_SIZE", "2"), ("DATAPASS_TIMEOUT", "2m"), ("DATAPASS_RETRY_FOR", "")];
    let args = format!("--page-size 1 --timeout= --env-file {}", path.display());
    let (config, ..) = pull(&args, &variables);
    assert_eq!(config.page_size, 1);
    assert_eq!(config.timeout, Duration::from_secs(120));
    assert_eq!(config.retry_for, Some(Duration::from_secs(10_800)));
}

#[test]
fn every_variable_is_read_and_overridden_by_its_option() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, crate::net::tls::tests::root_pem()).unwrap();
    let (config, reports, format) = pull(
        "",
        &[
            ("DATAPASS_FORMAT", "json"),
            ("DATAPASS_CONCURRENCY", "4"),
            ("DATAPASS_MAX_RETRIES", "0"),
            ("DATAPASS_RETRY_FOR", "2h"),
            ("DATAPASS_ENQUEUE", "good_job"),
            ("DATAPASS_METRICS_FILE", "/m/datapass.prom"),
            ("DATAPASS_CA_FILE", ca_file.to_str().unwrap()),
            ("DATAPASS_DEFINITION_ID", "other"),
            ("DATAPASS_JOB_CLASS", "A::B"),
            ("DATAPASS_JOB_QUEUE", "low"),
            ("DATAPASS_JOB_PRIORITY", "-5"),
            ("DATAPASS_JOB_APP", "app"),
            ("DATAPASS_JOB_ARGUMENT", "id"),
            ("SENTRY_DSN", "https://key@sentry.example/1"),
            ("SENTRY_ENVIRONMENT", "staging"),
            ("SENTRY_MONITOR_SLUG", "pull_1"),
            ("DATAPASS_PULL_CRON", "5 * * * *"),
            ("DATAPASS_PING_URL", "https://ping.example/u?a=1"),
        ],
    );
    assert_eq!(format, Format::Json);
    assert_eq!((config.concurrency, config.max_retries), (4, 0));
    let two_hours = Some(Duration::from_secs(7_200));
    assert_eq!(config.retry_for, two_hours);
    assert_eq!(reports.metrics_file, Some("/m/datapass.prom".into()));
    assert_eq!(reports.definition_id.as_deref(), Some("other"));
    assert_eq!(reports.ping.unwrap().url.as_str(), "https://ping.example/u?a=1");
    assert_eq!(config.upstream.http.roots.map(|roots| roots.len()), Some(1));
    assert_eq!(config.upstream.definition_id, "other");
    let job = &config.job;
    assert_eq!((job.enqueue, job.argument), (Enqueue::GoodJob, JobArgument::Id));
    assert_eq!((job.class.as_str(), job.queue.as_str(), job.app.as_str()), ("A::B", "low", "app"));
    assert_eq!(job.priority, -5);
    let sentry = reports.sentry.unwrap();
    assert_eq!(sentry.dsn.to_string(), "https://key:@sentry.example/1");
    assert_eq!(&*sentry.environment, "staging");
    let monitor = sentry.monitor.unwrap();
    assert_eq!((monitor.slug.as_str(), monitor.retry_for), ("pull_1", two_hours));
    assert_eq!(monitor.cron.to_string(), "5 * * * *");
    assert_eq!(monitor.timeout, config.timeout);

    let (config, reports, format) = pull(
        "--since 36h --dry-run -q --format json --page-size 7 --concurrency 1 \
         --timeout 1s --max-retries 100 --retry-for 3h --enqueue none --metrics-file m",
        &[
            ("DATAPASS_FORMAT", CANARY),
            ("DATAPASS_PAGE_SIZE", CANARY),
            ("DATAPASS_CONCURRENCY", CANARY),
            ("DATAPASS_TIMEOUT", CANARY),
            ("DATAPASS_MAX_RETRIES", CANARY),
            ("DATAPASS_RETRY_FOR", CANARY),
            ("DATAPASS_ENQUEUE", CANARY),
            ("DATAPASS_METRICS_FILE", "/"),
        ],
    );
    assert_eq!(config.since.unwrap().to_rfc3339(), "2026-05-16T22:00:00+00:00");
    assert!(config.dry_run);
    assert_eq!(format, Format::Json);
    assert_eq!((config.page_size, config.concurrency, config.max_retries), (7, 1, 100));
    assert_eq!(config.timeout, Duration::from_secs(1));
    assert_eq!(config.retry_for, Some(Duration::from_secs(10_800)));
    assert_eq!(config.job.enqueue, Enqueue::None);
    assert_eq!(reports.metrics_file, Some("m".into()));
}

#[test]
fn all_missing_settings_are_reported_in_order() {
    let (reason, message) = problem("", &[], &[]);
    assert_eq!(reason, Reason::Configuration);
    assert_eq!(
        message,
        "Missing or invalid settings: \
         DATAPASS_AUTH_URL is not set (expected: the complete token URL, such as \
         https://datapass.api.gouv.fr/api/oauth/token); \
         DATAPASS_API_BASE_URL is not set (expected: the URL that /demandes is appended to, such \
         as https://datapass.api.gouv.fr/api/v1); \
         DATAPASS_CLIENT_ID is not set (expected: the id of the OAuth client); \
         DATAPASS_CLIENT_SECRET is not set, neither is DATAPASS_CLIENT_SECRET_FILE \
         (expected: the secret of the OAuth client); \
         DATABASE_URL is not set, neither is DATABASE_URL_FILE (expected: the URL of \
         PostgreSQL, such as postgres://USER:PASSWORD@HOST/DATABASE); \
         No settings at all: copy .env.template, fill it in and name it with --env-file"
    );
    let (_, some) = problem("", &[], &[("DATAPASS_CLIENT_ID", "client")]);
    assert!(!some.contains(".env.template"), "{some}");
    let empty: Vec<_> = VARIABLES.iter().map(|variable| (variable.name, "")).collect();
    assert_eq!(problem("--since= --page-size= --metrics-file=", &empty, &[]), (reason, message));
}

#[test]
fn every_invalid_variable_is_named_without_its_value() {
    let is_judged = |name: &str| {
        !matches!(
            name,
            "RUST_LOG" | "CREDENTIALS_DIRECTORY" | "DATAPASS_PULL_CRON" | "SENTRY_MONITOR_SLUG"
            // Not used beside HTTPS_PROXY.
            | "HTTP_PROXY" | "ALL_PROXY" | "NO_PROXY"
        )
    };
    // A control character is bad everywhere, even where any word will do.
    let value = format!("{CANARY}\n://{CANARY}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let bad: Vec<_> = VARIABLES
        .iter()
        .filter(|variable| is_judged(variable.name) && !variable.name.ends_with("_FILE"))
        .map(|variable| (variable.name, value.as_str()))
        .chain([("DATAPASS_METRICS_FILE", path), ("DATAPASS_CA_FILE", path)])
        .collect();
    let (reason, message) = problem("--since hunter2", &bad, &[("SENTRY_DSN", CANARY)]);
    assert_eq!(reason, Reason::Configuration);
    let problems: Vec<_> = message.split_once(": ").unwrap().1.split("; ").collect();
    assert!(problems[0].starts_with("--since is not a valid time"), "{message}");
    let named: Vec<&str> =
        problems[1..].iter().map(|text| text.split(' ').next().unwrap()).collect();
    let expected: Vec<&str> = VARIABLES
        .iter()
        .map(|variable| variable.name)
        .filter(|name| bad.iter().any(|(bad, _)| bad == name))
        .collect();
    assert_eq!(named, expected);
}

#[test]
fn only_invalid_options_are_a_usage_error() {
    for (args, expected) in [
        ("--since 2026-05-19", "--since is in the future"),
        ("--since 2026-05-18T10:00:00", "--since has no offset"),
        ("--page-size 0", "--page-size must be a whole number from 1 to 1000"),
        ("--page-size 1001", "--page-size must be"),
        ("--concurrency 5", "--concurrency must be a whole number from 1 to 4"),
        ("--max-retries 101", "--max-retries must be a whole number from 0 to 100"),
        ("--max-retries -1", "--max-retries must be"),
        ("--retry-for 0m", "--retry-for must be a whole number with s, m, h or d, at least 1s"),
        ("--timeout 0s", "--timeout must be a whole number with s, m, h or d, at least 1s"),
        ("--format hunter2", "--format must be text or json"),
        ("--log-format hunter2", "--log-format must be text or json"),
        ("--enqueue hunter2", "--enqueue must be auto or good_job or none"),
        ("--metrics-file /", "--metrics-file must name a file"),
        ("--format x --enqueue x", "--format must be text or json; --enqueue must be"),
        ("schedule kubernetes --image=", "--image must be an image"),
        ("schedule kubernetes --image i --name=-x", "--name must be 1 to 52 lower-case letters"),
        ("schedule kubernetes --image i --job replay", "--since is missing: --job replay needs it"),
        (
            "schedule kubernetes --image i --job replay --since 2026-05-19",
            "--since is in the future",
        ),
        (
            "schedule kubernetes --image i --job migrate --since 7d",
            "--since is only for --job replay",
        ),
        ("schedule kubernetes --image i --since 7d", "--since is only for --job replay"),
        (
            "schedule crontab --retry-for 0s",
            "--retry-for must be a whole number with s, m, h or d, at least 1s",
        ),
        ("schedule kubernetes --image a\"b", "--image must be an image"),
    ] {
        let (reason, message) = problem(args, COMPLETE, &[]);
        assert_eq!(reason, Reason::Usage, "{args}");
        assert!(
            message.starts_with(&format!("Missing or invalid settings: {expected}")),
            "{message}"
        );
    }
    let (reason, _) = problem("--page-size 0", COMPLETE, &[("DATAPASS_CONCURRENCY", "0")]);
    assert_eq!(reason, Reason::Configuration);
    for bad in ["0 24 * * *", "hunter2", "@hunter2", "hunter2 * * * *", "1-hunter2/2 * * * *"] {
        let args = "schedule kubernetes --image=";
        let (reason, message) = problem(args, &[], &[("DATAPASS_PULL_CRON", bad)]);
        assert_eq!(reason, Reason::Configuration);
        for setting in ["--image must be", "; DATAPASS_PULL_CRON "] {
            assert!(message.contains(setting), "{message}");
        }
    }
}

#[test]
fn a_schedule_needs_no_other_settings() {
    let invalid = [("DATABASE_URL", CANARY), ("DATAPASS_PAGE_SIZE", CANARY)];
    for args in ["crontab", "systemd", "kubernetes --image i"] {
        schedule(args, &[]);
        schedule(args, &invalid);
    }
    for name in ["DATAPASS_TIMEOUT", "DATAPASS_PULL_CRON"] {
        let (_, message) = problem("schedule crontab", &[], &[(name, CANARY)]);
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn a_schedule_has_the_given_options() {
    let schedule = |args: &str| schedule(args, &[("DATAPASS_PULL_CRON", "5 * * * *")]).0;
    let systemd = schedule("systemd --timeout 2m");
    assert_eq!(systemd.scheduler, Scheduler::Systemd);
    assert_eq!(
        (systemd.cron.to_string(), systemd.timeout, systemd.retry_for),
        ("5 * * * *".to_owned(), Duration::from_secs(120), None)
    );
    let crontab = schedule("crontab --retry-for 90m");
    let expected = Scheduler::Crontab { retry_for: Some("90m".to_owned()) };
    assert_eq!(crontab.scheduler, expected);
    assert_eq!(crontab.retry_for, Some(Duration::from_secs(5_400)));
    for (args, name, job, since) in [
        ("", "datapass-pull", None, None),
        ("--name other", "other", None, None),
        ("--job migrate", "datapass-pull", Some(Job::Migrate), None),
        ("--job replay --since 7d", "datapass-pull", Some(Job::Replay), Some("7d".to_owned())),
    ] {
        let kubernetes = schedule(&format!("kubernetes --image i:1 {args}"));
        let (image, name) = ("i:1".to_owned(), name.to_owned());
        let expected = Scheduler::Kubernetes(KubernetesArgs { image, name, job, since });
        assert_eq!(kubernetes.scheduler, expected, "{args}");
    }
}

#[test]
fn http_needs_a_loopback_host_or_permission() {
    let urls = [
        ("DATAPASS_AUTH_URL", "http://h.example/t"),
        ("DATAPASS_API_BASE_URL", "http://h.example/v1"),
        ("SENTRY_DSN", "http://key@h.example/1"),
        ("DATAPASS_PING_URL", "http://h.example/ping"),
    ];
    let (_, message) = problem("", COMPLETE, &urls);
    assert_eq!(message.matches("must be https://").count(), 4, "{message}");
    assert!(!message.contains("h.example"), "{message}");
    for (allowed, is_good) in [("1", true), ("0", false), ("", false), ("yes", false)] {
        let more = [&urls[..], &[("DATAPASS_ALLOW_HTTP", allowed)]].concat();
        let asked = run("", variables(COMPLETE, &more)).0;
        assert_eq!(asked.is_ok(), is_good, "{allowed}");
    }
    let local =
        [("DATAPASS_AUTH_URL", "http://localhost/t"), ("DATAPASS_API_BASE_URL", "http://[::1]/")];
    pull("", &local);
}
