//! The entries that `schedule` prints, checked with the real tools: `kubernetes-validate`,
//! `systemd-analyze`, `sh`.
//!
//! If a tool is missing, its test fails with the command to install it; nothing is skipped.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by a panic")]

mod calendar;

mod crontab;
mod end_to_end;
mod kubernetes;
mod systemd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use datapass_pull::cli::Scheduler;
use datapass_pull::commands::schedule;
use datapass_pull::config::ScheduleConfig;
use tempfile::TempDir;

const TIMEOUT: Duration = Duration::from_secs(900);

const CRONTAB: Scheduler = Scheduler::Crontab { retry_for: None };

fn config(scheduler: Scheduler) -> ScheduleConfig {
    ScheduleConfig {
        scheduler,
        cron: "0 1 * * *".parse().expect("cron"),
        env_file: None,
        timeout: TIMEOUT,
        retry_for: None,
    }
}

fn entry(config: &ScheduleConfig, binary: &Path) -> String {
    schedule::entry(config, binary).unwrap_or_else(|failure| panic!("{}", failure.error_chain()))
}

/// Runs a command to its end; `install` names what to install if it is missing.
fn run(command: &mut Command, install: &str) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: {install}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Installs a program.
///
/// Another process writes it: a child that a concurrent test starts would inherit a file that this
/// process has open for writing, and executing the program would fail with "text file busy".
fn program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    let write = "printf '%s' \"$SCRIPT\" > \"$1\" && chmod 755 \"$1\"";
    let output = run(
        Command::new("/bin/sh").args(["-c", write, "sh"]).arg(path).env("SCRIPT", script),
        "a shell is part of every system",
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A program that records its arguments and ends with a given status.
struct Fake {
    folder: TempDir,
    binary: PathBuf,
}

impl Fake {
    /// Installs it in a folder of this name.
    fn new(name: &str, code: u8) -> Self {
        let folder = TempDir::new().expect("a directory");
        let binary = folder.path().join(name).join("datapass-pull");
        let script = format!(
            "#!/bin/sh\n\
             printf '%s\\n' \"$*\" >> \"$CALLS\"\n\
             echo outcome=fake\n\
             echo 'a warning' >&2\n\
             exit {code}\n"
        );
        program(&binary, &script);
        Self { folder, binary }
    }

    /// Runs a command line in the environment that cron sets.
    fn sh(&self, command: &str) -> Output {
        run(
            Command::new("/bin/sh")
                .args(["-c", command])
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("CALLS", self.folder.path().join("calls")),
            "a shell is part of every system",
        )
    }

    /// Returns the arguments of each call.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
