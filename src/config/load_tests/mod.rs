//! What `Config::load` takes, refuses and says.

mod sources;

use std::ffi::OsString;

use chrono::TimeZone;
use secrecy::ExposeSecret;

use super::*;
use crate::cli::variables::VARIABLES;
use crate::error::{Reason, Stage};

const COMPLETE: &[(&str, &str)] = &[
    (
        "DATAPASS_AUTH_URL",
        "https://datapass.example/api/oauth/token",
    ),
    ("DATAPASS_API_BASE_URL", "https://datapass.example/api/v1/"),
    ("DATAPASS_CLIENT_ID", "client"),
    ("DATAPASS_CLIENT_SECRET", "s3cret"),
    ("DATABASE_URL", "postgres://u:p@h/d"),
];

/// A bad value that must show nowhere.
const CANARY: &str = "hunter2";

fn environment(base: &[(&str, &str)], more: &[(&str, &str)]) -> Environment {
    let is_kept = |(name, _): &&(&str, &str)| !more.iter().any(|(other, _)| other == name);
    Environment::new(
        base.iter()
            .filter(is_kept)
            .chain(more)
            .map(|(name, value)| (name.into(), value.into())),
    )
}

fn run(args: &str, environment: &Environment) -> (Result<Config>, Vec<String>) {
    let args = std::iter::once("datapass-pull").chain(args.split_whitespace());
    let cli = cli::parse(args.map(OsString::from)).unwrap();
    let now = Utc.with_ymd_and_hms(2026, 5, 18, 10, 0, 0).unwrap();
    load_with_warnings(cli, environment, now)
}

fn load(args: &str, environment: &Environment) -> Result<Config> {
    run(args, environment).0
}

fn pull(args: &str, more: &[(&str, &str)]) -> PullConfig {
    match load(args, &environment(COMPLETE, more)).unwrap().command {
        Command::Pull(pull) => *pull,
        command => panic!("{command:?}"),
    }
}

fn problem(args: &str, base: &[(&str, &str)], more: &[(&str, &str)]) -> (Reason, String) {
    let failure = load(args, &environment(base, more)).unwrap_err();
    assert_eq!(failure.stage, Stage::Prepare);
    let story = failure.story();
    assert!(!story.contains(CANARY), "{story}");
    assert!(!story.contains('\n'), "{story}");
    (failure.reason, story)
}

#[test]
fn a_bare_cycle_has_every_default() {
    let config = pull("", &[]);
    assert_eq!(
        config.upstream.auth_url.as_str(),
        "https://datapass.example/api/oauth/token"
    );
    assert_eq!(
        config.upstream.api_base_url.as_str(),
        "https://datapass.example/api/v1"
    );
    assert_eq!(config.upstream.client_id, "client");
    assert_eq!(config.upstream.client_secret.expose_secret(), "s3cret");
    assert_eq!(
        config.upstream.definition_id,
        "proactivite_pour_les_etudiants_boursiers_dyn"
    );
    assert_eq!(config.upstream.http.ca_file, None);
    let url = &config.database.url;
    assert_eq!(url.config.get_password(), Some(&b"p"[..]));
    assert_eq!(url.servers[0].to_string(), "h:5432");
    assert_eq!(config.job.enqueue, Enqueue::Auto);
    assert_eq!(config.job.class, "ProcessProactiviteRequestJob");
    assert_eq!(
        (config.job.queue.as_str(), config.job.app.as_str()),
        ("default", "relais")
    );
    assert_eq!(config.job.argument, JobArgument::Record);
    assert!(
        config.reports.sentry.is_none()
            && config.since.is_none()
            && config.reports.metrics_file.is_none()
    );
    assert!(!config.dry_run && !config.quiet);
    assert_eq!(config.format, Format::Text);
    assert_eq!(
        (config.page_size, config.concurrency, config.max_retries),
        (1_000, 2, 5)
    );
    assert_eq!(config.lookback, Duration::from_secs(3_600));
    assert_eq!(config.timeout, Duration::from_secs(900));
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("s3cret") && !shown.contains("u:p"),
        "{shown}"
    );
}

