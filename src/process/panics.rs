//! Panics: logged by their location alone, and reported as an internal error.

use std::panic;
use std::sync::OnceLock;

use log::error;

use crate::error::{Failure, Reason, Stage};

/// Where the first panic of this process was.
static LOCATION: OnceLock<String> = OnceLock::new();

/// Logs where a panic happened, and not its message: that may hold anything.
pub fn install_hook() {
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        error!(reason = Reason::Panic.as_str(); "Internal error at {location}");
        let _ = LOCATION.set(location);
    }));
}

/// Returns where the first panic was, as file, line and column; none without one.
pub fn location() -> Option<&'static str> {
    LOCATION.get().map(String::as_str)
}

/// Returns the failure of a step that panicked.
pub fn failure(stage: Stage) -> Failure {
    let message = "Stopped by an internal error; what it had to write is written as a whole or not \
                   at all. Please report the line above";
    Failure::new(stage, Reason::Panic, message)
}
