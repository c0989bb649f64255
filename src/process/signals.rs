//! SIGTERM, SIGINT and SIGHUP, and the one wait of this program: for work to end, for time to pass,
//! for a signal.

use std::fs;
use std::io;
use std::sync::{Condvar, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::process::lock::Lock;

/// How long after a signal the process ends at the latest: within the two seconds of the interface.
const PROCESS_TIME: Duration = Duration::from_millis(1_750);

/// Longer than any run; an `Instant` may be added to it.
pub(super) const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What every wait looks at.
#[derive(Debug)]
pub(super) struct State {
    /// When the first signal came.
    pub(super) signalled: Option<Instant>,
    /// When the process ends even if no signal comes.
    process_end: Option<Instant>,
}

impl State {
    /// Returns when the process ends, whatever it does then.
    pub(super) fn process_end(&self) -> Instant {
        let after_signal = self.signalled.map(|signal| signal + PROCESS_TIME);
        let ends = [after_signal, self.process_end];
        ends.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + FOREVER)
    }
}

static STATE: Lock<State> = Lock::new(State { signalled: None, process_end: None });
static CHANGED: Condvar = Condvar::new();

fn change(change: impl FnOnce(&mut State)) {
    change(&mut STATE.lock());
    CHANGED.notify_all();
}

/// Returns when the first signal came.
pub(super) fn signalled() -> Option<Instant> {
    STATE.lock().signalled
}

/// Sets when the process ends even if no signal comes.
pub(super) fn end_process_at(end: Instant) {
    change(|state| state.process_end = Some(end));
}

/// Wakes all waits, so that each checks its condition again.
pub(super) fn wake() {
    change(|_| {});
}

/// Waits until the instant that `end` returns; it is called again whenever something changed.
pub(super) fn wait_until(mut end: impl FnMut(&State) -> Instant) {
    let mut state = STATE.lock();
    loop {
        let left = end(&state).saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let woken = CHANGED.wait_timeout(state, left);
        state = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Handles signals from here on, once per process. Also as process 1, where the kernel ignores a
/// signal without a handler.
pub(super) fn listen() -> io::Result<()> {
    static LISTENING: OnceLock<Result<(), io::ErrorKind>> = OnceLock::new();
    let listening = LISTENING.get_or_init(|| start().map_err(|error| error.kind()));
    listening.map_err(io::Error::from)
}

fn start() -> io::Result<()> {
    let hang_up = Some(SIGHUP).filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new([SIGTERM, SIGINT].into_iter().chain(hang_up))?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            change(|state| {
                state.signalled.get_or_insert_with(Instant::now);
            });
        }
    })?;
    Ok(())
}

/// Returns whether a signal was ignored when the process started, as `nohup` arranges it.
fn is_ignored(signal: i32) -> bool {
    // No safe function of the C library reads it. Without /proc, as in a bare container, no shell
    // has started the process.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
