//! Who is notified of a cycle, beside its output.

use std::path::PathBuf;
use std::time::Duration;

use sentry_types::Dsn;
use url::Url;

use super::settings::{Settings, all};
use super::{addresses, values};
use crate::net::client::HttpSettings;
use crate::types::cron::Cron;

/// Who is notified. It holds secrets and is not printed.
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

/// A service that speaks Healthchecks' protocol.
#[derive(Clone)]
pub struct PingConfig {
    /// `DATAPASS_PING_URL`, which is a secret.
    pub url: Url,
    /// Proxies and root certificates.
    pub http: HttpSettings,
}

impl Settings {
    /// Who is notified of a cycle, as far as each setting is valid: of one that cannot start, too.
    pub fn reports(&mut self) -> Reports {
        let metrics_file =
            self.setting("DATAPASS_METRICS_FILE", |path| values::writable_file(path.into()));
        Reports {
            definition_id: self.definition_id(),
            sentry: self.sentry(),
            ping: self.ping(),
            metrics_file,
        }
    }

    fn sentry(&mut self) -> Option<SentryConfig> {
        let plain_http = self.plain_http();
        let dsn = self.secret("SENTRY_DSN", |it| addresses::sentry_dsn(it, plain_http));
        let environment = self.text("SENTRY_ENVIRONMENT", |it| values::plain(it, 64));
        let monitor = self.monitor();
        if monitor.is_some() && dsn.is_none() {
            let warning = "SENTRY_MONITOR_SLUG has no effect without SENTRY_DSN";
            self.warnings.insert(warning.to_owned());
        }
        let dsn = dsn?;
        let http = self.http(&[Some(&dsn.envelope_api_url())])?;
        Some(SentryConfig { dsn, environment: environment?, http, monitor })
    }

    fn monitor(&mut self) -> Option<MonitorConfig> {
        if !self.values.contains_key("SENTRY_MONITOR_SLUG") {
            return None;
        }
        all!(MonitorConfig {
            slug: self.text("SENTRY_MONITOR_SLUG", values::slug),
            cron: self.cron(),
            timeout: self.timeout(),
            retry_for: Some(self.retry_for()),
        })
    }

    fn ping(&mut self) -> Option<PingConfig> {
        let plain_http = self.plain_http();
        let url = self.secret("DATAPASS_PING_URL", |it| addresses::web_url(it, plain_http))?;
        let http = self.http(&[Some(&url)])?;
        Some(PingConfig { url, http })
    }
}
