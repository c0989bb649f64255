//! The progress line: how far a listing is, for an operator who watches.
//!
//! It is the last line of a terminal while a cycle runs, and is erased at its end. The log writes
//! through [`write_log`], which erases the line while it writes.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the line is drawn at most.
const DRAWS_PER_SECOND: u8 = 5;
/// How often it shows that the program is alive.
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// The line, which is hidden until it is shown.
static LINE: LazyLock<ProgressBar> = LazyLock::new(ProgressBar::hidden);
/// Whether the line is shown.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Takes the line away when dropped.
#[derive(Debug)]
pub struct Shown(());

/// Shows the line, when standard error is a terminal that can take a line away again.
pub fn show() -> Option<Shown> {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
    if target.is_hidden() {
        // Nothing would be drawn, and no thread need tick.
        return None;
    }
    let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}").ok()?;
    LINE.reset();
    LINE.set_style(style.tick_chars("-\\|/ "));
    update(0, 0);
    LINE.set_draw_target(target);
    IS_SHOWN.store(true, Ordering::Relaxed);
    // The library's own ticker panics if its thread cannot start; here the line just does not move.
    let _ = thread::Builder::new().spawn(|| {
        while !LINE.is_finished() {
            LINE.tick();
            thread::sleep(TICK_INTERVAL);
        }
    });
    Some(Shown(()))
}

/// Brings the line up to date.
pub fn update(pages: u64, seen: u64) {
    LINE.set_message(format!("Listing: {pages} pages, {seen} demandes"));
}

/// Writes log to standard error, with the line erased meanwhile.
pub fn write_log(bytes: &[u8]) -> io::Result<()> {
    let write = || io::stderr().lock().write_all(bytes);
    // A hidden line reads the clock too, which would panic again while a panic of it is logged.
    match IS_SHOWN.load(Ordering::Relaxed) {
        true => LINE.suspend(write),
        false => write(),
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        LINE.finish_and_clear();
        LINE.set_draw_target(ProgressDrawTarget::hidden());
        IS_SHOWN.store(false, Ordering::Relaxed);
    }
}
