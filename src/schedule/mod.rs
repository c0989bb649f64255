//! What `schedule` prints: an entry for cron, Kubernetes or systemd that can be installed as it is.
//!
//! All three follow the exit codes: 2 is tried again, five times at most, and 1 never. Every text
//! that comes from outside (paths, the image, the expression) is checked and quoted for the place
//! that it lands in, so that an entry means what its settings say or is refused.

mod cron;
mod crontab;
mod kubernetes;
mod systemd;

use std::path::{self, Path};
use std::time::Duration;

use crate::config::{ScheduleConfig, Scheduler};
use crate::error::{Failure, Reason, Result, Stage};
use cron::Cron;

/// Where the settings are when no `--env-file` was given.
const DEFAULT_ENV_FILE: &str = "/etc/datapass-pull.env";

/// How often a run that ended with 2 is tried again.
const RETRIES: u64 = 5;

/// Returns the entry's text, which ends with a newline.
///
/// `binary` is the absolute path of the program; a container has its own and takes
/// [`ScheduleConfig::image`] instead.
///
/// # Errors
/// [`Reason::Configuration`] for an expression that is not cron's or that the scheduler cannot
/// express, and for a path that cannot be written into the entry; [`Reason::Usage`] when it is
/// `--image` that is missing or bad.
pub fn entry(config: &ScheduleConfig, binary: &Path) -> Result<String, Failure> {
    let cron =
        Cron::parse(&config.cron).map_err(|problem| format!("DATAPASS_PULL_CRON: {problem}"));
    if config.scheduler == Scheduler::Kubernetes {
        return match (cron, kubernetes::image(config.image.as_deref())) {
            (Ok(cron), Ok(image)) => Ok(kubernetes::entry(&cron, image, config.timeout)),
            (Err(cron), Err(image)) => Err(refused(format!("{cron}; {image}"))),
            (Err(cron), Ok(_)) => Err(refused(cron)),
            (Ok(_), Err(image)) => Err(Failure::new(Stage::Prepare, Reason::Usage, image)),
        };
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
    let cron = cron.map_err(refused)?;
    let entry = if config.scheduler == Scheduler::Crontab {
        crontab::entry(&cron, binary, env_file)
    } else {
        systemd::entry(&cron, binary, env_file, config.timeout)
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

/// Returns a cycle's deadline in whole seconds, rounded up, and small enough to multiply.
fn whole_seconds(timeout: Duration) -> u64 {
    let rounded = timeout
        .as_secs()
        .saturating_add(u64::from(timeout.subsec_nanos() > 0));
    rounded.min(u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn config(scheduler: Scheduler) -> ScheduleConfig {
        ScheduleConfig {
            scheduler,
            cron: "0 1 * * *".into(),
            image: None,
            env_file: None,
            timeout: Duration::from_secs(900),
        }
    }

    fn failure(config: &ScheduleConfig, binary: &str) -> Failure {
        entry(config, Path::new(binary)).expect_err("refused")
    }

    #[test]
    fn a_missing_image_is_a_usage_error() {
        let failure = failure(&config(Scheduler::Kubernetes), "/bin/x");
        assert_eq!(failure.reason, Reason::Usage);
        assert!(failure.message.contains("--image"), "{}", failure.message);
    }

    #[test]
    fn a_bad_expression_and_a_missing_image_are_named_together() {
        let mut config = config(Scheduler::Kubernetes);
        config.cron = "0 24 * * *".into();
        let failure = failure(&config, "/bin/x");
        assert_eq!(failure.reason, Reason::Configuration);
        for part in ["DATAPASS_PULL_CRON", "hour", "0 to 23", "--image"] {
            assert!(
                failure.message.contains(part),
                "{part}: {}",
                failure.message
            );
        }
    }

    #[test]
    fn paths_that_cannot_be_written_are_refused() {
        for scheduler in [Scheduler::Crontab, Scheduler::Systemd] {
            for binary in ["bin/x", "/bin/x\ny", "/bin/x ", "/bin/\u{7f}"] {
                let failure = failure(&config(scheduler), binary);
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
        assert_eq!(whole_seconds(Duration::from_millis(1500)), 2);
        assert_eq!(whole_seconds(Duration::MAX), u64::from(u32::MAX));
    }
}
