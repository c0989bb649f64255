//! The time that a run has left, and whether somebody asked it to stop.
//!
//! Every step that may block asks here first and bounds itself by the answer; what it cannot bound
//! (a name lookup, a silent peer) is ended by the supervisor, which waits on the same budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Failure, Reason, Result, Stage};

/// The deadline of a run on the monotonic clock, so that a jump of the wall clock changes nothing.
#[derive(Debug, Clone)]
pub struct Budget {
    end: Instant,
    stop: Arc<AtomicBool>,
}

impl Budget {
    /// Starts a budget that ends after `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let now = Instant::now();
        // An absurd age must not overflow: a century is as good as forever.
        let century = Duration::from_secs(100 * 365 * 86_400);
        let end = now + timeout.min(century);
        Self {
            end,
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Asks every step to stop where it is.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Returns what is left, zero when it is over.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Returns what is left, or the failure that ends the run.
    pub fn check(&self, stage: Stage) -> Result<Duration> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(interrupted(stage));
        }
        match self.left() {
            Duration::ZERO => Err(deadline(stage)),
            left => Ok(left),
        }
    }
}

/// Returns the failure of a run that was told to stop.
pub fn interrupted(stage: Stage) -> Failure {
    Failure::new(
        stage,
        Reason::Interrupted,
        "Stopped by a signal; nothing was written",
    )
}

/// Returns the failure of a run whose time is over.
pub fn deadline(stage: Stage) -> Failure {
    Failure::new(
        stage,
        Reason::Deadline,
        "The cycle's deadline is over; raise --timeout if this is usual",
    )
}
