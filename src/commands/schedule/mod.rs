//! The `schedule` command: prints an entry for cron, Kubernetes or systemd that can be installed as
//! it is.
//!
//! All three follow the exit status: 2 is retried, 1 never. Every text that comes from outside
//! (paths, the image, the expression) is validated and quoted for its place in the entry.
//!
//! The templates are format strings: the compiler checks their names, and a literal brace is doubled.

mod crontab;
mod kubernetes;
mod systemd;

use std::env;
use std::path::{self, Path};

use crate::cli::Scheduler;
use crate::config::{ScheduleConfig, Settings};
use crate::error::{Failure, Reason, Result, Stage};

/// The env file when `--env-file` is absent.
const DEFAULT_ENV_FILE: &str = "/etc/datapass-pull.env";

/// How often systemd and Kubernetes start a cycle again that ended with 2.
const RETRIES: u64 = 5;

/// What a start may take beyond the deadline of its cycle: a node, an image, a last report.
const START_SECONDS: u64 = 60;

/// From SIGTERM to SIGKILL; the program ends within two seconds.
const STOP_SECONDS: u64 = 30;

/// Returns the entry for a scheduler.
pub fn run(settings: Settings, scheduler: Scheduler) -> Result<String> {
    let config = settings.load(|it| it.schedule(scheduler))?;
    let binary = env::current_exe()
        .map_err(|error| refused("The path of this program cannot be found").with_source(error))?;
    entry(&config, &binary)
}

/// Returns the entry's text, which ends with a newline.
///
/// `binary` is the absolute path of the program; a container has its own.
///
/// # Errors
/// [`Reason::Configuration`] for times that the scheduler cannot express, and for a path that cannot
/// be written into the entry.
pub fn entry(config: &ScheduleConfig, binary: &Path) -> Result<String> {
    if let Scheduler::Kubernetes(args) = &config.scheduler {
        return Ok(kubernetes::entry(config, args));
    }
    let binary = plain_path("The program's path", binary)?;
    let env_file = config.env_file.as_deref().unwrap_or(Path::new(DEFAULT_ENV_FILE));
    // The scheduler has a working directory of its own.
    let env_file = path::absolute(env_file).map_err(|error| {
        refused(format!("--env-file {env_file:?} cannot be made absolute")).with_source(error)
    })?;
    let env_file = plain_path("--env-file", &env_file)?;
    match config.scheduler {
        Scheduler::Systemd => systemd::entry(config, binary, env_file).map_err(refused),
        _ => Ok(crontab::entry(config, binary, env_file)),
    }
}

/// Returns how long the process may run: the last retry may begin just before their time is over.
fn run_seconds(config: &ScheduleConfig) -> u64 {
    (config.retry_for.unwrap_or_default() + config.timeout).as_secs()
}

fn refused(message: impl Into<String>) -> Failure {
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

/// Formats whole seconds as an AGE, which systemd reads too: `1h`, `15m`, `90s`.
fn span(seconds: u64) -> String {
    match seconds {
        _ if !seconds.is_multiple_of(60) => format!("{seconds}s"),
        _ if !seconds.is_multiple_of(3_600) => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    pub(super) const CRONTAB: Scheduler = Scheduler::Crontab { retry_for: None };

    pub(super) fn config(scheduler: Scheduler) -> ScheduleConfig {
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
        for scheduler in [CRONTAB, Scheduler::Systemd] {
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
        for scheduler in [CRONTAB, Scheduler::Systemd] {
            let mut config = config(scheduler);
            config.env_file = Some(PathBuf::from("settings.env"));
            let text = entry(&config, Path::new("/bin/x")).expect("an entry");
            assert!(text.contains(wanted.to_str().expect("UTF-8")), "{text}");
        }
    }

    #[test]
    fn durations_have_the_largest_whole_unit() {
        for (seconds, text) in [(90, "90s"), (900, "15m"), (5_400, "90m"), (7_200, "2h")] {
            assert_eq!(span(seconds), text);
        }
    }
}
