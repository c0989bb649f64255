//! The settings by concern: what a command asks for, one method each.
//!
//! A method looks at all of its settings before it gives up, so that every problem is reported.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use super::settings::Settings;
use super::{
    DatabaseConfig, Enqueue, Format, JobArgument, JobConfig, MonitorConfig, PingConfig, PullConfig,
    Reports, ScheduleConfig, ScheduleJob, Scheduler, SentryConfig, UpstreamConfig, addresses,
    values,
};
use crate::cli::{self, PullArgs};
use crate::types::cron::Cron;

/// The words of both formats.
const FORMATS: &[(&str, Format)] = &[("text", Format::Text), ("json", Format::Json)];

impl Format {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        values::word(text, FORMATS)
    }
}

impl Settings {
    /// What a cycle needs, but for its reports.
    pub fn pull(&mut self, args: &PullArgs) -> Option<PullConfig> {
        let since = args.since.as_deref().filter(|text| !text.is_empty());
        let since = since.map(|text| self.time("--since", text));
        let upstream = self.upstream();
        let database = self.database();
        let job = self.job();
        let page_size = self.number("DATAPASS_PAGE_SIZE", 1, 1_000);
        let concurrency = self.number("DATAPASS_CONCURRENCY", 1, 4);
        let timeout = self.timeout();
        let max_retries = self.number("DATAPASS_MAX_RETRIES", 0, 100);
        let retry_for = self.retry_for();
        Some(PullConfig {
            upstream: upstream?,
            database: database?,
            job: job?,
            since: since.flatten(),
            dry_run: args.dry_run,
            page_size: page_size?,
            concurrency: usize::try_from(concurrency?).ok()?,
            timeout: timeout?,
            max_retries: max_retries?,
            retry_for,
        })
    }

    fn upstream(&mut self) -> Option<UpstreamConfig> {
        let allow_http = self.allows_http();
        let auth_url = self.text("DATAPASS_AUTH_URL", |text| addresses::web_url(text, allow_http));
        let api_base_url =
            self.text("DATAPASS_API_BASE_URL", |text| addresses::base_url(text, allow_http));
        let client_id = self.text("DATAPASS_CLIENT_ID", |text| values::plain(text, 4_096));
        let client_secret = self.secret("DATAPASS_CLIENT_SECRET", |text| {
            values::plain(text, usize::MAX).map(SecretString::from)
        });
        let http = self.http(&[auth_url.as_ref(), api_base_url.as_ref()]);
        let definition_id = self.definition_id();
        Some(UpstreamConfig {
            auth_url: auth_url?,
            api_base_url: api_base_url?,
            client_id: client_id?,
            client_secret: client_secret?,
            http: http?,
            definition_id: definition_id?,
        })
    }

    fn allows_http(&mut self) -> bool {
        let words = [("1", true), ("0", false)];
        let allowed = self.text("DATAPASS_ALLOW_HTTP", |text| values::word(text, &words));
        allowed.unwrap_or_default()
    }

    /// Where PostgreSQL is.
    pub fn database(&mut self) -> Option<DatabaseConfig> {
        let url = self.secret("DATABASE_URL", addresses::database_url)?;
        Some(DatabaseConfig { url })
    }

    /// The definition whose requests are pulled.
    pub fn definition_id(&mut self) -> Option<String> {
        self.text("DATAPASS_DEFINITION_ID", |text| values::plain(text, 200))
    }