#[test]
fn the_option_wins_over_the_variable_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    std::fs::write(
        &path,
        "DATAPASS_PAGE_SIZE=3\nDATAPASS_TIMEOUT=3m\nDATAPASS_LOOKBACK=3h\n",
    )
    .unwrap();
    let variables = [
        ("DATAPASS_PAGE_SIZE", "2"),
        ("DATAPASS_TIMEOUT", "2m"),
        ("DATAPASS_LOOKBACK", ""),
    ];
    let environment = environment(COMPLETE, &variables).with_file(Some(path.as_os_str()));
    let config = load("--page-size 1 --timeout=", &environment).unwrap();
    let Command::Pull(config) = config.command else {
        panic!()
    };
    assert_eq!(config.page_size, 1);
    assert_eq!(config.timeout, Duration::from_secs(120));
    assert_eq!(config.lookback, Duration::from_secs(10_800));
}

#[test]
fn every_variable_is_read_and_yields_to_its_option() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, crate::net::tls::tests::root_pem()).unwrap();
    let config = pull(
        "",
        &[
            ("DATAPASS_FORMAT", "json"),
            ("DATAPASS_CONCURRENCY", "4"),
            ("DATAPASS_MAX_RETRIES", "0"),
            ("DATAPASS_ENQUEUE", "good_job"),
            ("DATAPASS_METRICS_FILE", "/m/datapass.prom"),
            ("DATAPASS_CA_FILE", ca_file.to_str().unwrap()),
            ("DATAPASS_DEFINITION_ID", "other"),
            ("DATAPASS_JOB_CLASS", "A::B"),
            ("DATAPASS_JOB_QUEUE", "low"),
            ("DATAPASS_JOB_APP", "app"),
            ("DATAPASS_JOB_ARGUMENT", "id"),
            ("SENTRY_DSN", "https://key@sentry.example/1"),
            ("SENTRY_ENVIRONMENT", "production"),
        ],
    );
    assert_eq!(config.format, Format::Json);
    assert_eq!((config.concurrency, config.max_retries), (4, 0));
    assert_eq!(config.reports.metrics_file, Some("/m/datapass.prom".into()));
    assert_eq!(config.upstream.http.ca_file, Some(ca_file));
    assert_eq!(config.upstream.definition_id, "other");
    let job = &config.job;
    assert_eq!(
        (job.enqueue, job.argument),
        (Enqueue::GoodJob, JobArgument::Id)
    );
    assert_eq!(
        (job.class.as_str(), job.queue.as_str(), job.app.as_str()),
        ("A::B", "low", "app")
    );
    let sentry = config.reports.sentry.unwrap();
    assert_eq!(sentry.dsn.expose_secret(), "https://key@sentry.example/1");
    assert_eq!(&*sentry.environment, "production");

    let config = pull(
        "--since 36h --dry-run -q --format json --page-size 7 --concurrency 1 --lookback 1m \
         --timeout 1s --max-retries 100 --enqueue none --metrics-file m",
        &[
            ("DATAPASS_FORMAT", CANARY),
            ("DATAPASS_PAGE_SIZE", CANARY),
            ("DATAPASS_CONCURRENCY", CANARY),
            ("DATAPASS_LOOKBACK", CANARY),
            ("DATAPASS_TIMEOUT", CANARY),
            ("DATAPASS_MAX_RETRIES", CANARY),
            ("DATAPASS_ENQUEUE", CANARY),
            ("DATAPASS_METRICS_FILE", "/"),
        ],
    );
    assert_eq!(
        config.since.unwrap().to_rfc3339(),
        "2026-05-16T22:00:00+00:00"
    );
    assert!(config.dry_run && config.quiet);
    assert_eq!(config.format, Format::Json);
    assert_eq!(
        (config.page_size, config.concurrency, config.max_retries),
        (7, 1, 100)
    );
    assert_eq!(config.lookback, Duration::from_secs(60));
    assert_eq!(config.timeout, Duration::from_secs(1));
    assert_eq!(config.job.enqueue, Enqueue::None);
    assert!(
        config.reports.metrics_file.is_none(),
        "a dry run writes nothing"
    );
    let config = pull("--metrics-file m", &[("DATAPASS_METRICS_FILE", "/")]);
    assert_eq!(config.reports.metrics_file, Some("m".into()));
}

