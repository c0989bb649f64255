//! Who is notified of a cycle, beside its output: a metrics file, Sentry, Healthchecks.
//!
//! A notification is a best effort: it takes at most two seconds, never changes how a cycle ends,
//! and its failure is a warning.

pub(crate) mod metrics;
mod ping;
mod sentry;

use std::time::{Duration, Instant};

use log::warn;
use sentry_types::protocol::v7::Event;
use uuid::Uuid;

use crate::config::Reports;
use crate::cycle::outcome::Outcome;
use crate::error::{Exit, Failure};
use crate::process::run_id;
use crate::process::supervise::BestEffort;

/// How long the requests to one receiver may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Notifies all of them: one start and one end per process, whatever the number of cycles.
pub struct Notifier<'a> {
    reports: &'a Reports,
    started: Instant,
    /// The id of the first cycle, which joins start and end.
    id: Uuid,
}

impl<'a> Notifier<'a> {
    /// Starts the time that the check-ins span.
    pub fn new(reports: &'a Reports) -> Self {
        Self { reports, started: Instant::now(), id: run_id::current() }
    }

    /// Reports the start.
    pub fn start(&self) {
        self.send("start", "", None, Vec::new());
    }

    /// Writes the metrics and reports the end: how the last cycle ended, and its summary line.
    pub fn end(&self, outcome: &Outcome, failure: Option<&Failure>, line: &str) {
        let exit = failure.map_or(Exit::Success, Failure::exit);
        let definition = self.reports.definition_id.as_deref();
        if let Some((path, definition)) = self.reports.metrics_file.as_ref().zip(definition)
            && let Err(error) = metrics::write(path, definition, outcome, exit)
        {
            warn!("Cannot write the metrics file {}: {error}", path.display());
        }
        let events = sentry::events(outcome, failure, definition);
        self.send(&exit.code().to_string(), line, Some(exit), events);
    }

    /// Sends to all receivers at once, so that none waits for another one that is silent.
    fn send(&self, signal: &str, body: &str, end: Option<Exit>, events: Vec<Event<'static>>) {
        let end = end.map(|exit| (exit, self.started.elapsed()));
        let sentry = self.reports.sentry.as_ref();
        let sentry = sentry.map(|config| sentry::posts(config, self.id, end, events));
        let ping = self.reports.ping.as_ref();
        let ping = ping.map(|config| ping::posts(config, signal, self.id, body));
        let receivers = [("Sentry", sentry), ("the host of DATAPASS_PING_URL", ping)];
        let sent: Vec<_> = receivers
            .into_iter()
            .filter_map(|(receiver, posts)| {
                let posts = posts.filter(|posts| !posts.bodies.is_empty())?;
                let sent = BestEffort::start(SEND_TIMEOUT, move |deadline| posts.send(&deadline));
                Some((receiver, sent))
            })
            .collect();
        for (receiver, sent) in sent {
            if let Err(failure) = sent.and_then(BestEffort::wait) {
                warn!("Cannot notify {receiver}: {}", failure.error_chain());
            }
        }
    }
}
