//! What `check` found: printed, counted, and turned into the exit code.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;
use serde_json::json;

use crate::config::Format;
use crate::db::schema::Finding;
use crate::error::{Exit, Failure, Result};
use crate::output::columns;
use crate::output::escape::escape;
use crate::output::log;
use crate::output::stdout::{described, document, print};
use crate::process::lock::Lock;

/// The sections in the order in which a cycle meets their failures: tables that it can read, and not
/// write to, are the last.
const CYCLE_ORDER: [&str; 9] = [
    "settings",
    "database",
    "watermark",
    "jobs",
    "token",
    "connect",
    "listing",
    "definition",
    "tables",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
    /// It could not be tried.
    Skip,
}

/// One line.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    verdict: Verdict,
    detail: String,
}

/// What was found so far, shared with the thread that waits for the end. A text line is printed as
/// soon as it is known, JSON at the end.
#[derive(Clone)]
pub(super) struct Findings(Arc<Lock<State>>);

#[derive(Default)]
struct State {
    format: Format,
    /// The effective settings, by name.
    settings: BTreeMap<&'static str, String>,
    lines: Vec<Line>,
    /// The failure that a cycle would end with, and its section's place in [`CYCLE_ORDER`].
    failure: Option<(usize, Failure)>,
    /// Whether the last line is printed.
    is_concluded: bool,
}

impl Findings {
    /// Starts with the effective settings, which are none when they are invalid.
    pub(super) fn new(format: Format, settings: Vec<(&'static str, String)>) -> Self {
        let mut state = State { format, ..State::default() };
        state.print(&columns::fields(&settings));
        state.settings = settings.into_iter().collect();
        Self(Arc::new(Lock::new(state)))
    }

    /// Adds what was found of a section, a failure with one line per problem; a detail may be remote
    /// text.
    pub(super) fn add(&self, name: &'static str, found: Result<String, Finding>) {
        let mut state = self.0.lock();
        match found {
            Ok(detail) => state.add(name, Verdict::Ok, detail),
            Err(Finding::Warning(detail)) => state.add(name, Verdict::Warn, detail),
            Err(Finding::Problem(failure)) => {
                for problem in failure.problems() {
                    state.add(name, Verdict::Fail, problem);
                }
                state.decide(name, failure);
            }
        }
    }

    /// Adds a failure that a cycle would end with, and whose causes are reported in other sections.
    pub(super) fn decide(&self, name: &'static str, failure: Failure) {
        self.0.lock().decide(name, failure);
    }

    /// Adds a result; returns its value.
    pub(super) fn take<T>(
        &self,
        name: &'static str,
        result: Result<T>,
        detail: impl Fn(&T) -> String,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.add(name, Ok(detail(&value)));
                Some(value)
            }
            Err(failure) => {
                self.add(name, Err(Finding::Problem(failure)));
                None
            }
        }
    }

    /// Adds what was found of a table, or what it is when nothing is wrong; returns whether a cycle
    /// could use it.
    pub(super) fn examined(
        &self,
        name: &'static str,
        examined: Result<(String, Vec<Finding>)>,
    ) -> bool {
        let (detail, found) =
            examined.unwrap_or_else(|failure| (String::new(), vec![Finding::Problem(failure)]));
        let is_usable = !found.iter().any(|it| matches!(it, Finding::Problem(_)));
        if is_usable {
            self.add(name, Ok(detail));
        }
        for finding in found {
            self.add(name, Err(finding));
        }
        is_usable
    }

    /// Adds a line for each section that has none, with why it is `skipped`, and prints how all
    /// ended; returns the exit code.
    pub(super) fn conclude<const N: usize>(&self, skipped: [(&'static str, String); N]) -> Exit {
        let mut state = self.0.lock();
        for (name, why) in skipped {
            if !state.lines.iter().any(|line| line.name == name) {
                state.add(name, Verdict::Skip, why);
            }
        }
        state.is_concluded = true;
        let answer = match state.format {
            Format::Text => format!("{}\n", state.tally()),
            Format::Json => {
                let mut value = match &state.failure {
                    Some((_, failure)) => described(failure),
                    None => json!({"outcome": "success"}),
                };
                value["settings"] = json!(state.settings);
                value["checks"] = json!(state.lines);
                document(&value)
            }
        };
        // The exit code reports what standard output cannot.
        let _ = print(&answer);
        let Some((_, failure)) = &state.failure else {
            return Exit::Success;
        };
        let failed = state.lines.iter().filter(|line| line.verdict == Verdict::Fail);
        let mut failed: Vec<&str> = failed.map(|line| line.name).collect();
        failed.dedup();
        let message = format!("Check failed: {}", failed.join(", "));
        log::failure(&Failure::new(failure.stage, failure.reason, message));
        failure.exit()
    }
}

impl State {
    fn decide(&mut self, name: &str, failure: Failure) {
        // What has no section ended the check itself.
        let place = CYCLE_ORDER.iter().position(|it| *it == name).unwrap_or(CYCLE_ORDER.len());
        let failures = self.failure.take().into_iter().chain([(place, failure)]);
        self.failure = failures.min_by_key(|(place, _)| *place);
    }

    /// Prints what is shown as text alone.
    fn print(&self, text: &str) {
        if self.format == Format::Text {
            // The exit code reports what standard output cannot.
            let _ = print(text);
        }
    }

    fn add(&mut self, name: &'static str, verdict: Verdict, detail: String) {
        if self.is_concluded {
            return;
        }
        let (word, style) = match verdict {
            Verdict::Ok => ("ok  ", AnsiColor::Green.on_default()),
            Verdict::Warn => ("warn", AnsiColor::Yellow.on_default()),
            Verdict::Fail => ("FAIL", AnsiColor::Red.on_default().bold()),
            Verdict::Skip => ("skip", Style::new().dimmed()),
        };
        self.print(&format!("{style}{word}{style:#} {name}: {}\n", escape(&detail)));
        self.lines.push(Line { name, verdict, detail });
    }

    /// Returns the number of lines with each verdict.
    fn tally(&self) -> String {
        let count = |verdict| self.lines.iter().filter(|line| line.verdict == verdict).count();
        let (ok, warnings, failed) =
            (count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail));
        let plural = if warnings == 1 { "" } else { "s" };
        let tally = format!("{ok} ok, {warnings} warning{plural}, {failed} failed");
        match count(Verdict::Skip) {
            0 => tally,
            skipped => format!("{tally}, {skipped} skipped"),
        }
    }
}
