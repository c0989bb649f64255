//! The deadline of a run, and whether a signal ends it before.
//!
//! Every step that may block asks here first and bounds itself by the answer; what it cannot bound
//! (a name lookup, a silent peer) is abandoned by the supervisor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Failure, Reason, Result, Stage};
use crate::process::lock::Lock;
use crate::process::signals::{self, State};

/// How long what follows a run may take after a signal: the two seconds of the interface, less what
/// a busy machine needs to end the process.
const REPORT_TIME: Duration = Duration::from_millis(1_250);

/// A deadline on the monotonic clock, so that a jump of the wall clock changes nothing.
#[derive(Debug, Clone)]
pub struct Deadline {
    end: Instant,
    /// The signal that came before it, and does not end it.
    earlier_signal: Option<Instant>,
    stage: Arc<Lock<Stage>>,
}

impl Deadline {
    /// Returns the deadline of a run: when `timeout` has passed, or a signal comes.
    pub fn after(timeout: Duration) -> Self {
        Self {
            // An absurd age must not overflow.
            end: Instant::now() + timeout.min(signals::FOREVER),
            earlier_signal: None,
            stage: Arc::new(Lock::new(Stage::Prepare)),
        }
    }

    /// Returns the deadline of what waits for a user: a signal alone.
    pub fn signal_only() -> Self {
        Self::after(Duration::MAX)
    }

    /// Returns the deadline of a step that follows a run: when `usual` has passed, or what a signal
    /// leaves of it.
    pub fn for_report(usual: Duration) -> Self {
        let earlier_signal = signals::signalled();
        let left = earlier_signal.map(|signal| REPORT_TIME.saturating_sub(signal.elapsed()));
        Self { earlier_signal, ..Self::after(left.map_or(usual, |left| usual.min(left))) }
    }

    /// Ends the whole process when `reporting` has passed after the deadline, even if it is blocked
    /// where nothing else ends it: on an output that is not read.
    pub fn end_process_after(&self, reporting: Duration) {
        signals::end_process_at(self.end + reporting);
    }

    /// Returns the instant itself, or that of a signal.
    pub(super) fn end(&self, state: &State) -> Instant {
        state.signalled.filter(|_| self.earlier_signal.is_none()).unwrap_or(self.end)
    }

    /// Returns whether a signal ended it.
    pub(super) fn is_interrupted(&self) -> bool {
        signals::signalled() != self.earlier_signal
    }

    /// Returns the time that is left, zero when it has passed.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Returns the step that asked last: where a run is that does not return.
    pub fn stage(&self) -> Stage {
        *self.stage.lock()
    }

    /// Returns the time that is left, or the failure that ends the run.
    pub fn check(&self, stage: Stage) -> Result<Duration> {
        *self.stage.lock() = stage;
        match self.left() {
            left if left.is_zero() || self.is_interrupted() => Err(self.failure(stage)),
            left => Ok(left),
        }
    }

    /// Returns the failure of a run that it ends.
    pub(super) fn failure(&self, stage: Stage) -> Failure {
        if self.is_interrupted() {
            return interrupted(stage);
        }
        let message = "Deadline exceeded; for a cycle or `check`, raise --timeout if this is usual";
        Failure::new(stage, Reason::Deadline, message)
    }

    /// Waits, unless the deadline or a signal comes first.
    pub fn sleep(&self, wait: Duration, stage: Stage) -> Result<()> {
        let end = Instant::now() + wait.min(self.left());
        signals::wait_until(|state| end.min(self.end(state)));
        self.check(stage).map(drop)
    }
}

/// Returns the failure of a run that a signal ended.
pub fn interrupted(stage: Stage) -> Failure {
    let message = "Stopped by a signal; what it had to write is written as a whole or not at all";
    Failure::new(stage, Reason::Interrupted, message)
}
