//! The service and the timer: `systemd-analyze verify` and `security`, and the command run by `sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use datapass_pull::cli::Scheduler;
use tempfile::TempDir;

use super::{Fake, TIMEOUT, config, entry, program, run, text};

pub(super) const SYSTEMD: &str = "install systemd-analyze: apt-get install systemd";

/// Splits the output into files, each of which starts with a line that contains its path.
pub(super) fn units(printed: &str) -> Vec<(&str, String)> {
    let mut units: Vec<(&str, String)> = Vec::new();
    for line in printed.lines() {
        match line.strip_prefix("# /") {
            Some(_) => units.push((line.trim_start_matches("# "), String::new())),
            None => {
                let (_, unit) = units.last_mut().expect("a path comes first");
                *unit += line;
                *unit += "\n";
            }
        }
    }
    units
}

/// Returns the problems that `systemd-analyze verify` reports about both files.
fn verify(units: &[(&str, String)]) -> String {
    let folder = TempDir::new().expect("a directory");
    let files: Vec<PathBuf> = units
        .iter()
        .map(|(path, unit)| {
            let file = folder.path().join(Path::new(path).file_name().expect("a name"));
            fs::write(&file, unit).expect("written");
            file
        })
        .collect();
    let output = run(
        Command::new("systemd-analyze")
            // The manual page is not installed.
            .args(["verify", "--man=no"])
            .args(files),
        SYSTEMD,
    );
    let problems = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() || !problems.is_empty());
    problems
}

/// Returns the only value of a setting.
pub(super) fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("{name} is missing:\n{unit}"));
    assert_eq!(values.next(), None, "{name} occurs twice");
    value
}

/// Parses a time span as systemd does.
fn seconds(span: &str) -> u64 {
    let output = run(Command::new("systemd-analyze").args(["timespan", span]), SYSTEMD);
    let output = text(&output.stdout);
    let micros = output.lines().find_map(|line| line.trim().strip_prefix("μs:"));
    micros.expect("microseconds").trim().parse::<u64>().expect("a number") / 1_000_000
}

#[test]
fn both_units_are_valid_with_every_path_of_the_program() {
    let folder = TempDir::new().expect("a directory");
    for name in ["datapass-pull", "data pass", "100%n", "$HOME ${x}", "a;b&c#d", "{{cron}}", "é"] {
        let binary = folder.path().join(name).join("datapass-pull");
        program(&binary, "#!/bin/sh\nexit 0\n");
        let mut config = config(Scheduler::Systemd);
        config.env_file = Some(folder.path().join(name).join("the settings.env"));
        let printed = entry(&config, &binary);
        let units = units(&printed);
        let paths: Vec<_> = units.iter().map(|(path, _)| *path).collect();
        assert_eq!(
            paths,
            [
                "/etc/systemd/system/datapass-pull.service",
                "/etc/systemd/system/datapass-pull.timer"
            ]
        );
        assert_eq!(verify(&units), "", "{name}");

        // systemd parses the path: without the program the verification fails.
        fs::remove_file(&binary).expect("removed");
        let output = verify(&units);
        assert!(output.contains(binary.to_str().unwrap()), "{name}: {output:?}");
    }
}

#[test]
fn an_invalid_unit_is_detected() {
    let printed = entry(&config(Scheduler::Systemd), Path::new("/bin/sh"));
    assert_eq!(verify(&units(&printed)), "");
    for (right, wrong) in [
        ("Restart=on-failure", "Restart=always"),
        ("ProtectHome", "ProtectHouse"),
        ("OnCalendar=*", "OnCalendar=x"),
    ] {
        let broken = printed.replace(right, wrong);
        assert_ne!(broken, printed);
        assert_ne!(verify(&units(&broken)), "", "{wrong}");
    }
}

#[test]
fn the_service_is_hardened() {
    let printed = entry(&config(Scheduler::Systemd), Path::new("/bin/sh"));
    let folder = TempDir::new().expect("a directory");
    let file = folder.path().join("datapass-pull.service");
    fs::write(&file, &units(&printed)[0].1).expect("written");
    // The exposure in tenths, from 0 to 100; a service without any such setting has about 96.
    let output = run(
        Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=true", "--threshold=12"])
            .arg(file),
        SYSTEMD,
    );
    assert!(output.status.success(), "{}", text(&output.stdout));
}

#[test]
fn status_2_is_retried_five_times_and_status_1_never() {
    let printed = entry(&config(Scheduler::Systemd), Path::new("/bin/sh"));
    let units = units(&printed);
    let [(_, service), (_, timer)] = units.as_slice() else {
        panic!("two units");
    };
    assert_eq!(setting(service, "Type"), "oneshot");
    assert_eq!(setting(service, "Restart"), "on-failure");
    assert_eq!(setting(service, "RestartPreventExitStatus"), "1");
    assert!(!service.contains("SuccessExitStatus"), "a failure must fail the unit");

    let start = seconds(setting(service, "TimeoutStartSec"));
    assert!(start > TIMEOUT.as_secs(), "{start}");
    assert_eq!(setting(service, "StartLimitBurst"), "6");
    // Six starts of full length are within the interval, and the next day's start is not.
    let one_try = start + seconds(setting(service, "RestartSec"));
    let interval = seconds(setting(service, "StartLimitIntervalSec"));
    assert!(interval > 5 * one_try, "{interval}");
    assert!(interval < 24 * 60 * 60, "{interval}");

    assert_eq!(setting(timer, "Persistent"), "true");
    assert!(seconds(setting(timer, "RandomizedDelaySec")) > 0);
    for name in ["DATAPASS_CLIENT_SECRET", "DATABASE_URL"] {
        assert!(service.contains(&format!("\nLoadCredential={name}:/")), "{name}");
    }
}

#[test]
fn the_start_timeout_includes_retry_for() {
    let mut config = config(Scheduler::Systemd);
    config.retry_for = Some(Duration::from_secs(7_200));
    let printed = entry(&config, Path::new("/bin/sh"));
    let start = seconds(setting(&units(&printed)[0].1, "TimeoutStartSec"));
    assert!(start > 7_200 + TIMEOUT.as_secs(), "{start}");
}

#[test]
fn a_frequent_timer_does_not_hit_the_start_limit() {
    for (cron, period_seconds) in [("* * * * *", 60), ("*/15 * * * *", 900), ("0 * * * *", 3600)] {
        let mut config = config(Scheduler::Systemd);
        config.cron = cron.parse().expect(cron);
        let printed = entry(&config, Path::new("/bin/sh"));
        let units = units(&printed);
        let interval = seconds(setting(&units[0].1, "StartLimitIntervalSec"));
        let delay = seconds(setting(&units[1].1, "RandomizedDelaySec"));
        assert!(interval + delay <= period_seconds, "{cron}: {interval} + {delay}");
        let restart = seconds(setting(&units[0].1, "RestartSec"));
        assert!(restart > 0 && 6 * restart < interval, "{cron}: {restart}");
    }
}

#[test]
fn the_service_starts_the_program_with_its_deadline() {
    let fake = Fake::new("100% free", 0);
    let printed = entry(&config(Scheduler::Systemd), &fake.binary);
    // systemd reads `%%` as a percent sign; the rest is quoted as for sh.
    let command = setting(&units(&printed)[0].1, "ExecStart").replace("%%", "%");
    let output = fake.sh(&command);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fake.calls(), ["--timeout 15m"]);
}
