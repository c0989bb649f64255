//! Waits that have an end, and time as a busy machine grants it.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long another process may take for what it is about to do anyway. Shorter than the thirty
/// seconds after which PostgreSQL gives up a wait for a lock by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Polls what cannot be awaited: another process's doings.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How late this machine is: by how much a thread that only sleeps is woken too late, all in all.
#[derive(Debug)]
pub struct Lateness {
    watched: thread::JoinHandle<Duration>,
    /// Dropped at the end.
    goes_on: mpsc::Sender<()>,
}

impl Lateness {
    /// Begins to watch.
    pub fn watch() -> Self {
        const NAP: Duration = Duration::from_millis(10);
        let (goes_on, end) = mpsc::channel();
        let watched = thread::spawn(move || {
            let mut late = Duration::ZERO;
            loop {
                let begun = Instant::now();
                match end.recv_timeout(NAP) {
                    Err(RecvTimeoutError::Timeout) => late += begun.elapsed().saturating_sub(NAP),
                    _ => return late,
                }
            }
        });
        Self { watched, goes_on }
    }

    /// Returns how late it was since then.
    pub fn total(self) -> Duration {
        drop(self.goes_on);
        self.watched.join().unwrap()
    }
}
