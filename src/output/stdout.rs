//! Standard output, and the log line of a failure.

use std::io::{self, Write};

use log::error;

use crate::error::Failure;

/// Writes to standard output. A reader that went away is no failure of ours.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Logs a failure: the last line of standard error says in one sentence what happened.
pub fn log_failure(failure: &Failure) {
    error!(stage = failure.stage.as_str(), reason = failure.reason.as_str(); "{}", failure.story());
}
