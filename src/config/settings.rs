//! Looks settings up and validates them: flag over environment over env file over default. What is
//! wrong is kept, so that all problems are reported together.

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
#[derive(Clone)]
pub struct Settings {
    pub(super) options: Options,
    pub(super) now: DateTime<Utc>,
    /// What is set or has a default, by the name of its variable.
    pub(super) values: HashMap<&'static str, Given>,
    /// Why the env file could not be read at all.
    pub(super) unreadable: Option<String>,
    log: LogConfig,
    format: Format,
    problems: Vec<Problem>,
    warnings: BTreeSet<String>,
}

/// One thing that is wrong.
#[derive(Clone)]
struct Problem {
    /// Where the setting is in the documentation; what has no variable comes first.
    rank: usize,
    source: Source,
    text: String,
}

impl Settings {
    pub(super) fn empty(options: Options, now: DateTime<Utc>) -> Self {
        Self {
            options,
            now,
            values: HashMap::new(),
            unreadable: None,
            log: LogConfig::default(),
            format: Format::Text,
            problems: vec![],
            warnings: BTreeSet::new(),
        }
    }

    /// Finds out how to log and the format of the output, to be called once and first; text where
    /// they are not understood.
    pub fn with_output(mut self) -> Self {
        let log_format = self.text("DATAPASS_LOG_FORMAT", Format::parse);
        self.log = LogConfig {
            verbosity: self.options.verbosity(),
            rust_log: self.text("RUST_LOG", |text| Ok(text.to_owned())),
            format: log_format.unwrap_or_default(),
        };
        if self.options.has("format") {
            let format = self.text("DATAPASS_FORMAT", Format::parse);
            self.format = format.unwrap_or_default();
        }
        self
    }

    /// Returns how to log.
    pub fn log(&self) -> &LogConfig {
        &self.log
    }

    /// Returns the format of the output; text for a command without `--format`.
    pub fn format(&self) -> Format {
        self.format
    }

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
    pub fn finish<T>(self, value: Option<T>) -> Result<T> {
        let (result, warnings) = self.finished(value);
        for warning in warnings {
            log::warn!(stage = Stage::Prepare.as_str(); "{warning}");
        }
        result
    }

    pub(super) fn finished<T>(mut self, value: Option<T>) -> (Result<T>, BTreeSet<String>) {
        if let Some(text) = self.unreadable.take() {
            // What is missing may be in there.
            self.problems.clear();
            self.problem("", Source::Option, text);
        } else if self.problems.iter().any(Problem::is_missing) && !self.has_any() {
            let text = "No settings at all: copy .env.template, fill it in and name it with \
                        --env-file";
            self.problems.push(Problem {
                rank: usize::MAX,
                source: Source::Default,
                text: text.to_owned(),
            });
        }
        match value {
            Some(value) if self.problems.is_empty() => (Ok(value), self.warnings),
            _ => (Err(failure(self.problems)), self.warnings),
        }
    }

    fn has_any(&self) -> bool {
        let mut given = self.values.values();
        given.any(|it| matches!(it.source, Source::File | Source::Process))
    }

    pub(super) fn problem(&mut self, name: &str, source: Source, text: String) {
        let position = VARIABLES.iter().position(|variable| variable.name == name);
        self.problems.push(Problem {
            rank: position.map_or(0, |position| position + 1),
            source,
            text,
        });
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.insert(text.into());
    }

    /// Returns the env file for an entry that names it, which may not exist yet, or not for us.
    pub(super) fn named_env_file(&mut self) -> Option<PathBuf> {
        self.warnings.extend(self.unreadable.take());
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
        let (source, parsed) = (given.source, parse(given.value.as_ref()?));
        let text = |problem| format!("{} {problem}", given.place);
        parsed.map_err(text).map_err(|text| self.problem(name, source, text)).ok()
    }

    /// Validates a setting that is a string.
    pub(super) fn text<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.setting(name, |value| parse(utf8(value)?))
    }

    /// Validates a secret: the variable, else the file that `NAME_FILE` names, else a credential.
    pub(super) fn secret<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.find_secret(name) {
            Ok(()) => self.text(name, parse),
            Err(text) => {
                self.problem(name, Source::File, text);
                None
            }
        }
    }
}

impl Problem {
    fn is_missing(&self) -> bool {
        self.source == Source::Default
    }
}

fn failure(mut problems: Vec<Problem>) -> Failure {
    problems.sort_by_key(|problem| problem.rank);
    problems.dedup_by(|one, other| one.text == other.text);
    let is_usage = |problem: &Problem| problem.source == Source::Option;
    let reason = match problems.iter().all(is_usage) {
        true => Reason::Usage,
        false => Reason::Configuration,
    };
    let texts = problems.into_iter().map(|problem| problem.text).collect();
    Failure::of_problems(Stage::Prepare, reason, "Missing or invalid settings", texts)
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

pub(super) fn utf8(value: &OsStr) -> Result<&str, String> {
    value.to_str().ok_or_else(|| "is not UTF-8".to_owned())
}
