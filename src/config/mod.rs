//! Validated settings: flag over environment over `--env-file`, every problem named at once.

mod addresses;
mod environment;
mod load;
mod loader;
mod proxies;
mod requested;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use url::Url;

pub use environment::Environment;
pub use requested::{Requested, log_config, requested, requested_by_refused};

use crate::db::url::DatabaseUrl;
use crate::net::http::HttpSettings;
use crate::types::cron::Cron;

/// What the user asked for, with the settings that it needs and no others.
#[derive(Debug)]
pub struct Config {
    /// The command and its own settings.
    pub command: Command,
    /// How to log.
    pub log: LogConfig,
}

/// One command, ready to run.
#[derive(Debug)]
pub enum Command {
    /// One cycle.
    Pull(Box<PullConfig>),
    /// Proves the set-up; takes what a cycle takes.
    Check(Box<PullConfig>),
    /// Shows the state.
    Status {
        /// Where the tables are.
        database: DatabaseConfig,
        /// How jobs would be enqueued, for the line that tells.
        job: JobConfig,
        /// The form of the answer.
        format: Format,
    },
    /// Shows the SQL of `migrate`.
    MigratePrint,
    /// Makes or upgrades the tables.
    Migrate {
        /// Where the tables are.
        database: DatabaseConfig,
        /// Allows to rename or retype columns of tables that others made.
        yes: bool,
        /// The format of the answer.
        format: Format,
    },
    /// `rejected list`.
    RejectedList {
        /// Where the tables are.
        database: DatabaseConfig,
        /// The form of the answer.
        format: Format,
    },
    /// `rejected accept ID --reason TEXT`.
    RejectedAccept {
        /// Where the tables are.
        database: DatabaseConfig,
        /// `5`, `D5` or the public id, as typed.
        id: String,
        /// Why, in the person's words.
        reason: String,
    },
    /// `watermark set TIME`.
    WatermarkSet {
        /// Where the tables are.
        database: DatabaseConfig,
        /// The definition that the watermark belongs to.
        definition_id: String,
        /// The new watermark.
        time: DateTime<Utc>,
        /// Do not ask.
        yes: bool,
    },
    /// `watermark reset`.
    WatermarkReset {
        /// Where the tables are.
        database: DatabaseConfig,
        /// Do not ask.
        yes: bool,
    },
    /// `schedule crontab|kubernetes|systemd`.
    Schedule(Box<ScheduleConfig>),
    /// `completions SHELL`.
    Completions(clap_complete::Shell),
}

/// The settings of a cycle.
#[derive(Debug)]
pub struct PullConfig {
    /// DataPass and the account there.
    pub upstream: UpstreamConfig,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// The hand-off.
    pub job: JobConfig,
    /// Who hears of how it ended; nobody on a dry run.
    pub reports: Reports,
    /// List from here instead of the watermark.
    pub since: Option<DateTime<Utc>>,
    /// Write nothing.
    pub dry_run: bool,
    /// The form of the summary line.
    pub format: Format,
    /// Print nothing on success.
    pub quiet: bool,
    /// Rows asked for a page, 1 to 1000.
    pub page_size: u32,
    /// Pages in flight, 1 to 4.
    pub concurrency: usize,
    /// How far before the watermark a cycle looks again, at least one minute.
    pub lookback: Duration,
    /// The whole cycle's time.
    pub timeout: Duration,
    /// Further tries of one request.
    pub max_retries: u32,
}

/// Who hears of how a cycle ended, beside its output.
#[derive(Debug, Default)]
pub struct Reports {
    /// Sentry, when a DSN is set.
    pub sentry: Option<SentryConfig>,
    /// Where to write the Prometheus metrics.
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

/// How a created row is handed on.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// The choice.
    pub enqueue: Enqueue,
    /// The Active Job class.
    pub class: String,
    /// The queue.
    pub queue: String,
    /// The GlobalID application.
    pub app: String,
    /// What the job is called with.
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

/// `DATAPASS_JOB_ARGUMENT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobArgument {
    /// The record's GlobalID.
    Record,
    /// The record's id.
    Id,
}

/// Where failures are reported.
#[derive(Debug, Clone)]
pub struct SentryConfig {
    /// The DSN, already known to parse. Its key is not printed.
    pub dsn: SecretString,
    /// `SENTRY_ENVIRONMENT`.
    pub environment: String,
    /// Proxies and root certificates.
    pub http: HttpSettings,
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
    /// Log errors alone, unless `-v` or `RUST_LOG` says otherwise.
    pub quiet: bool,
    /// `RUST_LOG`, as found.
    pub rust_log: Option<String>,
    /// The form of a line.
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
    /// How long the process retries a transient cycle; what suits the schedule when absent.
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
