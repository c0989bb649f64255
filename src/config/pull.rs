//! A cycle.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::settings::{Settings, all};
use super::{Format, JobConfig, UpstreamConfig, addresses, values};
use crate::cli::PullArgs;
use crate::db::url::DatabaseUrl;

/// The settings of a cycle.
#[derive(Debug)]
pub struct PullConfig {
    /// DataPass and the account there.
    pub upstream: UpstreamConfig,
    /// `DATABASE_URL`.
    pub database: DatabaseUrl,
    /// How a created row's job is enqueued.
    pub job: JobConfig,
    /// `--since`.
    pub since: Option<DateTime<Utc>>,
    /// `--dry-run`: write nothing.
    pub dry_run: bool,
    /// `DATAPASS_PAGE_SIZE`: rows per page, 1 to 1000.
    pub page_size: usize,
    /// `DATAPASS_CONCURRENCY`: concurrent page requests, 1 to 4.
    pub concurrency: usize,
    /// `DATAPASS_TIMEOUT`: the deadline of one cycle.
    pub timeout: Duration,
    /// `DATAPASS_MAX_RETRIES`: retries per request and per connection to PostgreSQL.
    pub max_retries: u32,
    /// `DATAPASS_RETRY_FOR`: how long a cycle that ends transient is run again.
    pub retry_for: Option<Duration>,
    /// Whether to show how far the listing is, which is for an operator who watches.
    pub shows_progress: bool,
}

impl Settings {
    /// What a cycle needs, but for its reports.
    pub fn pull(&mut self, args: &PullArgs) -> Option<PullConfig> {
        let since = args.since.as_deref().filter(|text| !text.is_empty());
        all!(PullConfig {
            since: Some(since.and_then(|text| self.time("--since", text))),
            upstream: self.upstream(),
            database: self.database(),
            job: self.job(),
            dry_run: Some(args.dry_run),
            page_size: self.text("DATAPASS_PAGE_SIZE", |it| values::number(it, 1..=1_000)),
            concurrency: self.text("DATAPASS_CONCURRENCY", |it| values::number(it, 1..=4)),
            timeout: self.timeout(),
            max_retries: self.text("DATAPASS_MAX_RETRIES", |it| values::number(it, 0..=100)),
            retry_for: Some(self.retry_for()),
            shows_progress: Some(!args.quiet && self.log.format == Format::Text),
        })
    }

    /// Where PostgreSQL is.
    pub fn database(&mut self) -> Option<DatabaseUrl> {
        self.secret("DATABASE_URL", addresses::database_url)
    }

    /// A time that is not in the future.
    pub fn time(&mut self, name: &str, text: &str) -> Option<DateTime<Utc>> {
        let time = values::instant(text, self.now);
        self.argument(name, time)
    }

    pub(super) fn timeout(&mut self) -> Option<Duration> {
        self.text("DATAPASS_TIMEOUT", values::age)
    }

    pub(super) fn retry_for(&mut self) -> Option<Duration> {
        self.text("DATAPASS_RETRY_FOR", values::age)
    }
}
