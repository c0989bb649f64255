//! Settings from flags, environment and env file: validation, precedence, `--quiet`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::harness::*;

#[test]
fn plain_http_is_refused_before_anything_is_contacted() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run =
        Run::cycle(&upstream, &database).env("DATAPASS_AUTH_URL", "http://datapass.invalid/t");
    let outcome = run.any_stderr().output();
    outcome.permanent("configuration");
    assert!(outcome.stderr.contains("DATAPASS_AUTH_URL"));
    assert!(upstream.requests().is_empty());
    assert_eq!(database.count("datapass_pull_runs"), 0);
}

#[test]
fn quiet_prints_only_warnings_on_success_and_the_summary_on_failure() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run = || Run::cycle(&upstream, &database).args(["-q", "--enqueue", "none"]);
    upstream.add(Demande::cnous(1));
    let quiet = run().output();
    assert_eq!((quiet.code(), quiet.stdout.as_str()), (0, ""));
    assert_eq!(quiet.stderr, "");
    upstream.add(Demande::cnous(2).siret("no siret"));
    let warned = run().stderr("Rejected D2").output();
    assert_eq!(warned.assert_success().stdout, "");
    upstream.fault(On::tokens(..), Fault::Status(403, &[]));
    assert!(run().any_stderr().output().stdout.starts_with("outcome=permanent reason="));
}

#[test]
fn each_command_validates_only_its_own_settings() {
    for args in [
        &["status"][..],
        &["migrate"],
        &["migrate", "--yes"],
        &["rejected", "list"],
        &["rejected", "accept", "D5", "--reason", "seen"],
        &["watermark", "set", "1d"],
        &["watermark", "reset", "--yes"],
    ] {
        let run = Run::new(args.iter().copied()).env("DATAPASS_AUTH_URL", "hunter2");
        let outcome = run.any_stderr().output();
        let stderr = &outcome.assert_code(1).stderr;
        let expected = "Missing or invalid settings: DATABASE_URL is not set";
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(!stderr.contains(';'), "{args:?}: {stderr}");
        assert!(stderr.contains("reason=configuration"), "{stderr}");
    }
    for (args, name) in [
        (&["status"][..], "DATAPASS_JOB_CLASS"),
        (&["status"], "DATAPASS_FORMAT"),
        (&["rejected", "list"], "DATAPASS_FORMAT"),
        (&["migrate"], "DATAPASS_LOG_FORMAT"),
        (&["watermark", "set", "1d"], "DATAPASS_DEFINITION_ID"),
    ] {
        let run = Run::new(args.iter().copied()).env(name, "hunter2\n");
        let stderr = run.any_stderr().output().assert_code(1).stderr.clone();
        assert!(stderr.contains(&format!("{name} ")), "{stderr}");
    }
    for args in [&["migrate", "--print"][..], &["completions", "bash"]] {
        let run = Run::new(args.iter().copied());
        let run = run.env("DATABASE_URL", "hunter2").env("DATAPASS_FORMAT", "json");
        run.output().assert_success();
    }
}

