//! The crontab line, parsed as cron does and run by `sh` with a fake program.

use std::path::Path;
use std::time::Duration;

use super::{CRONTAB, Fake, config, entry, text};
use crate::harness::Run;

/// Returns the times and the command of the only entry.
pub(super) fn crontab_line(printed: &str) -> (String, String) {
    assert!(printed.ends_with('\n'), "cron ignores a last line without a line feed");
    let lines: Vec<&str> = printed.lines().filter(|line| !line.starts_with('#')).collect();
    let ["CRON_TZ=UTC", line] = lines.as_slice() else {
        panic!("not one variable and one line: {lines:?}");
    };
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    (words[..5].join(" "), words[5].to_owned())
}

/// Returns the command that Vixie cron runs (`child_process` in its `do_command.c`).
pub(super) fn as_vixie_cron(command: &str) -> String {
    let mut taken = String::new();
    let mut escaped = false;
    for c in command.chars() {
        match c {
            '%' if escaped => {
                taken.pop();
                taken.push(c);
                escaped = false;
            }
            '%' => panic!("the command ends here: {taken}"),
            _ => {
                escaped = c == '\\' && !escaped;
                taken.push(c);
            }
        }
    }
    taken
}

/// What the fake program writes to standard error.
const LOGGED: &str = "a warning\n";

#[test]
fn cron_receives_the_log_and_the_status_of_the_program() {
    for code in [0, 1, 2, 101] {
        let fake = Fake::new("bin", code);
        let printed = entry(&config(CRONTAB), &fake.binary);
        let (times, command) = crontab_line(&printed);
        assert_eq!(times, "0 1 * * *");
        let output = fake.sh(&as_vixie_cron(&command));
        assert_eq!(output.status.code(), Some(code.into()), "{output:?}");
        assert_eq!(text(&output.stdout), "");
        assert_eq!(text(&output.stderr), LOGGED);
        let call = "--env-file /etc/datapass-pull.env --retry-for 1h";
        assert_eq!(fake.calls(), [call]);
    }
}

#[test]
fn the_crontab_line_contains_options_that_differ_from_the_default() {
    let fake = Fake::new("bin", 0);
    let mut config = config(CRONTAB);
    config.retry_for = Some(Duration::from_secs(5_400));
    config.timeout = Duration::from_secs(90);
    fake.sh(&crontab_line(&entry(&config, &fake.binary)).1);
    let call = "--env-file /etc/datapass-pull.env --retry-for 90m --timeout 90s";
    assert_eq!(fake.calls(), [call]);
}

#[test]
fn the_crontab_line_uses_the_configured_retry_for() {
    let schedule = || Run::new(["schedule", "crontab"]).env("DATAPASS_RETRY_FOR", "2h");
    for (run, option) in [
        (schedule(), " --retry-for 2h >"),
        (schedule().args(["--retry-for", "3h"]), " --retry-for 3h >"),
        (schedule().args(["--retry-for", ""]), " --retry-for 2h >"),
    ] {
        let outcome = run.output();
        outcome.assert_success();
        assert!(outcome.stdout.contains(option), "{}", outcome.stdout);
    }
}

#[test]
fn the_crontab_line_quotes_every_file_name() {
    for name in [
        "data pass",
        "it's",
        "100%",
        "%",
        r"back\%slash",
        r"a\",
        r"\\%\%%",
        "$HOME `id` $(id)",
        "\"q\" ; & | # ( ) < > * ? ~ !",
        "{{cron}}",
        "é",
    ] {
        let fake = Fake::new(name, 0);
        let mut config = config(CRONTAB);
        let env_file = fake.binary.with_file_name("a  b%.env");
        config.env_file = Some(env_file.clone());
        let (_, command) = crontab_line(&entry(&config, &fake.binary));
        // The second command is for a daemon to which the percent sign is not special.
        for command in [as_vixie_cron(&command), command] {
            let output = fake.sh(&command);
            assert_eq!(output.status.code(), Some(0), "{command}: {output:?}");
            assert_eq!(text(&output.stderr), LOGGED, "{command}");
        }
        let call = format!("--env-file {} --retry-for 1h", env_file.display());
        assert_eq!(fake.calls(), [call.as_str(), &call], "{name}");
    }
}

#[test]
fn a_missing_program_is_mailed() {
    let printed = entry(&config(CRONTAB), Path::new("/nowhere/datapass-pull"));
    let output = Fake::new("bin", 0).sh(&as_vixie_cron(&crontab_line(&printed).1));
    assert_eq!(output.status.code(), Some(127));
    let mail = text(&output.stderr);
    assert!(mail.contains("/nowhere/datapass-pull"), "{mail}");
}

#[test]
fn a_comment_names_the_daemons_that_ignore_the_time_zone() {
    let printed = entry(&config(CRONTAB), Path::new("/bin/sh"));
    let comment: String = printed.lines().filter(|line| line.starts_with('#')).collect();
    for word in ["CRON_TZ", "Debian", "systemd-cron", "BusyBox", "ignore it"] {
        assert!(comment.contains(word), "{word}");
    }
}
