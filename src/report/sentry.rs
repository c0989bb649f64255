//! Reports to Sentry: what a person should look at, and nothing private.
//!
//! Events are made by hand of enumerated words, counts, times, references such as `D5` and places
//! in this source. The client is made by hand too: the SDK's own set-up would take its transport,
//! its integrations and the check of certificates from the environment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use log::debug;
use sentry::protocol::{Event, Level, Value};
use sentry::transports::ReqwestHttpTransportOptions;
use sentry::{Client, ClientOptions, TransportOptions};

use crate::config::SentryConfig;
use crate::cycle::outcome::Outcome;
use crate::error::{Failure, Kind, Reason, Stage};
use crate::net::http;
use crate::process::panics;
use crate::process::run_id;
use crate::process::supervise::after_run;
use crate::state::runs::History;

/// How long the reports may take at most; they never change how a cycle ended.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// After how many days without a success any failure is worth a report.
const SILENCE_DAYS: i64 = 2;
/// How many entries of a kind get a report of their own: they are sent one after the other, and
/// the time is short.
const MAX_OWN_REPORTS: usize = 10;

/// One report: what it is about, for people and for grouping.
#[derive(Debug)]
struct Alert {
    level: Level,
    message: String,
    /// What makes two reports one issue, behind the name of this program.
    fingerprint: Vec<String>,
    stage: Stage,
    /// What it is about, in one word: the failure's reason, or the kind of entry.
    reason: &'static str,
}

/// Reports a cycle that ended, as a best effort: Sentry must never change how long a cycle takes, nor
/// how it ends.
pub fn report_in_time(config: &SentryConfig, outcome: Outcome, failure: Option<Failure>) {
    let config = config.clone();
    let reported = after_run(FLUSH_TIMEOUT, move |_| {
        report(&config, &outcome, failure.as_ref());
    });
    if let Err(why) = reported {
        debug!("The report to Sentry is not sent: {why}");
    }
}

/// Reports what there is to report.
fn report(config: &SentryConfig, outcome: &Outcome, failure: Option<&Failure>) {
    let alerts = alerts(outcome, failure);
    if alerts.is_empty() {
        return;
    }
    let client = match client(config) {
        Ok(client) => client,
        Err(problem) => {
            debug!("There is no way to Sentry: {problem}");
            return;
        }
    };
    for alert in alerts {
        client.capture_event(event(alert, outcome), None);
    }
    client.close(Some(FLUSH_TIMEOUT));
}

/// Makes the SDK's client over a transport that checks certificates like any other of ours.
fn client(config: &SentryConfig) -> Result<Client, String> {
    let dsn = config.dsn.clone();
    let url = dsn.envelope_api_url();
    let http = http::client_builder(&[&url], &config.http).map_err(|failure| failure.message)?;
    let http = http
        .timeout(FLUSH_TIMEOUT)
        .build()
        .map_err(|_| "the HTTP client cannot be set up".to_owned())?;
    let mut options = ClientOptions::new()
        .default_integrations(false)
        .send_default_pii(false)
        .max_breadcrumbs(0)
        .attach_stacktrace(false)
        .shutdown_timeout(FLUSH_TIMEOUT);
    options.dsn = Some(dsn);
    options.release = Some(concat!("datapass-pull@", env!("CARGO_PKG_VERSION")).into());
    options.environment = Some(config.environment.clone().into());
    let transport = TransportOptions::try_from_client_options(&options)
        .ok_or_else(|| "the DSN is missing".to_owned())?;
    let transport = ReqwestHttpTransportOptions::from(transport).with_client(http);
    options.transport = Some(Arc::new(Arc::new(transport.build())));
    Ok(Client::with_options(options))
}

