//! Standard output: one answer per command, as text or as one JSON document.

use std::io::{self, Write};

use anstream::AutoStream;
use serde_json::{Value, json};

use crate::config::Format;
use crate::error::{Exit, Failure, Reason, Result, Stage};
use crate::output::{escape, log};

/// Writes to standard output, with styles only on a terminal that supports them. A closed pipe is
/// not a failure.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = AutoStream::auto(io::stdout().lock());
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// What a command answers.
#[derive(Debug)]
pub struct Answer {
    /// As text.
    pub text: String,
    /// As JSON; none of a command that only has text.
    pub json: Option<Value>,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { text, json: None }
    }
}

/// Returns a JSON document as it is printed.
pub fn document(value: &Value) -> String {
    format!("{}\n", escape::json(value))
}

/// Prints the answer of a command, or logs why there is none; returns the exit code.
///
/// In JSON a failure is a document, too.
pub fn answer(format: Format, answer: Result<Answer>) -> Exit {
    let printed = answer.and_then(|Answer { text, json }| {
        let json = json.filter(|_| format == Format::Json);
        print(&json.map_or(text, |json| document(&json))).map_err(|error| {
            let message = "Cannot write to standard output: check its disk";
            Failure::new(Stage::Prepare, Reason::Resources, message).with_source(error)
        })
    });
    let Err(failure) = printed else {
        return Exit::Success;
    };
    if format == Format::Json {
        // The exit code reports what standard output cannot.
        let _ = print(&document(&described(&failure)));
    }
    log::failure(&failure);
    failure.exit()
}

/// Returns the fields that describe a failure in JSON.
pub fn described(failure: &Failure) -> Value {
    json!({
        "outcome": failure.exit().as_str(),
        "reason": failure.reason.as_str(),
        "stage": failure.stage.as_str(),
        "message": failure.error_chain(),
    })
}
