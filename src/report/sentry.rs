//! Sentry: check-ins of its Crons, and events for what an operator should look at.
//!
//! Events consist of enumerated words, counts, times, references such as `D5` and locations in this
//! source. Envelopes are sent by our own client: the SDK's would take its transport, its
//! integrations and the check of certificates from the environment, and report no failure.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use sentry_types::protocol::v7::{
    Envelope, Event, Level, MonitorCheckIn, MonitorCheckInStatus, MonitorConfig, MonitorSchedule,
    Value,
};
use uuid::Uuid;

use crate::config::{self, SentryConfig};
use crate::cycle::outcome::Outcome;
use crate::cycle::remarks::{Warning, warnings};
use crate::error::{Exit, Failure, Reason, Stage};
use crate::net::client::Posts;
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
/// The topics of the warnings that are reported before rejected entries, the most significant first.
const TOPICS: [&str; 3] = ["future", "late", "deleted"];
/// How many rejected entries get an event of their own: events are sent one after the other, and the
/// time is short.
const MAX_OWN_EVENTS: usize = 10;

/// Makes what is sent at a start or an end: a check-in if there is a monitor, and events, one envelope
/// each. `end` is how the last cycle ended, and how long all of them took.
pub(super) fn posts(
    config: &SentryConfig,
    id: Uuid,
    end: Option<(Exit, Duration)>,
    events: Vec<Event<'static>>,
) -> Posts {
    let environment = &config.environment;
    let check_in = config.monitor.as_ref().map(|monitor| {
        Envelope::from(MonitorCheckIn {
            check_in_id: id,
            monitor_slug: monitor.slug.clone(),
            status: match end {
                None => MonitorCheckInStatus::InProgress,
                Some((Exit::Success, _)) => MonitorCheckInStatus::Ok,
                Some(_) => MonitorCheckInStatus::Error,
            },
            environment: Some(environment.clone()),
            duration: end.map(|(_, duration)| duration.as_secs_f64()),
            monitor_config: Some(monitor_config(monitor)),
        })
    });
    let events = events.into_iter().map(|event| {
        Envelope::from(Event { environment: Some(environment.clone().into()), ..event })
    });
    let body = |envelope: Envelope| {
        let mut body = Vec::new();
        envelope.to_writer(&mut body).ok().map(|()| body)
    };
    Posts {
        settings: config.http.clone(),
        url: config.dsn.envelope_api_url(),
        header: ("X-Sentry-Auth", config.dsn.to_auth(Some(RELEASE)).to_string()),
        bodies: check_in.into_iter().chain(events).filter_map(body).collect(),
    }
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

/// Makes the events of a cycle that ended, the most significant first.
pub(super) fn events(
    outcome: &Outcome,
    failure: Option<&Failure>,
    definition: Option<&str>,
) -> Vec<Event<'static>> {
    let mut events = match failure {
        Some(failure) => of_failure(outcome.history.as_ref(), failure).into_iter().collect(),
        None => of_warnings(&warnings(outcome)),
    };
    for event in &mut events {
        event.tags.insert("run_id".to_owned(), run_id::current().to_string());
        event.tags.extend(definition.map(|id| ("definition".to_owned(), id.to_owned())));
        let counters = outcome.run.summary.counters();
        event.extra = counters.map(|(name, count)| (name, Value::from(count))).collect();
    }
    events
}

/// Returns the events of a success.
fn of_warnings(warnings: &[Warning<'_>]) -> Vec<Event<'static>> {
    let about = |topic| warnings.iter().filter(move |it| it.topic == topic);
    let more = about("rejected").count().saturating_sub(MAX_OWN_EVENTS);
    let message =
        format!("{more} more entries are rejected; `datapass-pull rejected list` names them");
    let more = (more > 0).then_some(Warning { topic: "rejected", reference: None, message });
    let own = about("rejected").take(MAX_OWN_EVENTS);
    let reported = TOPICS.into_iter().flat_map(about).chain(&more).chain(own);
    let events = reported.map(|Warning { topic, reference, message }| {
        let fingerprint: Vec<&str> = std::iter::once(*topic).chain(*reference).collect();
        event(Level::Warning, Stage::Create, topic, message, &fingerprint)
    });
    events.collect()
}

/// Returns the event of a failure, if it is reported.
///
/// A permanent one always is; a 401 when it lasts, for then the secret was rotated; any other when
/// nothing succeeded for long, or when that cannot be known.
fn of_failure(history: Option<&History>, failure: &Failure) -> Option<Event<'static>> {
    let reason = failure.reason.as_str();
    let failed = format!("The cycle failed in {}: {reason}", failure.stage.as_str());
    let (level, message, fingerprint) = match (failure.reason, history) {
        (Reason::Panic, _) => {
            let location = panics::location().unwrap_or("an unknown location");
            let message = format!("Internal error at {location}");
            (Level::Fatal, message, vec!["failure", reason, location])
        }
        _ if failure.exit() == Exit::Permanent => (Level::Error, failed, vec!["failure", reason]),
        (Reason::Unauthorized, history) if history.is_none_or(is_lasting) => {
            let message = format!("{failed}; was the secret rotated?");
            (Level::Error, message, vec!["failure", reason])
        }
        (_, Some(history)) if is_silent(history) => {
            let message = format!("{failed}; nothing succeeded for {SILENCE_DAYS} days");
            (Level::Error, message, vec!["silence"])
        }
        // A signal does not indicate a wrong set-up.
        (_, Some(_)) | (Reason::Interrupted, None) => return None,
        (_, None) => {
            let message = format!("{failed}; when it succeeded last is not known");
            (Level::Warning, message, vec!["failure", reason])
        }
    };
    Some(event(level, failure.stage, reason, &message, &fingerprint))
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

/// Makes an event about the `reason` of a failure or the topic of a warning. `fingerprint` is what
/// makes two events one issue, behind the name of this program.
fn event(
    level: Level,
    stage: Stage,
    reason: &str,
    message: &str,
    fingerprint: &[&str],
) -> Event<'static> {
    let fingerprint = ["datapass-pull"].iter().chain(fingerprint);
    let tags = [("stage", stage.as_str()), ("reason", reason)];
    Event {
        level,
        message: Some(message.to_owned()),
        fingerprint: fingerprint.map(|word| (*word).to_owned().into()).collect(),
        release: Some(RELEASE.into()),
        tags: tags.map(|(name, tag)| (name.to_owned(), tag.to_owned())).into(),
        ..Event::default()
    }
}
