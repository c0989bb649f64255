//! Waits for work in another thread, until it ends, its deadline passes or a signal comes.
//!
//! Work bounds itself by its deadline wherever it can; what it cannot bound (a name lookup, a silent
//! peer, an output that is not read) is abandoned here: the process ends, and with it the
//! connection, whose transaction PostgreSQL then rolls back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Exit, Failure, Reason, Result, Stage};
use crate::process::deadline::Deadline;
use crate::process::panics;
use crate::process::signals::{self, State};

/// How long work may take to end by itself after a signal or its deadline.
const GRACE: Duration = Duration::from_millis(500);

/// Work in a thread of its own, which panics alone.
pub(crate) struct Work<T>(Receiver<thread::Result<T>>);

impl<T: Send + 'static> Work<T> {
    /// Starts it.
    pub(crate) fn start(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<Self> {
        let (sender, result) = mpsc::channel();
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // It fails when no one waits any more.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
            signals::wake();
        });
        started.map(|_| Self(result)).map_err(Failure::no_thread)
    }

    /// Waits for its result until an instant; none when that came first.
    pub(crate) fn wait(&self, end: Instant) -> Option<thread::Result<T>> {
        self.wait_until(|_| end)
    }

    fn wait_until(&self, end: impl Fn(&State) -> Instant) -> Option<thread::Result<T>> {
        let mut result = None;
        signals::wait_until(|state| {
            result = self.0.try_recv().ok();
            result.as_ref().map_or_else(|| end(state), |_| Instant::now())
        });
        result
    }
}

impl<T: Send + 'static> Work<Result<T>> {
    /// Waits for its result until its deadline or a signal; none when either came first.
    fn wait_within(&self, deadline: &Deadline) -> Option<Result<T>> {
        let ended = self.wait_until(|state| deadline.end(state))?;
        Some(ended.unwrap_or_else(|_| Err(panics::failure(deadline.stage()))))
    }
}

/// Runs the whole program, and ends it in time after a signal, whatever it is blocked on.
pub fn run_process(program: impl FnOnce() -> Exit + Clone + Send + 'static) -> Exit {
    // Without it the program fails for the same cause, and reports that.
    let _ = signals::listen();
    let outcome = match Work::start("program", program.clone()) {
        Ok(work) => work.wait_until(State::process_end),
        // Without a thread it runs here, up to where it needs one.
        Err(_) => Some(catch_unwind(AssertUnwindSafe(program))),
    };
    outcome.map_or(Exit::Transient, |exit| exit.unwrap_or(Exit::Permanent))
}

/// Runs `work` to its end, or until its deadline or a signal ends it.
///
/// After a signal there is time for a report, however often it comes: `timeout(1)` sends it to the
/// process and to its group.
pub fn supervise<T: Send + 'static>(
    deadline: &Deadline,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    signals::listen().map_err(Failure::no_thread)?;
    let run = Work::start("run", work)?;
    if let Some(result) = run.wait_within(deadline) {
        return result;
    }
    let abandoned = deadline.failure(deadline.stage());
    match run.wait(Instant::now() + GRACE) {
        // What was committed before the signal was noticed is a success, and is reported as one.
        Some(Ok(Ok(value))) => Ok(value),
        Some(Ok(Err(failure))) => Err(abandoned.at(failure.stage)),
        _ => Err(abandoned),
    }
}

/// A step that follows a run or precedes it, as a best effort: it may take its usual time, or what a
/// signal leaves of it; the first signal ends the wait.
pub struct BestEffort<T> {
    work: Work<Result<T>>,
    deadline: Deadline,
}

impl<T: Send + 'static> BestEffort<T> {
    /// Starts it.
    pub fn start(
        usual: Duration,
        work: impl FnOnce(Deadline) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let deadline = Deadline::for_report(usual);
        let own = deadline.clone();
        Ok(Self { work: Work::start("report", move || work(own))?, deadline })
    }

    /// Waits for its end.
    pub fn wait(self) -> Result<T> {
        self.work.wait_within(&self.deadline).unwrap_or_else(|| {
            let (reason, message) = match self.deadline.is_interrupted() {
                true => (Reason::Interrupted, "stopped by a signal"),
                false => (Reason::Timeout, "no response in time"),
            };
            Err(Failure::new(Stage::Prepare, reason, message))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_a_location_and_without_its_message() {
        panics::install_hook();
        let deadline = Deadline::after(Duration::from_secs(60));
        let line = line!() + 1;
        let outcome: Result<()> = supervise(&deadline, || panic!("canari"));
        // Other tests are to show what they panic for.
        let _ = panic::take_hook();
        let failure = outcome.unwrap_err();
        assert_eq!(failure.reason, Reason::Panic);
        assert!(!failure.error_chain().contains("canari"), "{}", failure.error_chain());
        let location = panics::location().unwrap();
        let expected = format!("{}:{line}:", file!());
        assert!(location.starts_with(&expected), "{location}");
    }

    #[test]
    fn work_that_does_not_end_is_abandoned_at_its_deadline() {
        let (unblock, blocked) = std::sync::mpsc::channel::<()>();
        let deadline = Deadline::after(Duration::from_millis(20));
        let failure = supervise(&deadline, move || Ok(blocked.recv().is_err())).unwrap_err();
        assert_eq!(failure.reason, Reason::Deadline);
        drop(unblock);
    }
}
