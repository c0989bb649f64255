//! An entry for a scheduler.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::settings::Settings;
use super::values;
use crate::cli;
use crate::types::cron::Cron;

/// What `schedule` prints.
#[derive(Debug)]
pub struct ScheduleConfig {
    /// For which scheduler.
    pub scheduler: Scheduler,
    /// `DATAPASS_PULL_CRON`.
    pub cron: Cron,
    /// `--env-file`: the env file to name in the entry.
    pub env_file: Option<PathBuf>,
    /// `DATAPASS_TIMEOUT`: the deadline of one cycle, in whole seconds, from which the entry's limits
    /// follow.
    pub timeout: Duration,
    /// `DATAPASS_RETRY_FOR`: how long the process retries a transient cycle; cron's entry has a
    /// default.
    pub retry_for: Option<Duration>,
}

/// A scheduler that an entry can be printed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheduler {
    /// A crontab line.
    Crontab,
    /// A `batch/v1` CronJob, or one Job.
    Kubernetes {
        /// The reference of the container image, which needs no escape in quotes.
        image: String,
        /// The name of every object: a DNS label that leaves space for a suffix.
        name: String,
        /// The Job to print instead of the CronJob.
        job: Option<ScheduleJob>,
    },
    /// A service and a timer.
    Systemd,
}

/// A Job that is started by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleJob {
    /// Creates or upgrades the tables.
    Migrate,
    /// A cycle with `--since`.
    Replay {
        /// A valid time as given: an age counts from the start of the Job.
        since: String,
    },
}

impl Settings {
    /// What an entry for a scheduler needs.
    pub fn schedule(&mut self, scheduler: cli::Scheduler) -> Option<ScheduleConfig> {
        // The env file that the entry names may not exist yet, or not for us.
        self.warnings.extend(self.unreadable.take());
        let scheduler = match scheduler {
            // Its option is that of a cycle.
            cli::Scheduler::Crontab { retry_for: _ } => Some(Scheduler::Crontab),
            cli::Scheduler::Systemd => Some(Scheduler::Systemd),
            cli::Scheduler::Kubernetes { image, name, job, since } => {
                let image = self.argument("--image", values::image(&image));
                let name = self.argument("--name", values::kubernetes_name(&name));
                let since = since.filter(|text| !text.is_empty());
                let job = self.argument("--since", schedule_job(job, since, self.now));
                image.zip(name).zip(job).map(|((image, name), job)| Scheduler::Kubernetes {
                    image,
                    name,
                    job,
                })
            }
        };
        let (cron, timeout, retry_for) = (self.cron(), self.timeout(), self.retry_for());
        Some(ScheduleConfig {
            scheduler: scheduler?,
            cron: cron?,
            env_file: self.env_file(),
            timeout: timeout?,
            retry_for,
        })
    }

    pub(super) fn cron(&mut self) -> Option<Cron> {
        self.text("DATAPASS_PULL_CRON", |it| values::plain(it, 200)?.parse())
    }
}

fn schedule_job(
    job: Option<cli::Job>,
    since: Option<String>,
    now: DateTime<Utc>,
) -> Result<Option<ScheduleJob>, String> {
    Ok(Some(match (job, since) {
        (None, None) => return Ok(None),
        (Some(cli::Job::Migrate), None) => ScheduleJob::Migrate,
        (Some(cli::Job::Replay), Some(since)) => {
            values::instant(&since, now)?;
            ScheduleJob::Replay { since }
        }
        (Some(cli::Job::Replay), None) => {
            return Err("is missing: --job replay needs it".to_owned());
        }
        (_, Some(_)) => return Err("is only for --job replay".to_owned()),
    }))
}
