//! The crontab line, taken as cron takes it and run by `sh` with a program that fails on demand.

use std::path::Path;

use datapass_pull::config::Scheduler;

use super::{Stage, config, entry, text};

/// Returns the times and the command of the one line that is an entry.
pub(super) fn crontab_line(printed: &str) -> (String, String) {
    assert!(
        printed.ends_with('\n'),
        "cron ignores a last line without its end"
    );
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let ["CRON_TZ=UTC", line] = lines.as_slice() else {
        panic!("a variable and a line: {lines:?}");
    };
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    (words[..5].join(" "), words[5].to_owned())
}

/// Takes the command as Vixie cron does (`child_process` in its `do_command.c`).
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

#[test]
fn the_crontab_line_tries_again_on_two_alone() {
    for (codes, status, sleeps) in [
        (vec![0], 0, vec![]),
        (vec![1], 1, vec![]),
        (vec![101], 101, vec![]),
        (vec![2, 0], 0, vec!["60"]),
        (vec![2, 2, 1], 1, vec!["60", "120"]),
        (
            vec![2, 2, 2, 2, 2, 0],
            0,
            vec!["60", "120", "240", "480", "900"],
        ),
        (
            vec![2, 2, 2, 2, 2, 2, 0],
            2,
            vec!["60", "120", "240", "480", "900"],
        ),
    ] {
        let stage = Stage::new("bin", &codes);
        let printed = entry(&config(Scheduler::Crontab), &stage.binary);
        let (times, command) = crontab_line(&printed);
        assert_eq!(times, "0 1 * * *");
        let output = stage.sh(&as_vixie_cron(&command));
        assert_eq!(output.status.code(), Some(status), "{codes:?}: {output:?}");
        let tries = sleeps.len() + 1;
        assert_eq!(
            stage.calls(),
            vec!["--quiet --env-file /etc/datapass-pull.env"; tries]
        );
        assert_eq!(stage.lines("sleeps"), sleeps, "{codes:?}");

        // Mail: nothing for a success, else what the last try said, unchanged.
        let wanted = if status == 0 {
            String::new()
        } else {
            format!("try {tries}: 50% \\n\na warning\ndatapass-pull failed with status {status}\n")
        };
        assert_eq!(text(&output.stdout), wanted, "{codes:?}");
        assert_eq!(text(&output.stderr), "", "{codes:?}");
    }
}

#[test]
fn the_crontab_line_finds_its_files_whatever_their_names() {
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
        "é",
    ] {
        let stage = Stage::new(name, &[0, 0]);
        let mut config = config(Scheduler::Crontab);
        let env_file = stage.binary.with_file_name("a  b%.env");
        config.env_file = Some(env_file.clone());
        let (_, command) = crontab_line(&entry(&config, &stage.binary));
        // The second is a daemon for which the percent sign is nothing special.
        for command in [as_vixie_cron(&command), command] {
            let output = stage.sh(&command);
            assert_eq!(
                output.status.code(),
                Some(0),
                "{name}: {command}: {output:?}"
            );
            assert_eq!(text(&output.stdout), "", "{name}");
        }
        let call = format!("--quiet --env-file {}", env_file.display());
        assert_eq!(stage.calls(), [call.as_str(), &call], "{name}");
    }
}

#[test]
fn a_missing_program_is_mailed() {
    let stage = Stage::new("bin", &[0]);
    let printed = entry(
        &config(Scheduler::Crontab),
        Path::new("/nowhere/datapass-pull"),
    );
    let output = stage.sh(&as_vixie_cron(&crontab_line(&printed).1));
    assert_eq!(output.status.code(), Some(127));
    let mail = text(&output.stdout);
    assert!(
        mail.contains("/nowhere/datapass-pull") && mail.contains("status 127"),
        "{mail}"
    );
    assert!(stage.lines("sleeps").is_empty());
}

#[test]
fn the_crontab_names_the_daemons_that_ignore_the_zone() {
    let printed = entry(&config(Scheduler::Crontab), Path::new("/bin/sh"));
    let comment: String = printed
        .lines()
        .filter(|line| line.starts_with('#'))
        .collect();
    for word in ["CRON_TZ", "Debian", "BusyBox", "ignore it", "flock"] {
        assert!(comment.contains(word), "{word}");
    }
}
