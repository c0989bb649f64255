//! Sentry: check-ins of its Crons, and events for what an operator should look at.
//!
//! Events consist of enumerated words, counts, times, references such as `D5` and locations in this
//! source. Envelopes are sent by our own client: the SDK's would take its transport, its
//! integrations and the check of certificates from the environment, and report no failure.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use sentry_types::protocol::v7::{
    Envelope, Event, Level, MonitorCheckIn, MonitorCheckInStatus, MonitorConfig, MonitorSchedule,
    Value,
};
use uuid::Uuid;

use super::Delivery;
use crate::config::{self, SentryConfig};
use crate::cycle::outcome::{Outcome, first};
use crate::error::{Failure, Kind, Reason, Stage};
use crate::net::http::Post;
use crate::process::panics;
use crate::process::run_id;
use crate::state::runs::History;

/// The name and version that Sentry is given.
const RELEASE: &str = concat!("datapass-pull@", env!("CARGO_PKG_VERSION"));
const MINUTE: Duration = Duration::from_secs(60);
/// The longest margin and run time that a monitor may have, in minutes.
const MAX_MONITOR_MINUTES: u64 = 40_320;
/// After how many days without a success any failure is reported.
const SILENCE_DAYS: i64 = 2;
/// How many rejected entries get an event of their own, and how many references a message names:
/// events are sent one after the other, and the time is short.
const MAX_OWN_EVENTS: usize = 10;

/// One event: its content and its grouping.
#[derive(Debug)]
struct Alert {
    level: Level,
    message: String,
    /// What makes two events one issue, behind the name of this program.
    fingerprint: Vec<String>,
    stage: Stage,
    /// What it is about, in one word: the failure's reason, or the kind of entry.
    reason: &'static str,
}

/// How a process ended, for its check-in.
pub(super) struct End {
    /// How long all of its cycles took.
    pub duration: Duration,
    /// Whether the last one succeeded.
    pub is_success: bool,
}

/// Makes what is sent of envelopes.
pub(super) fn delivery(
    config: &SentryConfig,
    envelopes: impl IntoIterator<Item = Envelope>,
) -> Delivery<'_> {
    let auth = config.dsn.to_auth(Some(RELEASE)).to_string();
    let post = |envelope: Envelope| {
        let mut body = Vec::new();
        envelope.to_writer(&mut body).ok()?;
        Some(Post {
            url: config.dsn.envelope_api_url(),
            header: ("X-Sentry-Auth", auth.clone()),
            body,
        })
    };
    Delivery {
        receiver: "Sentry",
        http: &config.http,
        posts: envelopes.into_iter().filter_map(post).collect(),
    }
}

/// Makes the check-in of a start or an end, if there is a monitor.
pub(super) fn check_in(config: &SentryConfig, id: Uuid, end: Option<End>) -> Option<Envelope> {
    let monitor = config.monitor.as_ref()?;
    let check_in = MonitorCheckIn {
        check_in_id: id,
        monitor_slug: monitor.slug.clone(),
        status: match &end {
            None => MonitorCheckInStatus::InProgress,
            Some(end) if end.is_success => MonitorCheckInStatus::Ok,
            Some(_) => MonitorCheckInStatus::Error,
        },
        environment: Some(config.environment.clone()),
        duration: end.map(|end| end.duration.as_secs_f64()),
        monitor_config: Some(monitor_config(monitor)),
    };
    let mut envelope = Envelope::new();
    envelope.add_item(check_in);
    Some(envelope)
}

/// Returns the settings that Sentry gives the monitor.
fn monitor_config(monitor: &config::MonitorConfig) -> MonitorConfig {
    let minutes = |time: Duration| Some(time.as_secs().div_ceil(60).min(MAX_MONITOR_MINUTES));
    let retries = monitor.retry_for.unwrap_or_default();
    MonitorConfig {
        schedule: MonitorSchedule::Crontab { value: monitor.cron.to_string() },
        // A start may wait for the process before it to end.
        checkin_margin: minutes(retries.saturating_add(monitor.timeout)),
        // The last retry may begin just before the retries end; a minute more for its reports.
        max_runtime: minutes(retries.saturating_add(monitor.timeout + MINUTE)),
        timezone: Some("UTC".to_owned()),
        failure_issue_threshold: None,
        recovery_threshold: None,
    }
}

