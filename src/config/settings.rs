//! Looks settings up and validates them. What is wrong is kept, so that all problems are reported
//! together: a method looks at all of its settings before it gives up.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::sources::{Given, Source};
use super::{Format, LogConfig};
use crate::cli::Options;
use crate::cli::variables::{VARIABLES, Variable};
use crate::error::{Failure, Reason, Result, Stage};
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;

/// The settings of a process, validated when a command asks for them.
#[derive(Default)]
pub struct Settings {
    pub(super) options: Options,
    /// The instant that ages count from.
    pub(super) now: DateTime<Utc>,
    /// What is set or has a default, by the name of its variable.
    pub(super) values: HashMap<&'static str, Given>,
    /// What ended the reading of the env file.
    pub(super) interrupted: Option<Failure>,
    /// Why the env file could not be read at all.
    pub(super) unreadable: Option<String>,
    /// How to log.
    pub log: LogConfig,
    /// The format of the output; text for a command without `--format`.
    pub format: Format,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: BTreeSet<String>,
}

/// One thing that is wrong.
pub(super) struct Problem {
    /// Where the setting is in the documentation; what has no variable comes first.
    rank: Option<usize>,
    source: Source,
    text: String,
}

impl Settings {
    /// Asks for the settings of a command and validates them all.
    ///
    /// # Errors
    ///
    /// [`Reason::Usage`] when only options are invalid, else [`Reason::Configuration`]; the message
    /// names every missing or invalid setting and shows no value.
    pub fn load<T: Send + 'static>(
        mut self,
        ask: impl FnOnce(&mut Self) -> Option<T> + Send + 'static,
    ) -> Result<T> {
        // The file of a secret may be a slow pipe.
        supervise(&Deadline::signal_only(), move || {
            let value = ask(&mut self);
            self.finish(value)
        })
    }

    /// Logs the warnings; returns the value when nothing is wrong, else the failure.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T> {
        for warning in &self.warnings {
            log::warn!(stage = Stage::Prepare.as_str(); "{warning}");
        }
        if let Some(failure) = self.interrupted {
            return Err(failure);
        }
        if let Some(text) = self.unreadable.take() {
            // What is missing may be in there.
            self.problems.clear();
            self.problem("", Source::Option, text);
        }
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self.failure()),
        }
    }

    fn failure(self) -> Failure {
        let mut problems = self.problems;
        problems.sort_by_key(|problem| problem.rank);
        problems.dedup_by(|one, other| one.text == other.text);
        let reason = match problems.iter().all(|problem| problem.source == Source::Option) {
            true => Reason::Usage,
            false => Reason::Configuration,
        };
        let is_missing = problems.iter().any(|problem| problem.source == Source::Default);
        let is_set = |given: &Given| matches!(given.source, Source::File | Source::Process);
        let mut texts: Vec<String> = problems.into_iter().map(|problem| problem.text).collect();
        if is_missing && !self.values.values().any(is_set) {
            texts.push(
                "No settings at all: copy .env.template, fill it in and name it with --env-file"
                    .to_owned(),
            );
        }
        Failure::of_problems(Stage::Prepare, reason, "Missing or invalid settings", texts)
    }

    pub(super) fn problem(&mut self, name: &str, source: Source, text: String) {
        let rank = VARIABLES.iter().position(|variable| variable.name == name);
        self.problems.push(Problem { rank, source, text });
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.insert(text.into());
    }

    pub(super) fn env_file(&self) -> Option<PathBuf> {
        self.options.value("env-file").map(PathBuf::from)
    }

    /// Validates what is only an option or argument.
    pub fn argument<T>(&mut self, name: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|problem| self.problem("", Source::Option, format!("{name} {problem}"))).ok()
    }

    /// Validates a setting; none when it is neither set nor has a default.
    pub(super) fn setting<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&OsStr) -> Result<T, String>,
    ) -> Option<T> {
        let Some(given) = self.values.get(name) else {
            let variable = Variable::find(name).filter(|variable| variable.required)?;
            self.problem(name, Source::Default, missing(variable));
            return None;
        };
        match parse(given.value.as_ref()?) {
            Ok(value) => Some(value),
            Err(problem) => {
                let (source, text) = (given.source, format!("{} {problem}", given.place));
                self.problem(name, source, text);
                None
            }
        }
    }

    /// Validates a setting that is a string.
    pub(super) fn text<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.setting(name, |value| parse(value.to_str().ok_or("is not UTF-8")?))
    }

    /// Validates a secret: the variable, else the file that `NAME_FILE` names, else a credential.
    pub(super) fn secret<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if let Err(text) = self.find_secret(name) {
            self.problem(name, Source::File, text);
            return None;
        }
        self.text(name, parse)
    }
}

fn missing(variable: &Variable) -> String {
    let Variable { name, help, .. } = variable;
    let file = match variable.secret {
        true => format!(", neither is {name}_FILE"),
        false => String::new(),
    };
    // The end of a sentence; names, which begin with two capitals, keep theirs.
    let help = help.replacen("The ", "the ", 1);
    format!("{name} is not set{file} (expected: {help})")
}
