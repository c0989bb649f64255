//! Where settings come from: variables of any bytes, an env file, secret files and credentials.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_secret_comes_from_one_place() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str, mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let secret = write("secret", "from-file\n", 0o400);
    let open = write("open", "from-open-file\r\n", 0o444);
    let empty = write("empty", "\n", 0o400);
    let two_lines = write("two", "hunter2\nhunter2\n", 0o400);
    write("DATAPASS_CLIENT_SECRET", "from-credential", 0o400);
    let credentials = directory.path().to_str().unwrap();
    const NAME: &str = "DATAPASS_CLIENT_SECRET";
    const FILE: &str = "DATAPASS_CLIENT_SECRET_FILE";
    const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

    for (more, expected, warns) in [
        (&[(NAME, "direct"), (DIRECTORY, credentials)][..], "direct", false),
        (&[(NAME, ""), (FILE, secret.as_str()), (DIRECTORY, credentials)], "from-file", false),
        (&[(NAME, ""), (FILE, &open)], "from-open-file", true),
        (&[(NAME, ""), (FILE, ""), (DIRECTORY, credentials)], "from-credential", false),
    ] {
        let (asked, warnings) = run("", variables(COMPLETE, more));
        let Ok(Asked::Pull(asked)) = asked else { panic!("{expected}") };
        assert_eq!(asked.0.upstream.client_secret.expose_secret(), expected);
        assert_eq!(warnings.len(), usize::from(warns), "{warnings:?}");
        if warns {
            assert!(warnings[0].starts_with("DATAPASS_CLIENT_SECRET_FILE: "), "{warnings:?}");
            assert!(warnings[0].contains("mode 0444"), "{warnings:?}");
        }
    }
    for (more, expected) in [
        (
            &[(NAME, CANARY), (FILE, secret.as_str())][..],
            "DATAPASS_CLIENT_SECRET and DATAPASS_CLIENT_SECRET_FILE are both set: use one",
        ),
        (&[(NAME, ""), (FILE, &empty)], "DATAPASS_CLIENT_SECRET_FILE is empty"),
        (&[(NAME, ""), (FILE, &two_lines)], "DATAPASS_CLIENT_SECRET_FILE has a control character"),
        (
            &[(NAME, ""), (FILE, "/missing")],
            "DATAPASS_CLIENT_SECRET_FILE cannot be read (No such file or directory)",
        ),
        (
            &[(NAME, ""), (FILE, credentials)],
            "DATAPASS_CLIENT_SECRET_FILE cannot be read (Is a dir",
        ),
        (&[(NAME, "hunter2\u{1}")], "DATAPASS_CLIENT_SECRET has a control character"),
        (&[(NAME, " ")], "DATAPASS_CLIENT_SECRET is blank"),
        (&[(NAME, ""), (DIRECTORY, "/missing")], "DATAPASS_CLIENT_SECRET is not set"),
    ] {
        let (reason, message) = problem("", COMPLETE, more);
        assert_eq!(reason, Reason::Configuration);
        assert!(
            message.starts_with(&format!("Missing or invalid settings: {expected}")),
            "{message}"
        );
        assert!(!message.contains(';'), "{message}");
    }

    write("DATABASE_URL", "hunter2", 0o400);
    let more = [("DATABASE_URL", ""), (DIRECTORY, credentials)];
    let (_, message) = problem("", COMPLETE, &more);
    assert!(message.contains("The credential DATABASE_URL must be a postgres://"), "{message}");
    let url = write("url", "postgres://u:p@h/d", 0o400);
    let more = [("DATABASE_URL", ""), ("DATABASE_URL_FILE", url.as_str())];
    let (config, ..) = pull("", &more);
    assert_eq!(config.database.config.get_password(), Some(&b"p"[..]));

    write("SENTRY_DSN", "https://key@sentry.example/1\n", 0o400);
    let ping = write("ping", "https://ping.example/u", 0o400);
    let more = [
        (DIRECTORY, credentials),
        ("DATABASE_URL", "postgres://u:p@h/d"),
        ("DATAPASS_PING_URL_FILE", &ping),
    ];
    let (_, reports, _) = pull("", &more);
    assert!(reports.sentry.is_some() && reports.ping.is_some());
}