/// Makes the events of a cycle that ended, one envelope each.
pub(super) fn events(
    config: &SentryConfig,
    definition: Option<&str>,
    outcome: &Outcome,
    failure: Option<&Failure>,
) -> Vec<Envelope> {
    let alerts = alerts(outcome, failure).into_iter();
    let event = |alert| event(alert, outcome, config, definition).into();
    alerts.map(event).collect()
}

/// Returns what an operator should look at, the most significant first.
fn alerts(outcome: &Outcome, failure: Option<&Failure>) -> Vec<Alert> {
    if let Some(failure) = failure {
        return of_failure(outcome.history.as_ref(), failure).into_iter().collect();
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
        let message = format!("{} entries are dated after DataPass' own clock", findings.future);
        add("future", message, &["future"]);
    }
    if !findings.late.is_empty() {
        let message = format!(
            "{} entries should have been known before and are created late: {}",
            findings.late.len(),
            first(&findings.late, MAX_OWN_EVENTS)
        );
        add("late", message, &["late"]);
    }
    if !findings.revalidated_deleted.is_empty() {
        let message = format!(
            "{} entries were validated again and their rows are deleted: {}",
            findings.revalidated_deleted.len(),
            first(&findings.revalidated_deleted, MAX_OWN_EVENTS)
        );
        add("deleted", message, &["deleted"]);
    }
    let rejected = findings.rejected.len().checked_sub(MAX_OWN_EVENTS);
    if let Some(more) = rejected.filter(|more| *more > 0) {
        let message =
            format!("{more} more entries are rejected; `datapass-pull rejected list` names them");
        add("rejected", message, &["rejected"]);
    }
    for (reference, reasons) in findings.rejected.iter().take(MAX_OWN_EVENTS) {
        let message = format!("Entry {reference} is rejected: {}", reasons.join(", "));
        add("rejected", message, &["rejected", reference]);
    }
    alerts
}

/// Returns the event of a failure, if it is reported.
///
/// A permanent one always is; a 401 when it lasts, for then the secret was rotated; any other when
/// nothing succeeded for long, or when that cannot be known.
fn of_failure(history: Option<&History>, failure: &Failure) -> Option<Alert> {
    let reason = failure.reason.as_str();
    let failed = format!("The cycle failed in {}: {reason}", failure.stage.as_str());
    let (level, message, fingerprint) = if failure.reason == Reason::Panic {
        let location = panics::location().unwrap_or("an unknown location");
        let message = format!("Internal error at {location}");
        (Level::Fatal, message, vec!["failure", reason, location])
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
            // A signal is no sign of a wrong set-up.
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

/// Returns whether nothing succeeded for long; a program that never succeeded counts from its first
/// cycle.
fn is_silent(history: &History) -> bool {
    history
        .last_success
        .or(history.first_started_at)
        .is_some_and(|since| Utc::now() - since > TimeDelta::days(SILENCE_DAYS))
}

/// Returns whether a 401 is more than a passing fault: the last cycle failed so too, or none succeeded
/// recently or ever.
fn is_lasting(history: &History) -> bool {
    history.last_reason.as_deref() == Some(Reason::Unauthorized.as_str())
        || history.last_success.is_none()
        || is_silent(history)
}

fn event(
    alert: Alert,
    outcome: &Outcome,
    config: &SentryConfig,
    definition: Option<&str>,
) -> Event<'static> {
    let counters = outcome.run.summary.counters();
    let words = std::iter::once("datapass-pull".to_owned()).chain(alert.fingerprint);
    let mut tags = BTreeMap::from([
        ("run_id".to_owned(), run_id::current().to_string()),
        ("stage".to_owned(), alert.stage.as_str().to_owned()),
        ("reason".to_owned(), alert.reason.to_owned()),
    ]);
    tags.extend(definition.map(|id| ("definition".to_owned(), id.to_owned())));
    Event {
        level: alert.level,
        message: Some(alert.message),
        fingerprint: words.map(Into::into).collect::<Vec<_>>().into(),
        release: Some(RELEASE.into()),
        environment: Some(config.environment.clone().into()),
        tags,
        extra: counters
            .into_iter()
            .map(|(name, count)| (name.to_owned(), Value::from(count)))
            .collect(),
        ..Event::default()
    }
}
