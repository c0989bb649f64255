//! The Kubernetes entry: a CronJob, or one Job to migrate or to replay.
//!
//! For Kubernetes 1.29 and later, where every field used here is on by default.

use super::{RETRIES, START_SECONDS, STOP_SECONDS, fill, run_seconds, span};
use crate::config::{ScheduleConfig, ScheduleJob};
use crate::error::Stage;

/// The Job controller's waits before starts two to six: 10 s, doubled each time.
const BACKOFF_SECONDS: u64 = 10 + 20 + 40 + 80 + 160;

/// Returns the CronJob, or a Job that is started by hand.
pub(super) fn entry(
    config: &ScheduleConfig,
    image: &str,
    name: &str,
    job: Option<&ScheduleJob>,
) -> String {
    warn_of_moving_image(image);
    let timeout = span(config.timeout.as_secs());
    let owner = format!("{name}-owner");
    let (template, line_start, secret, arguments) = match job {
        None => {
            let arguments = vec!["pull", "--timeout", &timeout];
            (include_str!("cronjob.yaml"), "\n      ", name, arguments)
        }
        Some(ScheduleJob::Migrate) => {
            (include_str!("job_migrate.yaml"), "\n  ", &*owner, vec!["migrate"])
        }
        Some(ScheduleJob::Replay { since }) => {
            let arguments = vec!["pull", "--since", since, "--timeout", &timeout];
            (include_str!("job_replay.yaml"), "\n  ", name, arguments)
        }
    };
    let arguments: Vec<String> = arguments.iter().map(|word| format!("\"{word}\"")).collect();
    let (starts, run_seconds) = (RETRIES + 1, run_seconds(config));
    let one_start = run_seconds + START_SECONDS + STOP_SECONDS;
    let values = [
        ("name", name),
        ("version", env!("CARGO_PKG_VERSION")),
        ("cron", &config.cron.to_string()),
        ("image", image),
        ("secret", secret),
        ("arguments", &arguments.join(", ")),
        ("retries", &RETRIES.to_string()),
        ("starts", &starts.to_string()),
        ("run", &span(run_seconds)),
        ("start", &START_SECONDS.to_string()),
        ("stop", &STOP_SECONDS.to_string()),
        ("backoff", &BACKOFF_SECONDS.to_string()),
        ("deadline", &(starts * one_start + BACKOFF_SECONDS).to_string()),
    ];
    let spec = fill(include_str!("job_spec.yaml"), &values);
    let spec = spec.trim_end().replace('\n', line_start);
    fill(template, &[&values[..], &[("spec", &spec)]].concat())
}

/// Warns of an image that may be another one at each start.
fn warn_of_moving_image(image: &str) {
    // A colon before the last slash is that of a port.
    let name = image.rsplit('/').next().unwrap_or(image);
    if !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest") {
        log::warn!(
            stage = Stage::Prepare.as_str();
            "--image names no version: add a tag or a digest, so that a start never changes it"
        );
    }
}
