//! The Kubernetes entry: a CronJob, or one Job to migrate or to replay.
//!
//! For Kubernetes 1.29 and later, where every field used here is on by default.

use super::{RETRIES, fill, span};
use crate::config::ScheduleJob;
use crate::error::Stage;
use crate::types::cron::Cron;

/// The Job controller's waits before starts two to six: 10 s, doubled each time.
const BACKOFF_SECONDS: u64 = 10 + 20 + 40 + 80 + 160;

/// From SIGTERM to SIGKILL; the program ends within two seconds.
const GRACE_SECONDS: u64 = 30;

/// What a pod may take beyond the cycle's deadline: a node, the image, the start, a last report.
const START_SECONDS: u64 = 60;

/// What one manifest is for.
pub(super) struct Manifest<'a> {
    /// The container image, which needs no escape in quotes.
    pub(super) image: &'a str,
    /// The name of every object, a DNS label.
    pub(super) name: &'a str,
    /// The deadline of one cycle.
    pub(super) timeout: &'a str,
    /// The longest run of the process.
    pub(super) run_seconds: u64,
}

impl Manifest<'_> {
    /// Returns the CronJob.
    pub(super) fn cron_job(&self, cron: &Cron) -> String {
        let spec = self.spec(&["pull", "--timeout", self.timeout], self.name);
        fill(
            include_str!("cronjob.yaml"),
            &[
                ("name", self.name),
                ("version", env!("CARGO_PKG_VERSION")),
                ("cron", &cron.to_string()),
                ("spec", &indent(&spec, "      ")),
            ],
        )
    }

    /// Returns a Job that is started by hand.
    pub(super) fn job(&self, job: &ScheduleJob) -> String {
        let name = self.name;
        let (job, prerequisite, spec) = match job {
            ScheduleJob::Migrate => {
                let secret = format!("{name}-owner");
                let prerequisite = format!(
                    "kubectl create secret generic {secret} --from-file=DATABASE_URL=FILE, with a \
                     role that may create tables"
                );
                ("migrate", prerequisite, self.spec(&["migrate"], &secret))
            }
            ScheduleJob::Replay { since } => (
                "replay",
                format!("the secret {name}, as for the CronJob"),
                self.spec(&["pull", "--since", since, "--timeout", self.timeout], name),
            ),
        };
        fill(
            include_str!("job.yaml"),
            &[
                ("name", name),
                ("job", job),
                ("version", env!("CARGO_PKG_VERSION")),
                ("prerequisite", &prerequisite),
                ("spec", &indent(&spec, "  ")),
            ],
        )
    }

    /// Returns the specification of a Job, not indented.
    fn spec(&self, arguments: &[&str], secret: &str) -> String {
        let starts = RETRIES + 1;
        let one_start = self.run_seconds + START_SECONDS + GRACE_SECONDS;
        let arguments: Vec<String> = arguments.iter().map(|word| format!("\"{word}\"")).collect();
        fill(
            include_str!("job_spec.yaml"),
            &[
                ("name", self.name),
                ("version", env!("CARGO_PKG_VERSION")),
                ("image", self.image),
                ("secret", secret),
                ("arguments", &arguments.join(", ")),
                ("retries", &RETRIES.to_string()),
                ("starts", &starts.to_string()),
                ("run", &span(self.run_seconds)),
                ("start", &START_SECONDS.to_string()),
                ("grace", &GRACE_SECONDS.to_string()),
                ("backoff", &BACKOFF_SECONDS.to_string()),
                ("deadline", &(starts * one_start + BACKOFF_SECONDS).to_string()),
            ],
        )
    }
}

/// Warns of an image that may be another one at each start.
pub(super) fn warn_of_moving_image(image: &str) {
    // A colon before the last slash is that of a port.
    let name = image.rsplit('/').next().unwrap_or(image);
    if !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest") {
        log::warn!(
            stage = Stage::Prepare.as_str();
            "--image names no version: add a tag or a digest, so that a start never changes it"
        );
    }
}

fn indent(text: &str, prefix: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("{prefix}{line}")).collect();
    lines.join("\n")
}