/// Says what of a cycle is worth a person's look, the most telling first.
fn alerts(outcome: &Outcome, failure: Option<&Failure>) -> Vec<Alert> {
    if let Some(failure) = failure {
        return of_failure(outcome.history.as_ref(), failure)
            .into_iter()
            .collect();
    }
    let mut alerts = Vec::new();
    let mut add = |reason, message: String, fingerprint: &[&str]| {
        alerts.push(Alert {
            level: Level::Warning,
            message,
            fingerprint: fingerprint.iter().map(|word| word.to_string()).collect(),
            stage: Stage::Create,
            reason,
        });
    };
    let findings = &outcome.findings;
    if findings.future > 0 {
        let message = format!(
            "{} entries are dated after DataPass' own clock",
            findings.future
        );
        add("future", message, &["future"]);
    }
    if !findings.late.is_empty() {
        let message = format!(
            "{} entries should have been known before and are created late: {}",
            findings.late.len(),
            first(&findings.late)
        );
        add("late", message, &["late"]);
    }
    if !findings.revalidated_deleted.is_empty() {
        let message = format!(
            "{} entries were validated again and their rows are deleted: {}",
            findings.revalidated_deleted.len(),
            first(&findings.revalidated_deleted)
        );
        add("deleted", message, &["deleted"]);
    }
    let rejected = findings.rejected.len().checked_sub(MAX_OWN_REPORTS);
    if let Some(more) = rejected.filter(|more| *more > 0) {
        let message =
            format!("{more} more entries are rejected; `datapass-pull rejected list` names them");
        add("rejected", message, &["rejected"]);
    }
    for (reference, reasons) in findings.rejected.iter().take(MAX_OWN_REPORTS) {
        let message = format!("Entry {reference} is rejected: {}", reasons.join(", "));
        add("rejected", message, &["rejected", reference]);
    }
    alerts
}

/// Names the first references of a list.
fn first(references: &[String]) -> String {
    let named: Vec<&str> = references
        .iter()
        .take(MAX_OWN_REPORTS)
        .map(String::as_str)
        .collect();
    named.join(", ")
}

/// Tells whether a failure is worth a report.
///
/// A permanent one always is; a 401 when it lasts, for then the secret was rotated; any other when
/// nothing succeeded for long, or when that cannot be known.
fn of_failure(history: Option<&History>, failure: &Failure) -> Option<Alert> {
    let reason = failure.reason.as_str();
    let failed = format!("The pull failed in {}: {reason}", failure.stage.as_str());
    let (level, message, fingerprint) = if failure.reason == Reason::Panic {
        let place = panics::location().unwrap_or("an unknown place");
        let message = format!("The pull has a defect and stopped at {place}");
        (Level::Fatal, message, vec!["failure", reason, place])
    } else if failure.kind() == Kind::Permanent {
        (Level::Error, failed, vec!["failure", reason])
    } else if failure.reason == Reason::Unauthorized && history.is_none_or(is_lasting) {
        let message = format!("{failed}; was the secret rotated?");
        (Level::Error, message, vec!["failure", reason])
    } else {
        match history {
            Some(history) if is_silent(history) => {
                let message = format!("{failed}; nothing succeeded for {SILENCE_DAYS} days");
                (Level::Error, message, vec!["silence"])
            }
            Some(_) => return None,
            // A signal says nothing about the set-up.
            None if failure.reason == Reason::Interrupted => return None,
            None => {
                let message = format!("{failed}; when it succeeded last is not known");
                (Level::Warning, message, vec!["failure", reason])
            }
        }
    };
    Some(Alert {
        level,
        message,
        fingerprint: fingerprint.into_iter().map(str::to_owned).collect(),
        stage: failure.stage,
        reason,
    })
}

/// Tells whether nothing succeeded for long; a program that never succeeded counts from its first
/// cycle.
fn is_silent(history: &History) -> bool {
    history
        .last_success
        .map(|last| last.started_at)
        .or(history.first_started_at)
        .is_some_and(|since| Utc::now() - since > TimeDelta::days(SILENCE_DAYS))
}

/// Tells whether a 401 is more than a passing fault: it came before too, or nothing ever succeeded
/// or did so recently.
fn is_lasting(history: &History) -> bool {
    history.last_reason.as_deref() == Some(Reason::Unauthorized.as_str())
        || history.last_success.is_none()
        || is_silent(history)
}

fn event(alert: Alert, outcome: &Outcome) -> Event<'static> {
    let counters = outcome.run.summary.counters();
    let words = std::iter::once("datapass-pull".to_owned()).chain(alert.fingerprint);
    Event {
        level: alert.level,
        message: Some(alert.message),
        fingerprint: words.map(Into::into).collect::<Vec<_>>().into(),
        tags: BTreeMap::from([
            ("run_id".to_owned(), run_id::current().to_string()),
            ("stage".to_owned(), alert.stage.as_str().to_owned()),
            ("reason".to_owned(), alert.reason.to_owned()),
        ]),
        extra: counters
            .into_iter()
            .map(|(name, count)| (name.to_owned(), Value::from(count)))
            .collect(),
        ..Event::default()
    }
}
