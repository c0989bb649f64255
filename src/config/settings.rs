//! Looks settings up and validates them. What is wrong is kept, so that all problems are reported
//! together: a method looks at all of its settings before it gives up.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::sources::Given;
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
    /// What the process or the env file sets, by the name of its variable.
    pub(super) values: HashMap<&'static str, Given>,
    /// Why the env file was not read.
    pub(super) unread: Option<Failure>,
    /// How to log.
    pub log: LogConfig,
    /// The format of the output; text for a command without `--format`.
    pub format: Format,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: BTreeSet<String>,
}

/// One thing that is wrong.
pub(super) struct Problem {
    /// The variable that it is about, if any.
    name: &'static str,
    /// [`Reason::Usage`] for an option, else [`Reason::Configuration`].
    reason: Reason,
    text: String,
}

/// Makes a struct of settings: looks all of its fields up, and is none if one of them is.
macro_rules! all {
    ($name:ident { $($field:ident: $setting:expr),* $(,)? }) => {
        match ($($setting,)*) {
            ($(Some($field),)*) => Some($name { $($field),* }),
            _ => None,
        }
    };
}
pub(super) use all;

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
        match (self.unread.take(), value) {
            // What is missing may be in the env file.
            (Some(failure), _) => Err(failure),
            (None, Some(value)) if self.problems.is_empty() => Ok(value),
            (None, _) => Err(self.failure()),
        }
    }

    fn failure(mut self) -> Failure {
        // In the order of the documentation; what has no variable comes first.
        let rank = |problem: &Problem| VARIABLES.iter().position(|it| it.name == problem.name);
        self.problems.sort_by_key(rank);
        self.problems.dedup_by(|one, other| one.text == other.text);
        let reason = match self.problems.iter().all(|problem| problem.reason == Reason::Usage) {
            true => Reason::Usage,
            false => Reason::Configuration,
        };
        // While no variable is set, the problem of one is that it is missing.
        let is_missing = |it: &Problem| it.reason == Reason::Configuration && !it.name.is_empty();
        let has_none = self.values.is_empty() && self.problems.iter().any(is_missing);
        let mut texts: Vec<String> = self.problems.into_iter().map(|it| it.text).collect();
        if has_none {
            texts.push(
                "No settings at all: copy .env.template, fill it in and name it with --env-file"
                    .to_owned(),
            );
        }
        failure(reason, texts)
    }

    pub(super) fn problem(&mut self, name: &'static str, reason: Reason, text: String) {
        self.problems.push(Problem { name, reason, text });
    }

    pub(super) fn env_file(&self) -> Option<PathBuf> {
        self.options.value("env-file").map(PathBuf::from)
    }

    /// Validates what is only an option or argument.
    pub fn argument<T>(&mut self, name: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|problem| self.problem("", Reason::Usage, format!("{name} {problem}"))).ok()
    }

    /// Validates a setting: its option, else its variable, else its default; none when it has none
    /// of them.
    pub(super) fn setting<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&OsStr) -> Result<T, String>,
    ) -> Option<T> {
        let variable = Variable::find(name)?;
        let option = variable.option.and_then(|it| Some((it.long, self.options.value(it.long)?)));
        let (place, value) = match (option, self.values.get(name), variable.default) {
            (Some((long, value)), ..) => (format!("--{long}"), value),
            (None, Some(given), _) => (given.place.clone(), given.value.as_deref()?),
            (None, None, Some(default)) => (name.to_owned(), OsStr::new(default)),
            (None, None, None) => {
                if variable.required {
                    self.problem(name, Reason::Configuration, missing(variable));
                }
                return None;
            }
        };
        let reason = if option.is_some() { Reason::Usage } else { Reason::Configuration };
        let parsed = parse(value).map_err(|problem| format!("{place} {problem}"));
        parsed.map_err(|text| self.problem(name, reason, text)).ok()
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
            self.problem(name, Reason::Configuration, text);
            return None;
        }
        self.text(name, parse)
    }
}

/// Makes the failure of invalid settings.
pub(super) fn failure(reason: Reason, problems: Vec<String>) -> Failure {
    Failure::of_problems(Stage::Prepare, reason, "Missing or invalid settings", problems)
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
