//! Who is notified of a cycle, beside its output: a metrics file, Sentry, Healthchecks.
//!
//! A notification is a best effort: it takes at most two seconds, never changes how a cycle ends,
//! and its failure is a warning.

pub(crate) mod metrics;
mod ping;
mod sentry;

use std::time::{Duration, Instant};

use log::warn;
use uuid::Uuid;

use crate::config::Reports;
use crate::cycle::outcome::Outcome;
use crate::error::Failure;
use crate::exit::Exit;
use crate::net::http::{self, HttpSettings, Post};
use crate::process::run_id;
use crate::process::supervise::BestEffort;

/// How long the requests to one receiver may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// What is sent to one receiver, in order.
struct Delivery<'a> {
    receiver: &'static str,
    http: &'a HttpSettings,
    posts: Vec<Post>,
}

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
        let sentry = self.reports.sentry.as_ref().map(|config| {
            let check_in = sentry::check_in(config, self.id, None);
            sentry::delivery(config, check_in)
        });
        let ping = self.reports.ping.as_ref();
        let ping = ping.map(|config| ping::delivery(config, "start", self.id, ""));
        send(sentry.into_iter().chain(ping));
    }

    /// Writes the metrics and reports the end: how the last cycle ended, and its summary line.
    pub fn end(&self, outcome: &Outcome, failure: Option<&Failure>, line: &str) {
        let exit = failure.map_or(Exit::Success, |failure| failure.kind().into());
        let definition = self.reports.definition_id.as_deref();
        if let Some((path, definition)) = self.reports.metrics_file.as_ref().zip(definition)
            && let Err(error) = metrics::write(path, definition, outcome, exit)
        {
            warn!("Cannot write the metrics file {}: {error}", path.display());
        }
        let sentry = self.reports.sentry.as_ref().map(|config| {
            let end =
                sentry::End { duration: self.started.elapsed(), is_success: failure.is_none() };
            let check_in = sentry::check_in(config, self.id, Some(end));
            let events = sentry::events(config, definition, outcome, failure);
            sentry::delivery(config, check_in.into_iter().chain(events))
        });
        let ping = self
            .reports
            .ping
            .as_ref()
            .map(|config| ping::delivery(config, &exit.code().to_string(), self.id, line));
        send(sentry.into_iter().chain(ping));
    }
}

/// Sends to all receivers at once, so that none waits for another one that is silent.
fn send<'a>(deliveries: impl Iterator<Item = Delivery<'a>>) {
    let sent: Vec<_> = deliveries
        .filter(|delivery| !delivery.posts.is_empty())
        .map(|delivery| {
            let (http, posts) = (delivery.http.clone(), delivery.posts);
            let sent = BestEffort::start(SEND_TIMEOUT, move |deadline| {
                http::post_all(&posts, &http, &deadline)
            });
            (delivery.receiver, sent)
        })
        .collect();
    for (receiver, sent) in sent {
        let problem = match sent.and_then(BestEffort::wait) {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure.error_chain(),
            Err(why) => why.to_owned(),
        };
        warn!("Cannot notify {receiver}: {problem}");
    }
}