#[test]
fn values_that_are_not_utf_8_are_reported_except_in_paths() {
    let junk = || OsString::from_vec(vec![b'h', 0xff]);
    let names = VARIABLES.iter().map(|variable| (OsString::from(variable.name), junk()));
    let all = names.chain([(junk(), junk()), ("PATH".into(), junk())]);
    let Err(failure) = run("", all.collect()).0 else { panic!() };
    for variable in VARIABLES.iter().filter(|variable| variable.option.is_some()) {
        let is_path = variable.name == "DATAPASS_METRICS_FILE";
        let is_named = failure.message.contains(&format!("{} is not UTF-8", variable.name));
        assert_eq!(is_named, !is_path, "{}", variable.name);
    }
    let mut metrics = variables(COMPLETE, &[]);
    metrics.push(("DATAPASS_METRICS_FILE".into(), junk()));
    let (_, reports, _) = loaded("", metrics);
    assert_eq!(reports.metrics_file.unwrap().into_os_string(), junk());
}

#[test]
fn an_env_file_is_validated_with_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    let with = |args: &str, content: &str, mode: u32| {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let args = format!("{args} --env-file {}", path.display());
        run(&args, variables(COMPLETE, &[]))
    };
    let content = "hunter2 hunter2\nDATAPASS_CONCURRENCY=hunter2\n";
    let Err(failure) = with("--page-size 0", content, 0o600).0 else { panic!() };
    assert_eq!(failure.reason, Reason::Configuration);
    let expected = format!(
        "Missing or invalid settings: --env-file {path:?} line 1 cannot be read (expected \
         NAME=value; a value with a space needs quotes, and every quote must be closed); --page-size must be a whole number from 1 to 1000; \
         DATAPASS_CONCURRENCY (in {path:?}) must be a whole number from 1 to 4"
    );
    assert_eq!(failure.message, expected);

    let missing = directory.path().join("missing");
    let args = format!("--env-file {}", missing.display());
    let (config, warnings) = schedule(&format!("crontab {args}"), &[]);
    assert_eq!(config.env_file, Some(missing));
    assert_eq!(warnings.len(), 1, "{warnings:?}");

    let content = "DATAPASS_CLIENT_SECRET=x\nSSL_CERT_FILE=hunter2\n";
    let (asked, warnings) = with("", content, 0o640);
    assert!(asked.is_ok());
    assert_eq!(
        warnings,
        ["SSL_CERT_FILE has no effect in --env-file: set it in the environment itself"]
    );
    for name in ["DATAPASS_CLIENT_SECRET", "SENTRY_DSN", "DATAPASS_PING_URL"] {
        let (_, warnings) = with("", &format!("{name}=\n"), 0o644);
        assert!(warnings.is_empty(), "{warnings:?}");
        let (_, warnings) = with("", &format!("{name}=hunter2\n"), 0o644);
        assert!(
            warnings[0].contains("holds a secret") && warnings[0].contains("0644"),
            "{warnings:?}"
        );
        assert!(!warnings[0].contains(CANARY), "{warnings:?}");
    }
}

#[test]
fn the_environment_overrides_the_file_and_empty_is_unset() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    let content = "\u{feff}DATAPASS_JOB_CLASS=File\r\nexport DATAPASS_JOB_QUEUE='fi le' # comment\n\n\
                   # DATAPASS_JOB_PRIORITY=1\nDATAPASS_JOB_APP=first\nDATAPASS_JOB_APP=\"second\"\n\
                   DATAPASS_PAGE_SIZE=1\nDATAPASS_PAGE_SIZE=\nDATAPASS_CONCURRENCY=\n\
                   DATAPASS_DEFINITION_ID='p$w#d' ";
    std::fs::write(&path, content).unwrap();
    let more =
        [("DATAPASS_JOB_CLASS", "Process"), ("DATAPASS_JOB_QUEUE", ""), ("DATAPASS_TIMEOUT", "")];
    let (config, ..) = pull(&format!("--env-file {}", path.display()), &more);
    let job = config.job;
    assert_eq!((&*job.class, &*job.queue), ("Process", "fi le"));
    assert_eq!((&*job.app, job.priority), ("second", 0));
    assert_eq!((config.page_size, config.concurrency), (1_000, 2));
    assert_eq!(config.upstream.definition_id, "p$w#d");
    assert_eq!(config.timeout, Duration::from_secs(900));
}

