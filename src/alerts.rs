//! Reports to Sentry: what a person should look at, and nothing private.
//!
//! Events are made by hand of enumerated words, counts, times and references such as `D5`. No
//! integration of the SDK is on, so that it adds no host name, environment, breadcrumb or trace.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use log::debug;
use secrecy::ExposeSecret;
use sentry::protocol::{Event, Level, Value};
use sentry::types::Dsn;
use sentry::{ClientOptions, Hub, Scope};

use crate::budget::Budget;
use crate::config::SentryConfig;
use crate::cycle::Account;
use crate::error::{Failure, Kind, Reason};
use crate::logging;
use crate::tls;

/// How long the reports may take at most; they never change how a cycle ended.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// After how long without a success any failure is worth a report.
const SILENCE_DAYS: i64 = 2;

/// One report: what it is about, for people and for grouping.
#[derive(Debug, PartialEq, Eq)]
struct Alert {
    level: Level,
    message: String,
    fingerprint: Vec<String>,
}

/// Reports a cycle that ended, and gives up when that takes too long: Sentry must never change how
/// long a cycle takes, nor how it ends.
pub fn report_in_time(
    config: &SentryConfig,
    account: Account,
    failure: Option<Failure>,
    budget: &Budget,
) {
    let (done, ended) = mpsc::channel();
    // A signal that comes now ends the wait.
    let signalled = done.clone();
    budget.on_stop(move || {
        let _ = signalled.send(());
    });
    let config = config.clone();
    thread::spawn(move || {
        report(&config, &account, failure.as_ref());
        let _ = done.send(());
    });
    if ended
        .recv_timeout(budget.afterwards(FLUSH_TIMEOUT))
        .is_err()
    {
        debug!("The report to Sentry was not sent in time");
    }
}

/// Reports what there is to report.
fn report(config: &SentryConfig, account: &Account, failure: Option<&Failure>) {
    let alerts = alerts(account, failure);
    // Without one root certificate the SDK's client cannot be made, and it panics.
    if alerts.is_empty() || tls::roots(None).is_err() {
        return;
    }
    let Ok(dsn) = config.dsn.expose_secret().parse::<Dsn>() else {
        return;
    };
    let mut options = ClientOptions::new()
        .default_integrations(false)
        .send_default_pii(false)
        .max_breadcrumbs(0)
        .attach_stacktrace(false)
        .shutdown_timeout(FLUSH_TIMEOUT);
    options.dsn = Some(dsn);
    options.release = Some(concat!("datapass-pull@", env!("CARGO_PKG_VERSION")).into());
    options.environment = config.environment.clone().map(Into::into);
    // The SDK would look the host's name up otherwise.
    options.server_name = Some("".into());
    let guard = sentry::init(options);
    let hub = Hub::new(
        Hub::current().client(),
        std::sync::Arc::new(Scope::default()),
    );
    for alert in alerts {
        hub.capture_event(event(alert, account, failure));
    }
    guard.close(Some(FLUSH_TIMEOUT));
}

/// Says what of a cycle is worth a person's look.
fn alerts(account: &Account, failure: Option<&Failure>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut add = |level, message: String, fingerprint: &[&str]| {
        let fingerprint = fingerprint.iter().map(|word| word.to_string());
        let fingerprint = std::iter::once("datapass-pull".to_owned())
            .chain(fingerprint)
            .collect();
        alerts.push(Alert {
            level,
            message,
            fingerprint,
        });
    };
    if let Some(failure) = failure {
        let silent = account
            .last_success
            .is_some_and(|last| Utc::now() - last.started_at > TimeDelta::days(SILENCE_DAYS));
        let word = failure.reason.as_str();
        if failure.kind() == Kind::Permanent || failure.reason == Reason::Unauthorized {
            add(
                Level::Error,
                format!("The pull failed: {word}"),
                &["failure", word],
            );
        } else if silent {
            let message = format!("The pull has not succeeded for two days: {word}");
            add(Level::Error, message, &["silence"]);
        }
    }
    for (reference, reasons) in &account.findings.rejected {
        let message = format!("Entry {reference} is rejected: {}", reasons.join(", "));
        add(Level::Warning, message, &["rejected", reference]);
    }
    for reference in &account.findings.dropped {
        let message = format!(
            "Entry {reference} has no validation time and is dropped; only `datapass-pull \
             watermark reset` takes it"
        );
        add(Level::Warning, message, &["dropped", reference]);
    }
    let missing = i64::try_from(account.summary.missing).unwrap_or(i64::MAX);
    if account
        .last_success
        .is_some_and(|last| missing > last.missing)
    {
        let message = format!("{missing} entries before the watermark are not in the table");
        add(Level::Warning, message, &["missing"]);
    }
    if account.findings.future > 0 {
        let message = format!(
            "{} entries are dated in the future",
            account.findings.future
        );
        add(Level::Warning, message, &["future"]);
    }
    alerts
}

fn event(alert: Alert, account: &Account, failure: Option<&Failure>) -> Event<'static> {
    let counters = account
        .summary
        .counters()
        .map(|(name, count)| (name, Value::from(count)));
    let mut tags = BTreeMap::from([("run_id".to_owned(), logging::run_id().to_string())]);
    if let Some(failure) = failure {
        tags.insert("stage".to_owned(), failure.stage.as_str().to_owned());
        tags.insert("reason".to_owned(), failure.reason.as_str().to_owned());
    }
    Event {
        level: alert.level,
        message: Some(alert.message),
        fingerprint: alert
            .fingerprint
            .into_iter()
            .map(Into::into)
            .collect::<Vec<_>>()
            .into(),
        extra: counters
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect(),
        tags: tags.into_iter().collect(),
        ..Event::default()
    }
}
