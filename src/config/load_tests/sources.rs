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
        (
            &[(NAME, "direct"), (DIRECTORY, credentials)][..],
            "direct",
            false,
        ),
        (
            &[
                (NAME, ""),
                (FILE, secret.as_str()),
                (DIRECTORY, credentials),
            ],
            "from-file",
            false,
        ),
        (&[(NAME, ""), (FILE, &open)], "from-open-file", true),
        (
            &[(NAME, ""), (FILE, ""), (DIRECTORY, credentials)],
            "from-credential",
            false,
        ),
    ] {
        let (config, warnings) = run("", &environment(COMPLETE, more));
        let Command::Pull(config) = config.unwrap().command else {
            panic!()
        };
        assert_eq!(config.upstream.client_secret.expose_secret(), expected);
        assert_eq!(warnings.len(), usize::from(warns), "{warnings:?}");
        if warns {
            assert!(
                warnings[0].starts_with("DATAPASS_CLIENT_SECRET_FILE: "),
                "{warnings:?}"
            );
            assert!(warnings[0].contains("mode 0444"), "{warnings:?}");
        }
    }
    for (more, expected) in [
        (
            &[(NAME, CANARY), (FILE, secret.as_str())][..],
            "DATAPASS_CLIENT_SECRET and DATAPASS_CLIENT_SECRET_FILE are both set, use one",
        ),
        (
            &[(NAME, ""), (FILE, &empty)],
            "DATAPASS_CLIENT_SECRET_FILE is empty",
        ),
        (
            &[(NAME, ""), (FILE, &two_lines)],
            "DATAPASS_CLIENT_SECRET_FILE has a control character",
        ),
        (
            &[(NAME, ""), (FILE, "/missing")],
            "DATAPASS_CLIENT_SECRET_FILE names a file that does not",
        ),
        (
            &[(NAME, ""), (FILE, credentials)],
            "DATAPASS_CLIENT_SECRET_FILE cannot be read (is a dir",
        ),
        (
            &[(NAME, "hunter2\u{1}")],
            "DATAPASS_CLIENT_SECRET has a control character",
        ),
        (&[(NAME, " ")], "DATAPASS_CLIENT_SECRET is blank"),
        (
            &[(NAME, ""), (DIRECTORY, "/missing")],
            "DATAPASS_CLIENT_SECRET is not set",
        ),
    ] {
        let (reason, story) = problem("", COMPLETE, more);
        assert_eq!(reason, Reason::Configuration);
        assert!(
            story.starts_with(&format!("Missing or bad settings: {expected}")),
            "{story}"
        );
        assert!(!story.contains(';'), "{story}");
    }

    write("DATABASE_URL", "hunter2", 0o400);
    let more = [("DATABASE_URL", ""), (DIRECTORY, credentials)];
    let (_, story) = problem("status", COMPLETE, &more);
    assert!(
        story.contains("The credential DATABASE_URL must be a postgres://"),
        "{story}"
    );
    let url = write("url", "postgres://u:p@h/d", 0o400);
    let more = [("DATABASE_URL", ""), ("DATABASE_URL_FILE", url.as_str())];
    let url = pull("", &more).database.url;
    assert_eq!(url.config.get_password(), Some(&b"p"[..]));
}

#[test]
fn bytes_that_are_no_text_are_named_and_harm_nothing() {
    let junk = || OsString::from_vec(vec![b'h', 0xff]);
    let names = VARIABLES
        .iter()
        .map(|variable| (OsString::from(variable.name), junk()));
    let all = names.chain([(junk(), junk()), ("PATH".into(), junk())]);
    let failure = load("", &Environment::new(all)).unwrap_err();
    for variable in VARIABLES
        .iter()
        .filter(|variable| variable.option.is_some())
    {
        let is_path = variable.name == "DATAPASS_METRICS_FILE";
        let is_named = failure
            .message
            .contains(&format!("{} is not UTF-8", variable.name));
        assert_eq!(is_named, !is_path, "{}", variable.name);
    }
    let metrics = Environment::new(
        COMPLETE
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .chain([("DATAPASS_METRICS_FILE".into(), junk())]),
    );
    let Command::Pull(config) = load("", &metrics).unwrap().command else {
        panic!()
    };
    assert_eq!(
        config.reports.metrics_file.unwrap().into_os_string(),
        junk()
    );
}

#[test]
fn an_env_file_is_judged_with_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    let with = |content: &str, mode: u32| {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        environment(COMPLETE, &[]).with_file(Some(path.as_os_str()))
    };
    let failure = load(
        "--page-size 0",
        &with("hunter2 hunter2\nDATAPASS_CONCURRENCY=hunter2\n", 0o600),
    );
    let failure = failure.unwrap_err();
    assert_eq!(failure.reason, Reason::Configuration);
    let expected = format!(
        "Missing or bad settings: --env-file {path:?} line 1 cannot be read (expected NAME=value, \
         with every quote closed); --page-size must be a whole number from 1 to 1000; \
         DATAPASS_CONCURRENCY (in {path:?}) must be a whole number from 1 to 4"
    );
    assert_eq!(failure.message, expected);

    let missing = directory.path().join("missing");
    let environment = environment(COMPLETE, &[]).with_file(Some(missing.as_os_str()));
    let failure = load("", &environment).unwrap_err();
    assert_eq!(failure.reason, Reason::Usage);
    assert!(
        failure
            .message
            .contains("cannot be read (entity not found)"),
        "{failure}"
    );
    let args = format!("schedule crontab --env-file {}", missing.display());
    let (config, warnings) = run(&args, &environment);
    let Command::Schedule(schedule) = config.unwrap().command else {
        panic!()
    };
    assert_eq!(schedule.env_file, Some(missing));
    assert_eq!(warnings.len(), 1, "{warnings:?}");

    let (config, warnings) = run(
        "",
        &with("DATAPASS_CLIENT_SECRET=x\nSSL_CERT_FILE=hunter2\n", 0o640),
    );
    assert!(config.is_ok());
    assert_eq!(
        warnings,
        ["SSL_CERT_FILE has no effect in --env-file: set it in the environment itself"]
    );
    let (_, warnings) = run("", &with("DATAPASS_CLIENT_SECRET=hunter2\n", 0o644));
    assert!(
        warnings[0].contains("holds a secret") && warnings[0].contains("0644"),
        "{warnings:?}"
    );
    assert!(!warnings[0].contains(CANARY), "{warnings:?}");
}

#[test]
fn unknown_variables_are_named_and_forgiven() {
    let more = [
        ("DATAPASS_PAGESIZE", CANARY),
        ("DATAPASS_CLIENT_SECRT", CANARY),
        ("OTHER", CANARY),
    ];
    let (config, warnings) = run("", &environment(COMPLETE, &more));
    assert!(config.is_ok());
    assert_eq!(
        warnings,
        ["Unknown variables, perhaps misspelled: DATAPASS_CLIENT_SECRT, DATAPASS_PAGESIZE"]
    );
    let (config, warnings) = run("", &environment(&more, &[]));
    assert!(config.is_err());
    assert_eq!(
        warnings.len(),
        1,
        "a misspelled name explains the missing one"
    );
    assert!(run("", &environment(COMPLETE, &[])).1.is_empty());
}