    /// How a created row's job is enqueued.
    pub fn job(&mut self) -> Option<JobConfig> {
        let modes =
            [("auto", Enqueue::Auto), ("good_job", Enqueue::GoodJob), ("none", Enqueue::None)];
        let enqueue = self.text("DATAPASS_ENQUEUE", |text| values::word(text, &modes));
        let class = self.text("DATAPASS_JOB_CLASS", values::ruby_class);
        let queue = self.text("DATAPASS_JOB_QUEUE", |text| values::plain(text, 200));
        let priority = self.text("DATAPASS_JOB_PRIORITY", values::integer);
        let app = self.text("DATAPASS_JOB_APP", values::global_id_app);
        let arguments = [("record", JobArgument::Record), ("id", JobArgument::Id)];
        let argument = self.text("DATAPASS_JOB_ARGUMENT", |text| values::word(text, &arguments));
        Some(JobConfig {
            enqueue: enqueue?,
            class: class?,
            queue: queue?,
            priority: priority?,
            app: app?,
            argument: argument?,
        })
    }

    /// Who is notified of a cycle, as far as each setting is valid: of one that cannot start, too.
    pub fn reports(&mut self) -> Reports {
        let allow_http = self.allows_http();
        Reports {
            definition_id: self.definition_id(),
            sentry: self.sentry(allow_http),
            ping: self.ping(allow_http),
            metrics_file: self
                .setting("DATAPASS_METRICS_FILE", |path| values::writable_file(path.into())),
        }
    }

    fn ping(&mut self, allow_http: bool) -> Option<PingConfig> {
        let url = self.secret("DATAPASS_PING_URL", |text| addresses::web_url(text, allow_http))?;
        let http = self.http(&[Some(&url)])?;
        Some(PingConfig { url, http })
    }

    fn sentry(&mut self, allow_http: bool) -> Option<SentryConfig> {
        let dsn = self.secret("SENTRY_DSN", |text| addresses::sentry_dsn(text, allow_http));
        let environment = self.text("SENTRY_ENVIRONMENT", |text| values::plain(text, 64));
        let monitor = self.text("SENTRY_MONITOR_SLUG", values::slug);
        let monitor = monitor.and_then(|slug| {
            let (cron, timeout) = (self.cron(), self.timeout());
            Some(MonitorConfig {
                slug,
                cron: cron?,
                timeout: timeout?,
                retry_for: self.retry_for(),
            })
        });
        if monitor.is_some() && dsn.is_none() {
            self.warn("SENTRY_MONITOR_SLUG has no effect without SENTRY_DSN");
        }
        let dsn = dsn?;
        Some(SentryConfig {
            http: self.http(&[Some(&dsn.envelope_api_url())])?,
            dsn,
            environment: environment?,
            monitor,
        })
    }

    /// What an entry for a scheduler needs; its env file may not exist yet, or not for us.
    pub fn schedule(&mut self, scheduler: cli::Scheduler) -> Option<ScheduleConfig> {
        let mut retry_for = self.retry_for();
        let scheduler = match scheduler {
            cli::Scheduler::Crontab { retry_for: text } => {
                if let Some(text) = text.filter(|text| !text.is_empty()) {
                    retry_for = self.argument("--retry-for", values::age(&text));
                }
                Some(Scheduler::Crontab)
            }
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
        let (cron, timeout) = (self.cron(), self.timeout());
        Some(ScheduleConfig {
            scheduler: scheduler?,
            cron: cron?,
            env_file: self.named_env_file(),
            timeout: timeout?,
            retry_for,
        })
    }

    /// A time that is not in the future.
    pub fn time(&mut self, name: &str, text: &str) -> Option<DateTime<Utc>> {
        let time = values::instant(text, self.now);
        self.argument(name, time)
    }

    fn cron(&mut self) -> Option<Cron> {
        self.text("DATAPASS_PULL_CRON", |text| values::plain(text, 200)?.parse())
    }

    fn timeout(&mut self) -> Option<Duration> {
        self.age("DATAPASS_TIMEOUT")
    }

    fn retry_for(&mut self) -> Option<Duration> {
        self.age("DATAPASS_RETRY_FOR")
    }

    fn age(&mut self, name: &'static str) -> Option<Duration> {
        self.text(name, values::age)
    }

    fn number(&mut self, name: &'static str, min: u32, max: u32) -> Option<u32> {
        self.text(name, |text| values::number(text, min, max))
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
