//! An entry for a scheduler.

use std::path::PathBuf;
use std::time::Duration;

use super::settings::{Settings, all};
use super::values;
use crate::cli::{Job, KubernetesArgs, Scheduler};
use crate::error::{Failure, Reason};
use crate::types::cron::Cron;

/// What `schedule` prints.
#[derive(Debug)]
pub struct ScheduleConfig {
    /// For which scheduler, with valid arguments.
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

impl Settings {
    /// What an entry for a scheduler needs.
    pub fn schedule(&mut self, scheduler: Scheduler) -> Option<ScheduleConfig> {
        // The env file that the entry names may not exist yet, or not for us.
        let unread = self.unread.take_if(|failure| failure.reason == Reason::Usage);
        self.warnings.extend(unread.iter().flat_map(Failure::problems));
        if let Scheduler::Kubernetes(args) = &scheduler {
            let KubernetesArgs { image, name, job, since } = args;
            self.argument("--image", values::image(image));
            self.argument("--name", values::kubernetes_name(name));
            let since = match (job, since.as_deref().filter(|since| !since.is_empty())) {
                (Some(Job::Replay), Some(since)) => values::instant(since, self.now).map(drop),
                (Some(Job::Replay), None) => Err("is missing: --job replay needs it".to_owned()),
                (_, Some(_)) => Err("is only for --job replay".to_owned()),
                (_, None) => Ok(()),
            };
            self.argument("--since", since);
        }
        all!(ScheduleConfig {
            scheduler: Some(scheduler),
            cron: self.cron(),
            env_file: Some(self.env_file()),
            timeout: self.timeout(),
            retry_for: Some(self.retry_for()),
        })
    }

    pub(super) fn cron(&mut self) -> Option<Cron> {
        self.text("DATAPASS_PULL_CRON", |it| values::plain(it, 200)?.parse())
    }
}
