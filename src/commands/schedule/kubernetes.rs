//! The Kubernetes entry: a CronJob, or one Job to migrate or to replay.
//!
//! For Kubernetes 1.29 and later, where every field used here is on by default.

use super::{RETRIES, START_SECONDS, STOP_SECONDS, run_seconds, span};
use crate::cli::{Job, KubernetesArgs};
use crate::config::ScheduleConfig;
use crate::error::Stage;

/// The Job controller's waits before starts two to six: 10 s, doubled each time.
const BACKOFF_SECONDS: u64 = 10 + 20 + 40 + 80 + 160;

/// Returns the CronJob, or a Job that is started by hand.
pub(super) fn entry(config: &ScheduleConfig, args: &KubernetesArgs) -> String {
    let KubernetesArgs { image, name, job, since } = args;
    warn_of_moving_image(image);
    let version = env!("CARGO_PKG_VERSION");
    let (timeout, run_seconds) = (span(config.timeout.as_secs()), run_seconds(config));
    let one_start = run_seconds + START_SECONDS + STOP_SECONDS;
    let spec = |secret: &str, arguments: &[&str], line_start: &str| {
        let spec = format!(
            include_str!("job_spec.yaml"),
            name = name,
            version = version,
            image = image,
            secret = secret,
            // Validated words, which need no escape: their `Debug` is a list of YAML.
            arguments = arguments,
            retries = RETRIES,
            starts = RETRIES + 1,
            run = span(run_seconds),
            start = START_SECONDS,
            stop = STOP_SECONDS,
            backoff = BACKOFF_SECONDS,
            deadline = (RETRIES + 1) * one_start + BACKOFF_SECONDS,
        );
        spec.trim_end().replace('\n', line_start)
    };
    match job {
        None => {
            let spec = spec(name, &["pull", "--timeout", &timeout], "\n      ");
            let cron = &config.cron;
            format!(
                include_str!("cronjob.yaml"),
                name = name,
                version = version,
                cron = cron,
                spec = spec
            )
        }
        Some(Job::Migrate) => {
            let spec = spec(&format!("{name}-owner"), &["migrate"], "\n  ");
            format!(include_str!("job_migrate.yaml"), name = name, version = version, spec = spec)
        }
        Some(Job::Replay) => {
            let since = since.as_deref().unwrap_or_default();
            let spec = spec(name, &["pull", "--since", since, "--timeout", &timeout], "\n  ");
            format!(include_str!("job_replay.yaml"), name = name, version = version, spec = spec)
        }
    }
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
