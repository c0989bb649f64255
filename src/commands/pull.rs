//! `pull`: runs one cycle and reports how it ended.

use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};

use crate::config::{Format, PullConfig, Reports, Requested};
use crate::cycle;
use crate::cycle::outcome::{Outcome, SharedOutcome};
use crate::db::transaction::{Access, Store};
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::progress;
use crate::output::stdout::{log_failure, print};
use crate::process::deadline::Deadline;
use crate::process::supervise::{after_run, supervise};
use crate::report::{metrics, sentry};
use crate::state::runs::{self, Run};
use crate::state::summary::Summary;

/// How long the run row of a failed cycle may take.
const FAILED_RUN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the reports of a cycle may take after its deadline, on outputs that nobody reads.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs one cycle and reports it.
pub fn pull(config: PullConfig, shows_progress: bool) -> Exit {
    let outcome = SharedOutcome::start(Run::start(Summary {
        dry_run: config.dry_run,
        since: config.since,
        ..Summary::default()
    }));
    let deadline = Deadline::after(config.timeout);
    deadline.end_process_after(REPORT_TIMEOUT);
    let config = Arc::new(config);
    let progress = shows_progress.then(progress::show);
    let ended = {
        let (outcome, deadline) = (outcome.clone(), deadline.clone());
        let config = Arc::clone(&config);
        supervise(&deadline.clone(), move || {
            cycle::run(&config, &deadline, &outcome)
        })
    };
    drop(progress);
    let outcome = outcome.lock().clone();
    let failure = ended.err();
    if let Some(failure) = &failure
        && outcome.reached_database
        && !config.dry_run
    {
        record_failure(&config, &outcome, failure);
    }
    let format = (failure.is_some() || !config.quiet).then_some(config.format);
    conclude(outcome, failure, format, &config.reports)
}

/// Records the run of a failed cycle, if that is possible at once: as a best effort, which must not
/// change how the cycle ended.
fn record_failure(config: &Arc<PullConfig>, outcome: &Outcome, failure: &Failure) {
    let (config, outcome) = (Arc::clone(config), outcome.clone());
    let failure = Failure::new(failure.stage, failure.reason, "");
    let recorded = after_run(FAILED_RUN_TIMEOUT, move |deadline| {
        let store = Store::new(&config.database.url, deadline, 0);
        store.transaction(failure.stage, Access::ReadWrite, |tx| {
            runs::record(tx, "cycle", &outcome.run, Some(&failure))
        })
    });
    match recorded {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("The failed run is not recorded: {}", error.story()),
        Err(why) => debug!("The failed run is not recorded: {why}"),
    }
}

/// Ends a cycle that could not start.
pub fn not_started(failure: Failure, requested: &Requested) -> Exit {
    let outcome = SharedOutcome::start(Run::start(Summary {
        dry_run: requested.dry_run,
        ..Summary::default()
    }))
    .lock()
    .clone();
    let format = Some(requested.format);
    conclude(outcome, Some(failure), format, &requested.reports)
}

/// Tells how a cycle ended, to everyone who is to hear of it, the output in the form given.
fn conclude(
    mut outcome: Outcome,
    failure: Option<Failure>,
    format: Option<Format>,
    reports: &Reports,
) -> Exit {
    outcome.run.summary.reason = failure.as_ref().map(|failure| failure.reason);
    outcome.run.summary.duration_ms = outcome.run.started.elapsed().as_millis() as u64;
    let exit = failure
        .as_ref()
        .map_or(Exit::Success, |failure| failure.kind().into());
    if let Some(path) = &reports.metrics_file
        && let Err(error) = metrics::write(path, &outcome, exit)
    {
        warn!(
            "The metrics file {} cannot be written: {error}",
            path.display()
        );
    }
    if let Some(failure) = &failure {
        log_failure(failure);
    }
    if let Some(format) = format
        && let Err(error) = print(&format!("{}\n", outcome.run.summary.line(format)))
        && failure.is_none()
    {
        // What the cycle did is done; a failure has told its last line.
        warn!("The summary line cannot be written: {error}");
    }
    if let Some(sentry) = &reports.sentry {
        sentry::report_in_time(sentry, outcome, failure);
    }
    exit
}
