//! Waits for a run, its deadline, a signal or a panic, whichever comes first.
//!
//! The run has a thread of its own. It bounds itself by the budget wherever it can; what it cannot
//! bound (a name lookup, a peer that went silent) is abandoned here: the process ends, and with it
//! the connection, whose transaction PostgreSQL then rolls back.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::Duration;

use log::error;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

use crate::error::{Failure, Reason, Result, Stage};
use crate::exit::Exit;
use crate::process::deadline::{self, Budget};

/// How long a run that was told to stop, or whose time is over, may take to end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// How long after a signal the process ends whatever it does: within the two seconds promised.
const PATIENCE: Duration = Duration::from_millis(1_750);

/// How often it is looked whether a signal came, where nothing has a deadline.
const SIGNAL_POLL: Duration = Duration::from_millis(100);

/// How long a command other than a cycle may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

enum Event<T> {
    Ended(Result<Result<T>, Box<dyn Any + Send>>),
    Signal,
}

/// Runs `work` to its end, or until the budget or a signal ends it.
///
/// A signal leaves time for a report, however often it comes: `timeout(1)` sends it to the process and
/// to its group. What takes longer than that, a pipe that nobody reads, ends with the process.
pub fn supervise<T: Send + 'static>(
    budget: &Budget,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, events) = mpsc::channel();
    let (signals, signalled) = (sender.clone(), budget.clone());
    watch_signals(move || {
        // First the event: what the run then says of its end is the signal's doing.
        let _ = signals.send(Event::Signal);
        signalled.interrupt();
    })
    .map_err(|error| Failure::no_thread(Stage::Prepare, error))?;
    thread::Builder::new()
        .name("run".to_owned())
        .spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            let _ = sender.send(Event::Ended(outcome));
        })
        .map_err(|error| Failure::no_thread(Stage::Prepare, error))?;
    let abandoned = match events.recv_timeout(budget.left()) {
        Ok(Event::Ended(outcome)) => {
            return outcome.unwrap_or_else(|_| Err(panicked(budget.stage())));
        }
        Ok(Event::Signal) => deadline::interrupted(budget.stage()),
        Err(RecvTimeoutError::Timeout) => deadline::deadline(budget.stage()),
        Err(RecvTimeoutError::Disconnected) => return Err(panicked(budget.stage())),
    };
    budget.stop();
    match events.recv_timeout(GRACE) {
        // What was committed before the signal was noticed is a success, and is reported as one.
        Ok(Event::Ended(Ok(Ok(value)))) => Ok(value),
        Ok(Event::Ended(Ok(Err(failure)))) => Err(abandoned.at(failure.stage)),
        _ => Err(abandoned),
    }
}

/// Runs a command other than a cycle, or one step of it, within its time.
pub fn in_time<T: Send + 'static>(
    work: impl FnOnce(Budget) -> Result<T> + Send + 'static,
) -> Result<T> {
    let budget = Budget::new(COMMAND_TIMEOUT);
    supervise(&budget.clone(), move || work(budget))
}

/// Does what may wait for a person or a slow pipe, and leaves nothing to be put back, to its end or
/// until a signal comes.
pub fn until_signal<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (sender, ended) = mpsc::channel();
    thread::Builder::new()
        .spawn(move || {
            let _ = sender.send(work());
        })
        .map_err(|error| Failure::no_thread(Stage::Prepare, error))?;
    loop {
        match ended.recv_timeout(SIGNAL_POLL) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Disconnected) => return Err(panicked(Stage::Prepare)),
            Err(RecvTimeoutError::Timeout) if SIGNALLED.load(Ordering::SeqCst) => {
                return Err(deadline::interrupted(Stage::Prepare));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Whether a signal came. It may come before there is a run to stop.
static SIGNALLED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Whether a signal ends the process at once.
static IMPATIENT: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Installs the handlers. As process 1 too, where the kernel ignores a signal without one.
///
/// To be called first of all: until then a signal ends the process with a status of its own.
pub fn install_signal_handlers() -> io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        let code = i32::from(Exit::Transient.code());
        flag::register_conditional_shutdown(signal, code, Arc::clone(&IMPATIENT))?;
        flag::register(signal, Arc::clone(&SIGNALLED))?;
    }
    Ok(())
}

/// Lets a signal end the process at once from here on: nothing is left to be told but what it writes.
pub fn let_signals_end() {
    IMPATIENT.store(true, Ordering::SeqCst);
}

/// Calls back when a signal comes, or has come before, and ends the process some time later.
fn watch_signals(on_signal: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if SIGNALLED.load(Ordering::SeqCst) || signals.forever().next().is_some() {
                on_signal();
                thread::sleep(PATIENCE);
                let_signals_end();
                let _ = low_level::raise(SIGTERM);
            }
        })?;
    Ok(())
}

/// Where the first panic of this process was.
static PANIC_PLACE: OnceLock<String> = OnceLock::new();

/// Logs where a panic happened, and not what it said: that may hold anything.
pub fn install_panic_hook() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        error!(reason = Reason::Panic.as_str(); "A defect of this program stopped it at {place}");
        let _ = PANIC_PLACE.set(place);
    }));
}

/// Returns where the first panic was, as file, line and column; none without one.
pub fn panic_place() -> Option<&'static str> {
    PANIC_PLACE.get().map(String::as_str)
}

fn panicked(stage: Stage) -> Failure {
    Failure::new(
        stage,
        Reason::Panic,
        "This program has a defect and stopped; what it had to write is written as a whole or not at \
         all. Please report the line above",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_a_place_and_without_its_words() {
        install_panic_hook();
        let budget = Budget::new(Duration::from_secs(60));
        let line = line!() + 1;
        let outcome: Result<()> = supervise(&budget, || panic!("canari"));
        // Other tests are to tell what they panic for.
        let _ = panic::take_hook();
        let failure = outcome.unwrap_err();
        assert_eq!(failure.reason, Reason::Panic);
        assert!(!failure.story().contains("canari"), "{}", failure.story());
        let place = panic_place().unwrap();
        let expected = format!("{}:{line}:", file!());
        assert!(place.starts_with(&expected), "{place}");
    }
}
