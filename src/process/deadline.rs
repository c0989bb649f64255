//! The time that a run has left, and whether somebody asked it to stop.
//!
//! Every step that may block asks here first and bounds itself by the answer; what it cannot bound
//! (a name lookup, a silent peer) is ended by the supervisor, which waits on the same budget. What
//! follows a run that a signal ended shares one more bound: the instant at which the process must
//! be gone.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Failure, Reason, Result, Stage};

/// How long after a signal the process must be gone: the two seconds that are promised, less what a
/// busy machine needs to end it.
const ANSWER_TIME: Duration = Duration::from_millis(1_600);

/// The deadline of a run on the monotonic clock, so that a jump of the wall clock changes nothing.
#[derive(Clone)]
pub struct Budget {
    end: Instant,
    stop: Arc<AtomicBool>,
    signalled: Arc<OnceLock<Instant>>,
    stage: Arc<Mutex<Stage>>,
    on_stop: Arc<Mutex<Option<Canceller>>>,
}

/// Ends what a peer is doing for us right now.
type Canceller = Box<dyn FnOnce() + Send>;

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
            signalled: Arc::default(),
            stage: Arc::new(Mutex::new(Stage::Prepare)),
            on_stop: Arc::default(),
        }
    }

    /// Stops the run because of a signal.
    pub fn interrupt(&self) {
        let _ = self.signalled.set(Instant::now());
        self.stop();
    }

    /// Returns how long a step that follows the run may take: `usual`, or what a signal leaves.
    pub fn afterwards(&self, usual: Duration) -> Duration {
        self.signalled.get().map_or(usual, |signal| {
            usual.min(ANSWER_TIME.saturating_sub(signal.elapsed()))
        })
    }

    /// Asks every step to stop where it is, and ends what a peer is doing for us.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let canceller = self
            .on_stop
            .lock()
            .ok()
            .and_then(|mut on_stop| on_stop.take());
        if let Some(cancel) = canceller {
            // The peer may be silent, and nobody waits for it. Without a thread it goes on until it
            // notices that we are gone.
            let _ = thread::Builder::new().spawn(cancel);
        }
    }

    /// Says how to end what a peer is doing, should the run be stopped; replaces what was said.
    pub fn on_stop(&self, cancel: impl FnOnce() + Send + 'static) {
        if let Ok(mut on_stop) = self.on_stop.lock() {
            *on_stop = Some(Box::new(cancel));
        }
    }

    /// Returns what is left, zero when it is over.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Returns the step that asked last: where a run is that does not come back.
    pub fn stage(&self) -> Stage {
        *self
            .stage
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Returns what is left, or the failure that ends the run.
    pub fn check(&self, stage: Stage) -> Result<Duration> {
        if let Ok(mut last) = self.stage.lock() {
            *last = stage;
        }
        if self.stop.load(Ordering::SeqCst) {
            return Err(interrupted(stage));
        }
        match self.left() {
            Duration::ZERO => Err(deadline(stage)),
            left => Ok(left),
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}

/// Returns the failure of a run that was told to stop.
pub fn interrupted(stage: Stage) -> Failure {
    Failure::new(
        stage,
        Reason::Interrupted,
        "Stopped by a signal; what it had to write is written as a whole or not at all",
    )
}

/// Returns the failure of a run whose time is over.
pub fn deadline(stage: Stage) -> Failure {
    Failure::new(
        stage,
        Reason::Deadline,
        "The time is over; for a cycle or `check`, raise --timeout if this is usual",
    )
}
