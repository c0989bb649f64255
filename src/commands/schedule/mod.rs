//! What `schedule` prints: an entry for cron, Kubernetes or systemd that can be installed as it is.
//!
//! All three follow the exit codes: 2 is tried again, five times at most, and 1 never. Every text
//! that comes from outside (paths, the image, the expression) is checked and quoted for the place
//! that it lands in, so that an entry means what its settings say or is refused.

mod crontab;
mod kubernetes;
mod systemd;

use std::path::{self, Path};

use crate::config::{ScheduleConfig, Scheduler};
use crate::error::{Failure, Reason, Result, Stage};

/// Where the settings are when no `--env-file` was given.
const DEFAULT_ENV_FILE: &str = "/etc/datapass-pull.env";

/// How often a run that ended with 2 is tried again.
const RETRIES: u64 = 5;

/// Returns the entry's text, which ends with a newline.
///
/// `binary` is the absolute path of the program; a container has its own.
///
/// # Errors
/// [`Reason::Configuration`] for times that the scheduler cannot express, and for a path that cannot
/// be written into the entry.
pub fn entry(config: &ScheduleConfig, binary: &Path) -> Result<String> {
    let (cron, timeout_seconds) = (&config.cron, config.timeout.as_secs());
    if let Scheduler::Kubernetes { image, .. } = &config.scheduler {
        return Ok(kubernetes::entry(cron, image, timeout_seconds));
    }

    let binary = plain_path("The program's path", binary)?;
    let env_file = config
        .env_file
        .as_deref()
        .unwrap_or(Path::new(DEFAULT_ENV_FILE));
    // The scheduler has a working directory of its own.
    let env_file = path::absolute(env_file).map_err(|error| {
        refused(format!(
            "--env-file {env_file:?}: no absolute path can be made of it"
        ))
        .with_source(error)
    })?;
    let env_file = plain_path("--env-file", &env_file)?;
    let entry = match config.scheduler {
        Scheduler::Systemd => systemd::entry(cron, binary, env_file, timeout_seconds),
        _ => crontab::entry(cron, binary, env_file),
    };
    entry.map_err(refused)
}

fn refused(message: String) -> Failure {
    Failure::new(Stage::Prepare, Reason::Configuration, message)
}

/// Returns a path as text: absolute, and without what would end or corrupt a line.
fn plain_path<'a>(name: &str, path: &'a Path) -> Result<&'a str> {
    let problem = match path.to_str() {
        None => "is not UTF-8",
        Some(text) if text.chars().any(char::is_control) => "has a control character",
        Some(text) if !path.is_absolute() || text.ends_with(char::is_whitespace) => {
            "must be absolute and not end with a blank"
        }
        Some(text) => return Ok(text),
    };
    Err(refused(format!("{name} {path:?} {problem}: move the file")))
}

/// Writes whole seconds as the tool's own options and systemd both take them, `15m` or `90s`.
fn span(seconds: u64) -> String {
    if seconds.is_multiple_of(60) {
        format!("{}m", seconds / 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    fn config(scheduler: Scheduler) -> ScheduleConfig {
        ScheduleConfig {
            scheduler,
            cron: "0 1 * * *".parse().expect("cron"),
            env_file: None,
            timeout: Duration::from_secs(900),
            retry_for: None,
        }
    }

    fn failure(config: &ScheduleConfig, binary: &str) -> Failure {
        entry(config, Path::new(binary)).expect_err("refused")
    }

    #[test]
    fn paths_that_cannot_be_written_are_refused() {
        for scheduler in [Scheduler::Crontab, Scheduler::Systemd] {
            for binary in ["bin/x", "/bin/x\ny", "/bin/x ", "/bin/\u{7f}"] {
                let failure = failure(&config(scheduler.clone()), binary);
                assert_eq!(failure.reason, Reason::Configuration, "{binary:?}");
                assert!(!failure.message.contains('\n'), "{:?}", failure.message);
            }
        }
    }

    #[test]
    fn a_relative_env_file_becomes_absolute() {
        let here = std::env::current_dir().expect("a directory");
        let wanted = here.join("settings.env");
        for scheduler in [Scheduler::Crontab, Scheduler::Systemd] {
            let mut config = config(scheduler);
            config.env_file = Some(PathBuf::from("settings.env"));
            let text = entry(&config, Path::new("/bin/x")).expect("an entry");
            assert!(text.contains(wanted.to_str().expect("UTF-8")), "{text}");
        }
    }

    #[test]
    fn spans_read_back() {
        assert_eq!(span(900), "15m");
        assert_eq!(span(90), "90s");
    }
}
