//! `pull`: runs one cycle and reports how it ended.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};

use crate::cli::PullArgs;
use crate::config::{Format, PullConfig, Reports, Settings, effective};
use crate::cycle;
use crate::cycle::outcome::{Outcome, SharedOutcome};
use crate::cycle::remarks;
use crate::cycle::settle::settle;
use crate::error::{Failure, Result, Stage};
use crate::exit::Exit;
use crate::output::progress;
use crate::output::stdout::print;
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;
use crate::report::{metrics, sentry};
use crate::state::runs::Run;
use crate::state::summary::Summary;

/// How long the reports of a cycle may take after its deadline, on outputs that nobody reads.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs one cycle and reports it.
pub fn run(settings: Settings, args: &PullArgs) -> Exit {
    let (format, log_format) = (settings.format(), settings.log().format);
    let (reports, config) = load(settings, args.clone());
    let config = match config {
        Ok(config) => Arc::new(config),
        Err(failure) => return not_started(failure, &reports, args, format),
    };
    let effective = effective::describe(&config, &reports).into_iter();
    let effective = effective.map(|(name, value)| format!("{name} {value}"));
    let effective: Vec<String> = effective.collect();
    info!(stage = Stage::Prepare.as_str(); "Settings: {}", effective.join("; "));
    let outcome = SharedOutcome::start(Run::start(Summary {
        dry_run: config.dry_run,
        since: config.since,
        ..Summary::default()
    }));
    let deadline = Deadline::after(config.timeout);
    deadline.end_process_after(REPORT_TIMEOUT);
    // The line is for an operator who watches.
    let shows_progress = !args.quiet && log_format == Format::Text;
    let progress = shows_progress.then(progress::show);
    let ended = {
        let (outcome, deadline) = (outcome.clone(), deadline.clone());
        let config = Arc::clone(&config);
        supervise(&deadline.clone(), move || {
            cycle::run(&config, &deadline, &outcome)
        })
    };
    drop(progress);
    let ended = ended.or_else(|failure| settle(&config, &deadline, &outcome, failure));
    let (outcome, failure) = (outcome.lock().clone(), ended.err());
    if failure.is_none() && config.dry_run && !args.quiet {
        remarks::list_created(&outcome);
    }
    let format = (failure.is_some() || !args.quiet).then_some(format);
    conclude(outcome, failure, format, &reports)
}

/// Asks for the settings of a cycle. The reports are known although others are invalid; a dry run
/// has none.
fn load(mut settings: Settings, args: PullArgs) -> (Reports, Result<PullConfig>) {
    let loaded = supervise(&Deadline::signal_only(), move || {
        let reports = settings.reports();
        let config = settings.pull(&args);
        let reports = if args.dry_run {
            Reports::default()
        } else {
            reports
        };
        Ok((reports, settings.finish(config)))
    });
    loaded.unwrap_or_else(|failure| (Reports::default(), Err(failure)))
}

/// Ends a cycle that could not start.
pub fn not_started(failure: Failure, reports: &Reports, args: &PullArgs, format: Format) -> Exit {
    let run = Run::start(Summary {
        dry_run: args.dry_run,
        ..Summary::default()
    });
    let outcome = SharedOutcome::start(run).lock().clone();
    conclude(outcome, Some(failure), Some(format), reports)
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
        crate::output::log::failure(failure);
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
