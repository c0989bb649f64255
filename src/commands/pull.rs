//! `pull`: runs a cycle, again with `--retry-for`, and reports how the last one ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::log::{info, warn};
use chrono::{DateTime, Utc};

use crate::cli::PullArgs;
use crate::config::{Format, PullConfig, Reports, Settings, effective};
use crate::cycle;
use crate::cycle::outcome::{Outcome, SharedOutcome};
use crate::cycle::remarks;
use crate::cycle::settle::settle;
use crate::error::{Exit, Failure, Reason, Result, Stage};
use crate::output::stdout::print;
use crate::output::{log, progress};
use crate::process::deadline::Deadline;
use crate::process::run_id;
use crate::process::supervise::supervise;
use crate::report::Notifier;
use crate::state::runs::Run;
use crate::state::summary::Summary;

/// How long the reports of a cycle may take after its deadline, on blocked outputs.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait before the first retry of a cycle; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// The longest wait before a retry of a cycle.
const MAX_WAIT: Duration = Duration::from_secs(15 * 60);

/// Runs one cycle, or several with `--retry-for`, and reports the last one.
pub fn run(settings: Settings, args: &PullArgs) -> Exit {
    let format = settings.format;
    let (reports, config) = load(settings, args.clone());
    let config = match config {
        Ok(config) => config,
        Err(failure) => return not_started(failure, &reports, args, format),
    };
    let effective: Vec<String> = effective::describe(&config, &reports)
        .into_iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    info!(stage = Stage::Prepare.as_str(); "Settings: {}", effective.join("; "));
    let notifier = Notifier::new(&reports);
    notifier.start();
    let ended = run_cycles(&Arc::new(config));
    if ended.failure.is_none() && args.dry_run && !args.quiet {
        remarks::list_created(&ended.outcome);
    }
    conclude(ended, args, format, &notifier)
}

/// How a cycle ended.
struct Ended {
    outcome: Outcome,
    failure: Option<Failure>,
}

/// Runs a cycle, and runs it again as `--retry-for` allows; returns how the last one ended.
fn run_cycles(config: &Arc<PullConfig>) -> Ended {
    let (started, mut retries) = (Instant::now(), 0);
    let mut ended = run_cycle(config);
    while let (Some(failure), Some(limit)) = (&ended.failure, config.retry_for)
        && let Some(wait) = next_wait(failure.reason, retries, started.elapsed(), limit)
    {
        if let Err(interrupted) = pause(config, failure, wait) {
            ended.failure = Some(interrupted);
            break;
        }
        retries += 1;
        run_id::renew();
        ended = run_cycle(config);
    }
    ended
}

/// Runs one cycle, and settles its end if it failed.
fn run_cycle(config: &Arc<PullConfig>) -> Ended {
    let outcome = Arc::new(SharedOutcome::new(start(config.dry_run, config.since)));
    let deadline = Deadline::after(config.timeout);
    deadline.end_process_after(REPORT_TIMEOUT);
    let progress = config.shows_progress.then(progress::show);
    let ended = {
        let (config, outcome, deadline) = (config.clone(), outcome.clone(), deadline.clone());
        supervise(&deadline.clone(), move || cycle::run(&config, &deadline, &outcome))
    };
    drop(progress);
    let ended = ended.or_else(|failure| settle(config, &deadline, &outcome, failure));
    let outcome = outcome.lock().clone();
    Ended { outcome, failure: ended.err() }
}

fn start(dry_run: bool, since: Option<DateTime<Utc>>) -> Outcome {
    Outcome::start(Run::start(Summary { dry_run, since, ..Summary::default() }))
}

/// Waits before a retry; a signal ends the wait and is the failure then.
fn pause(config: &PullConfig, failure: &Failure, wait: Duration) -> Result<()> {
    let deadline = Deadline::after(wait.saturating_add(config.timeout));
    // By its end the next cycle would have ended, too.
    deadline.end_process_after(REPORT_TIMEOUT);
    warn!(
        stage = failure.stage.as_str(), reason = failure.reason.as_str(),
        wait_ms = wait.as_millis() as u64;
        "The cycle failed ({}): {}; running it again in {} s",
        failure.reason, failure.error_chain(), wait.as_secs()
    );
    deadline.sleep(wait, failure.stage)
}

/// Returns how long to wait before the next retry; none when that would end after `limit`, or cannot
/// succeed without an operator.
fn next_wait(reason: Reason, retries: u32, elapsed: Duration, limit: Duration) -> Option<Duration> {
    let is_excluded = matches!(reason, Reason::Unauthorized | Reason::Interrupted);
    let is_retryable = reason.exit() == Exit::Transient && !is_excluded;
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(retries));
    let wait = doubled.min(MAX_WAIT);
    (is_retryable && elapsed.saturating_add(wait) <= limit).then_some(wait)
}

/// Asks for the settings of a cycle. The reports are known although others are invalid; a dry run
/// has none.
fn load(mut settings: Settings, args: PullArgs) -> (Reports, Result<PullConfig>) {
    let loaded = supervise(&Deadline::signal_only(), move || {
        let reports = settings.reports();
        let config = settings.pull(&args);
        let reports = if args.dry_run { Reports::default() } else { reports };
        Ok((reports, settings.finish(config)))
    });
    loaded.unwrap_or_else(|failure| (Reports::default(), Err(failure)))
}

/// Ends a cycle that could not start.
pub fn not_started(failure: Failure, reports: &Reports, args: &PullArgs, format: Format) -> Exit {
    let ended = Ended { outcome: start(args.dry_run, None), failure: Some(failure) };
    conclude(ended, args, format, &Notifier::new(reports))
}

/// Reports how the last cycle ended. The failure is the last line of standard error, the summary
/// that of standard output.
fn conclude(ended: Ended, args: &PullArgs, format: Format, notifier: &Notifier<'_>) -> Exit {
    let Ended { mut outcome, failure } = ended;
    outcome.run.summary.reason = failure.as_ref().map(|failure| failure.reason);
    outcome.run.summary.duration_ms = outcome.run.started.elapsed().as_millis() as u64;
    let line = outcome.run.summary.line(format);
    notifier.end(&outcome, failure.as_ref(), &line);
    if let Some(failure) = &failure {
        log::failure(failure);
    }
    if (failure.is_some() || !args.quiet)
        && let Err(error) = print(&format!("{line}\n"))
        && failure.is_none()
    {
        // What the cycle did is done.
        warn!("Cannot write the summary line: {error}");
    }
    failure.map_or(Exit::Success, |failure| failure.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_15_minutes_and_end_within_the_limit() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let reason = Reason::ServerError;
        for (retries, wait) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 15), (5, 15), (u32::MAX, 15)] {
            let (wait, elapsed) = (minutes(wait), minutes(30));
            let limit = elapsed + wait;
            assert_eq!(next_wait(reason, retries, elapsed, limit), Some(wait), "{retries}");
            let less = limit - Duration::from_millis(1);
            assert_eq!(next_wait(reason, retries, elapsed, less), None, "{retries}");
        }
        assert_eq!(next_wait(reason, 0, Duration::MAX, Duration::from_secs(1)), None);
    }

    #[test]
    fn only_transient_failures_except_unauthorized_are_retried() {
        let is_retried = |reason| next_wait(reason, 0, Duration::ZERO, Duration::MAX).is_some();
        let retried = [Reason::ServerError, Reason::Deadline, Reason::DatabaseBusy];
        assert!(retried.into_iter().all(is_retried));
        let ends = [Reason::Unauthorized, Reason::Interrupted, Reason::TokenRefused];
        assert!(!ends.into_iter().any(is_retried));
    }
}