#[test]
fn an_invalid_argument_is_a_usage_error() {
    let database = Database::migrated();
    for (args, expected) in [
        (&["rejected", "accept", "5", "--reason="][..], "--reason is blank"),
        (&["rejected", "accept", " ", "--reason=x"], "ID is blank"),
        (&["watermark", "set", "2999-01-01"], "TIME is in the future"),
        (&["watermark", "set", "hunter2"], "TIME is not a valid time"),
        (&["pull", "--page-size", "x"], "--page-size must be"),
    ] {
        let run = Run::new(args.iter().copied()).database(&database);
        let stderr = run.any_stderr().output().assert_code(1).stderr.clone();
        assert!(stderr.contains(expected), "{stderr}");
        let reason = match args[0] {
            "pull" => "reason=configuration",
            _ => "reason=usage",
        };
        assert!(stderr.contains(reason), "{stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn a_flag_overrides_the_environment_which_overrides_the_env_file() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    std::fs::write(&file, "DATAPASS_PAGE_SIZE=7\nDATAPASS_FORMAT=json\n").unwrap();
    let limit = |run: Run| {
        upstream.take_requests();
        let outcome = run.arg("--env-file").arg(&file).output();
        outcome.success();
        assert!(outcome.stdout.starts_with('{'), "{}", outcome.stdout);
        upstream.requests().iter().find_map(|request| request.number("limit"))
    };
    let run = || Run::cycle(&upstream, &database);
    assert_eq!(limit(run()), Some(7));
    assert_eq!(limit(run().env("DATAPASS_PAGE_SIZE", "")), Some(7));
    let set = || run().env("DATAPASS_PAGE_SIZE", "8");
    assert_eq!(limit(set()), Some(8));
    assert_eq!(limit(set().args(["--page-size", "9"])), Some(9));
}

/// Runs `schedule crontab` with an env file of this content; the entry shows the values read.
fn scheduled(content: &str, environment: &[(&str, &str)]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    std::fs::write(&file, content).unwrap();
    let mut run = Run::new(["schedule", "crontab", "--env-file"]).arg(&file);
    for (name, value) in environment {
        run = run.env(name, value);
    }
    run.any_stderr().output()
}

#[test]
fn an_env_file_is_parsed_as_systemd_does() {
    const DEFAULT: &str = "0 1 * * *";
    let cron = |value: &str| format!("DATAPASS_PULL_CRON={value}\n");
    let file = cron("'5 4 * * *'");
    for (content, environment, expected) in [
        (file.clone(), &[][..], "5 4 * * *"),
        (cron("\"5 4 * * *\""), &[], "5 4 * * *"),
        (cron(r"5\ 4\ *\ *\ *"), &[], "5 4 * * *"),
        (cron("'5 4 * * *' # why"), &[], "5 4 * * *"),
        (format!("export {file}"), &[], "5 4 * * *"),
        (format!("  {file}"), &[], "5 4 * * *"),
        (format!("\u{feff}{file}"), &[], "5 4 * * *"),
        (format!("# settings\n\n{file}"), &[], "5 4 * * *"),
        (file.trim_end().to_owned(), &[], "5 4 * * *"),
        (file.replace('\n', "\r\n"), &[], "5 4 * * *"),
        (format!("# {file}"), &[], DEFAULT),
        (cron(""), &[], DEFAULT),
        (cron("''"), &[], DEFAULT),
        // The last of two lines wins, an empty one too.
        (cron("'1 1 * * *'") + &file, &[], "5 4 * * *"),
        (file.clone() + &cron(""), &[], DEFAULT),
        // The environment wins unless the variable is empty.
        (file.clone(), &[("DATAPASS_PULL_CRON", "6 4 * * *")], "6 4 * * *"),
        (file.clone(), &[("DATAPASS_PULL_CRON", "")], "5 4 * * *"),
        (cron(""), &[("DATAPASS_PULL_CRON", "6 4 * * *")], "6 4 * * *"),
    ] {
        let outcome = scheduled(&content, environment);
        outcome.assert_success();
        let line = format!("CRON_TZ=UTC\n{expected} /");
        assert!(outcome.stdout.contains(&line), "{content:?}: {}", outcome.stdout);
        assert_eq!(outcome.stderr, "", "{content:?}");
    }
}

#[test]
fn an_invalid_line_of_an_env_file_is_reported_by_its_number_only() {
    for (content, expected) in [
        ("A=1\nDATAPASS_PULL_CRON=5 4 * * *\n", "line 2"),
        ("hunter2\n", "line 1"),
        ("A=1\n\nDATABASE_URL='hunter2\n", "line 3"),
        ("A=\"hunter2", "line 1"),
    ] {
        let outcome = scheduled(content, &[]);
        outcome.assert_code(1);
        assert!(outcome.stderr.contains(expected), "{content:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn a_dollar_in_an_env_file_is_literal() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let secret = "p$HOME${x}\\$w";
    upstream.with(|upstream| upstream.client_secret = secret.replace("\\$", "$"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    std::fs::write(&file, format!("DATAPASS_CLIENT_SECRET={secret}\n")).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let run = Run::cycle(&upstream, &database).env_remove("DATAPASS_CLIENT_SECRET");
    run.env("HOME", "/root").arg("--env-file").arg(&file).output().success();
}

#[test]
fn a_misspelled_or_quoted_variable_is_reported() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run = || Run::cycle(&upstream, &database);
    run()
        .env("DATAPASS_JOB_QEUE", "hunter2")
        .stderr("Unknown variable DATAPASS_JOB_QEUE: did you mean DATAPASS_JOB_QUEUE?")
        .output()
        .success();
    let outcome = run().env("DATAPASS_JOB_QUEUE", "'hunter2'").output();
    outcome.permanent("configuration");
    let expected = "DATAPASS_JOB_QUEUE begins and ends with a quote";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
    let outcome = Run::new(["--env-file", "/missing"]).output();
    outcome.permanent("usage");
    let expected =
        "settings: --env-file \"/missing\" cannot be read (No such file or directory) stage";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
}

#[test]
fn a_secret_that_every_user_may_read_is_a_warning() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let folder = tempfile::tempdir().unwrap();
    let (_, secret) = upstream.credentials();
    let file = |name: &str, content: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    let run = || Run::cycle(&upstream, &database).env_remove("DATAPASS_CLIENT_SECRET");
    for (mode, is_open) in [(0o600, false), (0o440, false), (0o604, true), (0o666, true)] {
        let in_file = file("DATAPASS_CLIENT_SECRET", &secret, mode);
        let settings = format!("DATAPASS_CLIENT_SECRET='{secret}'\n");
        let settings = file("env", &settings, mode);
        for (run, name) in [
            (run().env("DATAPASS_CLIENT_SECRET_FILE", in_file), "DATAPASS_CLIENT_SECRET_FILE"),
            (
                run().env("CREDENTIALS_DIRECTORY", folder.path()),
                "The credential DATAPASS_CLIENT_SECRET",
            ),
            (run().arg("--env-file").arg(settings), "--env-file"),
        ] {
            // The harness fails the test for any other line and for a missing one.
            let run = match is_open {
                true => run.stderr(name).stderr(format!("(mode {mode:04o}): chmod")),
                false => run,
            };
            run.output().success();
        }
    }
    // A file without a secret may be readable by every user.
    let settings = file("env", "DATAPASS_PAGE_SIZE=7\n", 0o644);
    let run = Run::cycle(&upstream, &database).arg("--env-file").arg(settings);
    run.output().success();
}

#[test]
fn a_dry_run_that_cannot_start_is_still_reported_as_a_dry_run() {
    for (args, reason) in [
        (&["--dry-run"][..], "configuration"),
        (&["pull", "--dry-run", "--page-size", "0"], "configuration"),
        (&["--dry-run", "--since", "tomorrow"], "configuration"),
        (&["--dry-run", "--no-such-option"], "usage"),
    ] {
        let outcome = Run::new(args.iter().copied()).any_stderr().output();
        assert!(outcome.permanent(reason).dry_run, "{args:?}");
    }
}

#[test]
fn all_missing_settings_are_reported_together_and_an_empty_one_is_missing() {
    let run = Run::new::<&str>([]).env("DATAPASS_CLIENT_ID", "").any_stderr();
    let outcome = run.output();
    outcome.permanent("configuration");
    for name in [
        "DATAPASS_AUTH_URL",
        "DATAPASS_API_BASE_URL",
        "DATAPASS_CLIENT_ID",
        "DATAPASS_CLIENT_SECRET",
        "DATABASE_URL",
    ] {
        assert!(outcome.stderr.contains(name), "{name}: {}", outcome.stderr);
    }
}

#[test]
fn the_slug_of_a_monitor_and_its_schedule_are_reported_together() {
    let run = Run::new::<&str>([]).env("SENTRY_MONITOR_SLUG", "Not A Slug");
    let outcome = run.env("DATAPASS_PULL_CRON", "hourly").any_stderr().output();
    outcome.permanent("configuration");
    for problem in
        ["SENTRY_MONITOR_SLUG must be", "DATAPASS_PULL_CRON must have five fields, not 1"]
    {
        assert!(outcome.stderr.contains(problem), "{problem}: {}", outcome.stderr);
    }
}
