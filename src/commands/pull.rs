//! `pull`: runs one cycle and reports how it ended.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
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
use crate::process::deadline::Budget;
use crate::process::supervise::{self, supervise};
use crate::report::{metrics, sentry};
use crate::state::runs::{self, Run};
use crate::state::summary::Summary;

/// How long the run row of a failed cycle may take.
const FAILED_RUN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the report of a cycle that could not start may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs one cycle and reports it.
pub fn pull(config: PullConfig, shows_progress: bool) -> Exit {
    let outcome = SharedOutcome::start(Run::start(Summary {
        dry_run: config.dry_run,
        since: config.since,
        ..Summary::default()
    }));
    let budget = Budget::new(config.timeout);
    let config = Arc::new(config);
    let progress = shows_progress.then(progress::show);
    let ended = {
        let (outcome, budget) = (outcome.clone(), budget.clone());
        let config = Arc::clone(&config);
        supervise(&budget.clone(), move || {
            cycle::run(&config, &budget, &outcome)
        })
    };
    drop(progress);
    let outcome = outcome.lock().clone();
    let failure = ended.err();
    if let Some(failure) = &failure
        && outcome.reached_database
        && !config.dry_run
    {
        record_failure(&config, &outcome, failure, &budget);
    }
    let format = (failure.is_some() || !config.quiet).then_some(config.format);
    conclude(outcome, failure, format, &config.reports, &budget)
}

/// Leaves a run row of a failed cycle, if that is possible at once; it is a courtesy, and must not
/// change how the cycle ended.
fn record_failure(config: &Arc<PullConfig>, outcome: &Outcome, failure: &Failure, budget: &Budget) {
    let limit = budget.afterwards(FAILED_RUN_TIMEOUT);
    let (done, ended) = mpsc::channel();
    let (config, outcome) = (Arc::clone(config), outcome.clone());
    let failure = Failure::new(failure.stage, failure.reason, "");
    // Without a thread `done` is dropped, and the wait is over.
    let _ = thread::Builder::new().spawn(move || {
        let mut store = Store::new(&config.database.url, Budget::new(limit));
        let recorded = store.transaction(failure.stage, Access::ReadWrite, |tx| {
            runs::record(tx, "cycle", &outcome.run, Some(&failure))
        });
        let _ = done.send(recorded);
    });
    match ended.recv_timeout(limit) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("The failed run is not recorded: {}", error.story()),
        Err(_) => debug!("The failed run is not recorded in time"),
    }
}

/// Ends a cycle that could not start.
pub fn not_started(failure: Failure, requested: &Requested) -> Exit {
    supervise::let_signals_end();
    let outcome = SharedOutcome::start(Run::start(Summary {
        dry_run: requested.dry_run,
        ..Summary::default()
    }))
    .lock()
    .clone();
    let budget = Budget::new(REPORT_TIMEOUT);
    let format = Some(requested.format);
    conclude(outcome, Some(failure), format, &requested.reports, &budget)
}

/// Tells how a cycle ended, to everyone who is to hear of it, the output in the form given.
fn conclude(
    mut outcome: Outcome,
    failure: Option<Failure>,
    format: Option<Format>,
    reports: &Reports,
    budget: &Budget,
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
        sentry::report_in_time(sentry, outcome, failure, budget);
    }
    exit
}
