//! Waiting with a time limit, and the scheduling delay of a busy machine.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long [`eventually`] waits. Shorter than the `lock_timeout` of thirty seconds of a cycle, so
/// that a wait for a lock does not end by itself meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until a condition holds that another process brings about.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "still false after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Measures the scheduling delay of this machine: the total time by which a thread that only sleeps
/// wakes up too late.
#[derive(Debug)]
pub struct SchedulingDelay {
    watched: thread::JoinHandle<Duration>,
    /// Dropping it ends the thread.
    stop: mpsc::Sender<()>,
}

impl SchedulingDelay {
    /// Starts to measure.
    pub fn watch() -> Self {
        const NAP: Duration = Duration::from_millis(10);
        let (stop, stopped) = mpsc::channel();
        let watched = thread::spawn(move || {
            let mut late = Duration::ZERO;
            loop {
                let begun = Instant::now();
                match stopped.recv_timeout(NAP) {
                    Err(RecvTimeoutError::Timeout) => late += begun.elapsed().saturating_sub(NAP),
                    _ => return late,
                }
            }
        });
        Self { watched, stop }
    }

    /// Returns the total delay since the start.
    pub fn total(self) -> Duration {
        drop(self.stop);
        self.watched.join().unwrap()
    }
}
