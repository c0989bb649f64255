//! Validated settings: flag over environment over `--env-file`, every problem named at once.

mod addresses;
pub(crate) mod effective;
mod env_file;
mod proxies;
mod sections;
mod settings;
mod sources;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sentry_types::Dsn;
use url::Url;

pub use settings::Settings;

use crate::db::url::DatabaseUrl;
use crate::net::client::HttpSettings;
use crate::types::cron::Cron;

/// The settings of a cycle.
#[derive(Debug)]
pub struct PullConfig {
    /// DataPass and the account there.
    pub upstream: UpstreamConfig,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// How a created row's job is enqueued.
    pub job: JobConfig,
    /// `--since`.
    pub since: Option<DateTime<Utc>>,
    /// `--dry-run`: write nothing.
    pub dry_run: bool,
    /// `DATAPASS_PAGE_SIZE`: rows per page, 1 to 1000.
    pub page_size: u32,
    /// `DATAPASS_CONCURRENCY`: concurrent page requests, 1 to 4.
    pub concurrency: usize,
    /// `DATAPASS_TIMEOUT`: the deadline of one cycle.
    pub timeout: Duration,
    /// `DATAPASS_MAX_RETRIES`: retries per request and per connection to PostgreSQL.
    pub max_retries: u32,
    /// `DATAPASS_RETRY_FOR`: how long a cycle that ends transient is run again.
    pub retry_for: Option<Duration>,
}

/// Who is notified of a cycle, beside its output. It holds secrets and is not printed.
#[derive(Default)]
pub struct Reports {
    /// `DATAPASS_DEFINITION_ID`, which labels the metrics.
    pub definition_id: Option<String>,
    /// Sentry, when a DSN is set.
    pub sentry: Option<SentryConfig>,
    /// Healthchecks, when a URL is set.
    pub ping: Option<PingConfig>,
    /// `DATAPASS_METRICS_FILE`.
    pub metrics_file: Option<PathBuf>,
}

/// Where DataPass is and who asks.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// The whole token URL.
    pub auth_url: Url,
    /// The base of the API, without a slash at the end of its path.
    pub api_base_url: Url,
    /// The OAuth client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// Proxies and root certificates.
    pub http: HttpSettings,
    /// The kind of request that is pulled.
    pub definition_id: String,
}

impl UpstreamConfig {
    /// Returns the address of what the API calls so, such as `demandes`.
    pub fn resource(&self, name: &str) -> String {
        // A base without a path is printed with the slash of the root.
        let base = self.api_base_url.as_str().trim_end_matches('/');
        format!("{base}/{name}")
    }
}

/// Where PostgreSQL is.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`.
    pub url: DatabaseUrl,
}

/// How a created row's job is enqueued.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// `DATAPASS_ENQUEUE`.
    pub enqueue: Enqueue,
    /// `DATAPASS_JOB_CLASS`: the Active Job class.
    pub class: String,
    /// `DATAPASS_JOB_QUEUE`.
    pub queue: String,
    /// `DATAPASS_JOB_PRIORITY`.
    pub priority: i32,
    /// `DATAPASS_JOB_APP`: the GlobalID application.
    pub app: String,
    /// `DATAPASS_JOB_ARGUMENT`.
    pub argument: JobArgument,
}

/// `--enqueue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueue {
    /// `good_jobs` when it is there.
    Auto,
    /// `good_jobs`, or fail.
    GoodJob,
    /// Leave the `pending` rows to be polled.
    None,
}

impl Enqueue {
    /// Returns the word of the option.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::GoodJob => "good_job",
            Self::None => "none",
        }
    }
}

/// `DATAPASS_JOB_ARGUMENT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobArgument {
    /// The record's GlobalID.
    Record,
    /// The record's id.
    Id,
}

/// Where failures are reported.
#[derive(Clone)]
pub struct SentryConfig {
    /// `SENTRY_DSN`, which holds a key.
    pub dsn: Dsn,
    /// `SENTRY_ENVIRONMENT`.
    pub environment: String,
    /// Proxies and root certificates.
    pub http: HttpSettings,
    /// The monitor that is checked in with.
    pub monitor: Option<MonitorConfig>,
}

/// A service that speaks Healthchecks' protocol.
#[derive(Clone)]
pub struct PingConfig {
    /// `DATAPASS_PING_URL`, which is a secret.
    pub url: Url,
    /// Proxies and root certificates.
    pub http: HttpSettings,
}

/// A monitor of Sentry Crons, and what its schedule, margin and maximal run time follow from.
#[derive(Debug, Clone)]
pub struct MonitorConfig {
    /// `SENTRY_MONITOR_SLUG`.
    pub slug: String,
    /// `DATAPASS_PULL_CRON`.
    pub cron: Cron,
    /// `DATAPASS_TIMEOUT`.
    pub timeout: Duration,
    /// `DATAPASS_RETRY_FOR`.
    pub retry_for: Option<Duration>,
}

/// `text` or `json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people and shells.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// How to log.
#[derive(Debug, Clone, Default)]
pub struct LogConfig {
    /// How often `-v` was given.
    pub verbosity: u8,
    /// `RUST_LOG`, as found.
    pub rust_log: Option<String>,
    /// The format of a line.
    pub format: Format,
}

/// What `schedule` prints.
#[derive(Debug)]
pub struct ScheduleConfig {
    /// For which scheduler.
    pub scheduler: Scheduler,
    /// `DATAPASS_PULL_CRON`.
    pub cron: Cron,
    /// The env file to name in the entry.
    pub env_file: Option<PathBuf>,
    /// The cycle's own deadline, in whole seconds, from which the entry's limits follow.
    pub timeout: Duration,
    /// How long the process retries a transient cycle; cron's entry has a default.
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

#[cfg(test)]
mod tests;