#[test]
fn nothing_set_names_all_that_is_required_in_order() {
    let (reason, story) = problem("", &[], &[]);
    assert_eq!(reason, Reason::Configuration);
    assert_eq!(
        story,
        "Missing or bad settings: \
         DATAPASS_AUTH_URL is not set (expected: the whole token URL, such as \
         https://datapass.api.gouv.fr/api/oauth/token); \
         DATAPASS_API_BASE_URL is not set (expected: the base that /demandes is appended to, such \
         as https://datapass.api.gouv.fr/api/v1); \
         DATAPASS_CLIENT_ID is not set (expected: the id of the OAuth client); \
         DATAPASS_CLIENT_SECRET is not set, neither is DATAPASS_CLIENT_SECRET_FILE \
         (expected: the secret of the OAuth client); \
         DATABASE_URL is not set, neither is DATABASE_URL_FILE (expected: PostgreSQL's address, \
         such as postgres://USER:PASSWORD@HOST/DATABASE)"
    );
    let empty: Vec<_> = VARIABLES
        .iter()
        .map(|variable| (variable.name, ""))
        .collect();
    assert_eq!(
        problem("--since= --page-size= --metrics-file=", &empty, &[]),
        (reason, story)
    );
}

#[test]
fn every_bad_variable_is_named_and_none_is_shown() {
    let is_judged = |name: &str| {
        !matches!(
            name,
            "RUST_LOG" | "CREDENTIALS_DIRECTORY" | "DATAPASS_PULL_CRON"
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
    let (reason, story) = problem("--since hunter2", &bad, &[("SENTRY_DSN", CANARY)]);
    assert_eq!(reason, Reason::Configuration);
    let problems: Vec<_> = story.split_once(": ").unwrap().1.split("; ").collect();
    assert!(problems[0].starts_with("--since is no time"), "{story}");
    let named: Vec<&str> = problems[1..]
        .iter()
        .map(|text| text.split(' ').next().unwrap())
        .collect();
    let expected: Vec<&str> = VARIABLES
        .iter()
        .map(|variable| variable.name)
        .filter(|name| bad.iter().any(|(bad, _)| bad == name))
        .collect();
    assert_eq!(named, expected);
}

#[test]
fn only_bad_options_are_a_usage_error() {
    for (args, expected) in [
        ("--since 2026-05-19", "--since is in the future"),
        ("--since 2026-05-18T10:00:00", "--since has no offset"),
        (
            "--page-size 0",
            "--page-size must be a whole number from 1 to 1000",
        ),
        ("--page-size 1001", "--page-size must be"),
        (
            "--concurrency 5",
            "--concurrency must be a whole number from 1 to 4",
        ),
        (
            "--max-retries 101",
            "--max-retries must be a whole number from 0 to 100",
        ),
        ("--max-retries -1", "--max-retries must be"),
        (
            "--lookback 59s",
            "--lookback must be a whole number with s, m, h or d, at least 1m",
        ),
        (
            "--timeout 0s",
            "--timeout must be a whole number with s, m, h or d, at least 1s",
        ),
        ("--format hunter2", "--format must be text or json"),
        ("--log-format hunter2", "--log-format must be text or json"),
        (
            "--enqueue hunter2",
            "--enqueue must be auto or good_job or none",
        ),
        ("--metrics-file /", "--metrics-file must name a file"),
        ("check --page-size x", "--page-size must be"),
        (
            "status --format x --enqueue x",
            "--format must be text or json; --enqueue must be",
        ),
        ("rejected accept 5 --reason=", "--reason is blank"),
        ("watermark set 2026-05-19", "TIME is in the future"),
        ("watermark set hunter2", "TIME is no time"),
        ("schedule kubernetes --image=", "--image must be an image"),
        (
            "schedule kubernetes --image i --name=-x",
            "--name must be 1 to 52 lower-case letters",
        ),
        (
            "schedule kubernetes --image i --job replay",
            "--since is missing: --job replay needs it",
        ),
        (
            "schedule kubernetes --image i --job replay --since 2026-05-19",
            "--since is in the future",
        ),
        (
            "schedule kubernetes --image i --job migrate --since 7d",
            "--since is only for --job replay",
        ),
        (
            "schedule kubernetes --image i --since 7d",
            "--since is only for --job replay",
        ),
        (
            "schedule crontab --retry-for 0s",
            "--retry-for must be a whole number with s, m, h or d, at least 1s",
        ),
        (
            "schedule kubernetes --image a\"b",
            "--image must be an image",
        ),
    ] {
        let (reason, story) = problem(args, COMPLETE, &[]);
        assert_eq!(reason, Reason::Usage, "{args}");
        assert!(
            story.starts_with(&format!("Missing or bad settings: {expected}")),
            "{story}"
        );
    }
    let (reason, _) = problem("--page-size 0", COMPLETE, &[("DATAPASS_CONCURRENCY", "0")]);
    assert_eq!(reason, Reason::Configuration);
    for bad in [
        "0 24 * * *",
        "hunter2",
        "@hunter2",
        "hunter2 * * * *",
        "1-hunter2/2 * * * *",
    ] {
        let args = "schedule kubernetes --image=";
        let (reason, story) = problem(args, &[], &[("DATAPASS_PULL_CRON", bad)]);
        assert_eq!(reason, Reason::Configuration);
        for setting in ["--image must be", "; DATAPASS_PULL_CRON "] {
            assert!(story.contains(setting), "{story}");
        }
    }
}

#[test]
fn each_command_needs_its_own_settings_only() {
    let database = [("DATABASE_URL", "postgres://u@h")];
    for args in [
        "status",
        "migrate",
        "migrate --yes",
        "rejected list",
        "rejected accept D5 --reason seen",
        "watermark set 1d",
        "watermark reset --yes",
    ] {
        assert!(load(args, &environment(&database, &[])).is_ok(), "{args}");
        let (reason, story) = problem(args, &[], &[("DATAPASS_AUTH_URL", CANARY)]);
        assert_eq!(reason, Reason::Configuration);
        assert!(
            story.starts_with("Missing or bad settings: DATABASE_URL is not set"),
            "{story}"
        );
        assert!(!story.contains(';'), "{story}");
    }
    let bad = [("DATABASE_URL", CANARY), ("DATAPASS_PAGE_SIZE", CANARY)];
    for args in [
        "migrate --print",
        "completions bash",
        "schedule crontab",
        "schedule systemd",
        "schedule kubernetes --image i",
    ] {
        assert!(load(args, &environment(&[], &[])).is_ok(), "{args}");
        assert!(load(args, &environment(&bad, &[])).is_ok(), "{args}");
    }
    for (args, setting) in [
        ("status", "DATAPASS_JOB_CLASS"),
        ("status", "DATAPASS_FORMAT"),
        ("rejected list", "DATAPASS_FORMAT"),
        ("watermark set 1d", "DATAPASS_DEFINITION_ID"),
        ("schedule crontab", "DATAPASS_TIMEOUT"),
        ("schedule crontab", "DATAPASS_PULL_CRON"),
        ("completions bash", "DATAPASS_LOG_FORMAT"),
    ] {
        let (_, story) = problem(args, &database, &[(setting, "hunter2\n")]);
        assert!(story.contains(setting), "{story}");
    }
    assert_eq!(problem("check", &[], &[]), problem("pull", &[], &[]));
}

#[test]
fn commands_carry_what_was_asked() {
    let environment = environment(COMPLETE, &[("DATAPASS_PULL_CRON", "5 * * * *")]);
    let command = |args: &str| load(args, &environment).unwrap().command;
    assert!(matches!(command("check"), Command::Check(_)));
    assert!(matches!(
        command("status --format json"),
        Command::Status {
            format: Format::Json,
            ..
        }
    ));
    assert!(matches!(
        command("migrate"),
        Command::Migrate { yes: false, .. }
    ));
    assert!(matches!(
        command("migrate --print --yes"),
        Command::MigratePrint
    ));
    let Command::RejectedAccept { id, reason, .. } = command("rejected accept D5 --reason seen")
    else {
        panic!()
    };
    assert_eq!((id.as_str(), reason.as_str()), ("D5", "seen"));
    let Command::WatermarkSet {
        time,
        yes,
        definition_id,
        ..
    } = command("watermark set 2026-05-18 --yes")
    else {
        panic!()
    };
    assert_eq!(time.to_rfc3339(), "2026-05-18T00:00:00+00:00");
    assert!(yes && definition_id.starts_with("proactivite"));
    assert!(matches!(
        command("watermark reset"),
        Command::WatermarkReset { yes: false, .. }
    ));
    let schedule = |args: &str| match command(args) {
        Command::Schedule(schedule) => *schedule,
        _ => panic!("{args}"),
    };
    let systemd = schedule("schedule systemd --timeout 2m");
    assert_eq!(systemd.scheduler, Scheduler::Systemd);
    assert_eq!(
        (systemd.cron.to_string(), systemd.timeout, systemd.retry_for),
        ("5 * * * *".to_owned(), Duration::from_secs(120), None)
    );
    let crontab = schedule("schedule crontab --retry-for 90m");
    assert_eq!(crontab.scheduler, Scheduler::Crontab);
    assert_eq!(crontab.retry_for, Some(Duration::from_secs(5_400)));
    let replay = ScheduleJob::Replay {
        since: "7d".to_owned(),
    };
    for (args, name, job) in [
        ("", "datapass-pull", None),
        ("--name other", "other", None),
        ("--job migrate", "datapass-pull", Some(ScheduleJob::Migrate)),
        ("--job replay --since 7d", "datapass-pull", Some(replay)),
    ] {
        let kubernetes = schedule(&format!("schedule kubernetes --image i:1 {args}"));
        let expected = Scheduler::Kubernetes {
            image: "i:1".to_owned(),
            name: name.to_owned(),
            job,
        };
        assert_eq!(kubernetes.scheduler, expected, "{args}");
    }
    assert!(matches!(
        command("completions fish"),
        Command::Completions(clap_complete::Shell::Fish)
    ));
    let log = load("-vv --log-format json status", &environment)
        .unwrap()
        .log;
    assert_eq!((log.verbosity, log.format), (2, Format::Json));
}

#[test]
fn http_needs_a_loopback_host_or_leave() {
    let urls = [
        ("DATAPASS_AUTH_URL", "http://h.example/t"),
        ("DATAPASS_API_BASE_URL", "http://h.example/v1"),
        ("SENTRY_DSN", "http://key@h.example/1"),
    ];
    let (_, story) = problem("", COMPLETE, &urls);
    assert_eq!(story.matches("must be https://").count(), 3, "{story}");
    assert!(!story.contains("h.example"), "{story}");
    for (allowed, is_good) in [("1", true), ("0", false), ("", false), ("yes", false)] {
        let more = [&urls[..], &[("DATAPASS_ALLOW_HTTP", allowed)]].concat();
        assert_eq!(
            load("", &environment(COMPLETE, &more)).is_ok(),
            is_good,
            "{allowed}"
        );
    }
    let local = [
        ("DATAPASS_AUTH_URL", "http://localhost/t"),
        ("DATAPASS_API_BASE_URL", "http://[::1]/"),
    ];
    pull("", &local);
}