#[test]
fn a_proxy_variable_is_read_in_both_cases_and_upper_case_wins() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    std::fs::write(&path, "HTTPS_PROXY=upper.file:1\nhttps_proxy=lower.file:1\n").unwrap();
    let args = format!("--env-file {}", path.display());
    for (more, expected) in [
        (&[][..], "upper.file"),
        (&[("https_proxy", "lower:1")], "lower"),
        (&[("https_proxy", "lower:1"), ("HTTPS_PROXY", "upper:1")], "upper"),
        (&[("https_proxy", "lower:1"), ("HTTPS_PROXY", "")], "lower"),
    ] {
        let (config, ..) = pull(&args, more);
        let proxy = config.upstream.http.proxies.https.unwrap();
        assert_eq!(proxy.host_str(), Some(expected), "{more:?}");
    }
    let (_, message) = problem("", COMPLETE, &[("https_proxy", "socks5://hunter2")]);
    assert!(message.contains("settings: https_proxy must be"), "{message}");
}

#[test]
fn an_invalid_line_is_reported_by_its_number_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    let cases: [(&[u8], &[&str]); 3] = [
        (b"A=1\n\nCANARY hunter2\nB=2\n", &["line 3"]),
        (b"A=1\n-hunter2=\nC='hunter2\n", &["line 2", "line 3"]),
        (b"A=\xff", &["is not UTF-8"]),
    ];
    for (content, expected) in cases {
        std::fs::write(&path, content).unwrap();
        let args = format!("--env-file {}", path.display());
        let (reason, message) = problem(&args, COMPLETE, &[]);
        assert_eq!(reason, Reason::Configuration);
        assert_eq!(message.matches("--env-file").count(), expected.len(), "{message}");
        assert!(expected.iter().all(|it| message.contains(it)), "{message}");
        // A schedule needs no settings, so that none is missing.
        let (_, of_schedule) = problem(&format!("schedule crontab {args}"), &[], &[]);
        assert_eq!(of_schedule, message);
    }
}

#[test]
fn an_env_file_that_cannot_be_read_is_the_only_problem() {
    let (_, message) = problem("--env-file /dev/zero", &[], &[]);
    assert!(message.contains("is larger than"), "{message}");
    for (path, expected) in [("/missing", "No such file or directory"), ("/", "Is a directory")] {
        let args = format!("--page-size 0 --env-file {path}");
        let (reason, message) = problem(&args, &[], &[("DATAPASS_CONCURRENCY", CANARY)]);
        assert_eq!(reason, Reason::Usage);
        let problem = format!("--env-file {path:?} cannot be read ({expected})");
        assert_eq!(message, format!("Missing or invalid settings: {problem}"));
    }
}

#[test]
fn a_quoted_variable_of_the_process_is_one_problem() {
    for quoted in ["'hunter2'", "\"hunter2\"", "''"] {
        for name in ["DATAPASS_AUTH_URL", "DATAPASS_JOB_QUEUE", "no_proxy", "RUST_LOG"] {
            let (reason, message) = problem("", COMPLETE, &[(name, quoted)]);
            assert_eq!(reason, Reason::Configuration);
            let problem = format!("{name} begins and ends with a quote: remove both");
            assert_eq!(message, format!("Missing or invalid settings: {problem}"));
        }
    }
    pull("", &[("OTHER", "'x'")]);
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("DATAPASS_CLIENT_SECRET");
    std::fs::write(&secret, "'x'").unwrap();
    let more =
        [("DATAPASS_CLIENT_SECRET", ""), ("DATAPASS_CLIENT_SECRET_FILE", secret.to_str().unwrap())];
    let (config, ..) = pull("", &more);
    assert_eq!(config.upstream.client_secret.expose_secret(), "'x'");
}

#[test]
fn unknown_variables_are_warned_about() {
    let more = [
        ("DATAPASS_PAGESIZE", CANARY),
        ("DATAPASS_CLIENT_SECRT", CANARY),
        ("DATAPASS_XYZ", CANARY),
        ("OTHER", CANARY),
    ];
    let expected = [
        "Unknown variable DATAPASS_CLIENT_SECRT: did you mean DATAPASS_CLIENT_SECRET?",
        "Unknown variable DATAPASS_PAGESIZE: did you mean DATAPASS_PAGE_SIZE?",
        "Unknown variable DATAPASS_XYZ: it has no effect",
    ];
    let (asked, warnings) = run("", variables(COMPLETE, &more));
    assert!(asked.is_ok());
    assert_eq!(warnings, expected);
    // A misspelled name explains the missing one.
    let (asked, warnings) = run("", variables(&more, &[]));
    assert!(asked.is_err());
    assert_eq!(warnings, expected);
    assert!(run("", variables(COMPLETE, &[])).1.is_empty());
}
