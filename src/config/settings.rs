//! Looks settings up and validates them: flag over environment over env file over default. What is
//! wrong is kept, so that all problems are reported together.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::environment::{self, Environment};
use super::{Format, LogConfig};
use crate::cli::Options;
use crate::cli::variables::{VARIABLES, Variable};
use crate::error::{Failure, Reason, Result, Stage};
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;

/// Variables that libraries read from the process itself; in an env file they do nothing.
const PROCESS_ONLY: &[&str] = &["SSL_CERT_DIR", "SSL_CERT_FILE"];

/// What the names of our own variables begin with.
const PREFIX: &str = "DATAPASS_";
/// How like a known name an unknown one must be to be taken for it, from 0 to 1.
const MIN_LIKENESS: f64 = 0.6;

/// One thing that is wrong.
#[derive(Clone)]
struct Problem {
    /// Where the setting is in the documentation; what is only an option comes first.
    rank: usize,
    from_option: bool,
    text: String,
}

/// The settings of a process, validated when a command asks for them.
#[derive(Clone)]
pub struct Settings {
    pub(super) environment: Environment,
    options: Options,
    now: DateTime<Utc>,
    env_file: EnvFileUse,
    log: LogConfig,
    format: Format,
    problems: Vec<Problem>,
    /// Whether a required variable is missing.
    lacks_some: bool,
    warnings: Vec<String>,
}

/// What a missing env file means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EnvFileUse {
    Required,
    /// It is only named in the output.
    Named,
}

impl Settings {
    /// Takes the options of the command line, the variables of the process, and the instant that
    /// ages count from.
    pub fn new(
        options: Options,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            environment: Environment::new(variables),
            options,
            now,
            env_file: EnvFileUse::Required,
            log: LogConfig::default(),
            format: Format::Text,
            problems: vec![],
            lacks_some: false,
            warnings: vec![],
        }
    }

    /// Reads the file that `--env-file` names.
    pub fn with_env_file(mut self) -> Self {
        let path = self.options.value("env-file");
        self.environment = self.environment.with_file(path);
        self
    }

    /// Finds out how to log and the format of the output, to be called once and first; text where
    /// they are not understood.
    pub fn with_output(mut self) -> Self {
        let log_format = self.text("DATAPASS_LOG_FORMAT", Format::parse);
        let rust_log = self.environment.find("RUST_LOG");
        self.log = LogConfig {
            verbosity: self.options.verbosity(),
            rust_log: rust_log.and_then(|found| found.value.to_str().map(str::to_owned)),
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
        let stage = Stage::Prepare.as_str();
        let (result, warnings) = self.finished(value);
        for warning in warnings {
            log::warn!(stage; "{warning}");
        }
        result
    }

    pub(super) fn finished<T>(mut self, value: Option<T>) -> (Result<T>, Vec<String>) {
        self.check_sources();
        let warnings = std::mem::take(&mut self.warnings);
        match value {
            Some(value) if self.problems.is_empty() => (Ok(value), warnings),
            _ => (Err(self.into_failure()), warnings),
        }
    }

    fn into_failure(self) -> Failure {
        let names = self.environment.names();
        let is_bare =
            self.lacks_some && !names.into_iter().any(|name| Variable::find(name).is_some());
        let mut problems = self.problems;
        problems.sort_by_key(|problem| problem.rank);
        problems.dedup_by(|one, other| one.text == other.text);
        let is_usage = problems.iter().all(|problem| problem.from_option);
        let reason = if is_usage {
            Reason::Usage
        } else {
            Reason::Configuration
        };
        let mut texts: Vec<String> = problems.into_iter().map(|problem| problem.text).collect();
        if is_bare {
            texts.push(
                "No settings at all: copy .env.template, fill it in and name it with --env-file"
                    .to_owned(),
            );
        }
        let title = "Missing or invalid settings";
        Failure::of_problems(Stage::Prepare, reason, title, texts)
    }

    pub(super) fn problem(&mut self, name: &str, from_option: bool, text: String) {
        let rank = rank(name);
        self.problems.push(Problem {
            rank,
            from_option,
            text,
        });
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Returns the env file as given, and takes what is said of it.
    pub(super) fn env_file(&mut self, used: EnvFileUse) -> Option<PathBuf> {
        self.env_file = used;
        self.options.value("env-file").map(PathBuf::from)
    }

    /// Validates what is only an option or argument.
    pub fn argument<T>(&mut self, name: &str, value: Result<T, String>) -> Option<T> {
        value
            .map_err(|problem| self.problem("", true, format!("{name} {problem}")))
            .ok()
    }

    /// Validates a setting: its option, its variable, or its default; none when there is none.
    pub(super) fn setting<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&OsStr) -> Result<T, String>,
    ) -> Option<T> {
        let variable = Variable::find(name)?;
        let option = variable.option;
        let option = option.and_then(|it| Some((it.long, self.options.value(it.long)?)));
        let (place, from_option, value) = match (option, self.environment.find(name)) {
            (Some((long, value)), _) => (format!("--{long}"), true, value),
            (None, Some(found)) => (place(name, found.file), false, found.value),
            (None, None) => match variable.default {
                Some(default) => (name.to_owned(), false, OsStr::new(default)),
                None if variable.required => {
                    self.missing(variable, "");
                    return None;
                }
                None => return None,
            },
        };
        parse(value)
            .map_err(|problem| self.problem(name, from_option, format!("{place} {problem}")))
            .ok()
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
        let variable = Variable::find(name)?;
        let file_name = format!("{name}_FILE");
        let found = |name: &str| {
            let found = self.environment.find(name)?;
            Some((place(name, found.file), found.value.to_owned()))
        };
        let credentials = found("CREDENTIALS_DIRECTORY");
        let (place, read) = match (found(name), found(&file_name)) {
            (Some(_), Some(_)) => {
                let text = format!("{name} and {file_name} are both set: use one");
                self.problem(name, false, text);
                return None;
            }
            (Some((place, value)), None) => {
                let text = utf8(&value).map(|text| Some(text.to_owned()));
                (place, text)
            }
            (None, Some((place, path))) => {
                let read = self.secret_file(Path::new(&path), &place);
                let missing = || "names a file that does not exist".to_owned();
                let text = read.and_then(|text| text.ok_or_else(missing)).map(Some);
                (place, text)
            }
            (None, None) => {
                let place = format!("The credential {name}");
                let path = credentials.map(|(_, directory)| Path::new(&directory).join(name));
                let text = path.map_or(Ok(None), |path| self.secret_file(&path, &place));
                (place, text)
            }
        };
        match read.and_then(|text| text.map(|text| parse(&text)).transpose()) {
            Ok(None) if variable.required => {
                self.missing(variable, &format!(", neither is {file_name}"));
                None
            }
            Ok(value) => value,
            Err(problem) => {
                self.problem(name, false, format!("{place} {problem}"));
                None
            }
        }
    }

    fn missing(&mut self, variable: &Variable, detail: &str) {
        self.lacks_some = true;
        let (name, help) = (variable.name, lower_first(variable.help));
        self.problem(
            name,
            false,
            format!("{name} is not set{detail} (expected: {help})"),
        );
    }

    fn secret_file(&mut self, path: &Path, place: &str) -> Result<Option<String>, String> {
        let Some(secret) = environment::read_secret(path)? else {
            return Ok(None);
        };
        if let Some(mode) = secret.open_mode {
            self.warn(format!(
                "{place}: every user may read or write the file (mode {mode:04o}): chmod o-rwx it"
            ));
        }
        Ok(Some(secret.text))
    }

    /// Validates the env file and the names that are set.
    fn check_sources(&mut self) {
        let environment = self.environment.clone();
        if let Some(file) = &environment.file {
            if let Some(error) = &file.unreadable {
                let text = format!("--env-file {error}");
                if self.env_file == EnvFileUse::Named {
                    self.warn(text);
                } else {
                    // What is missing may be in there.
                    self.problems.clear();
                    self.lacks_some = false;
                    self.problem("", true, text);
                    return;
                }
            }
            for problem in &file.problems {
                self.problem("", false, format!("--env-file {problem}"));
            }
        }
        for name in &environment.quoted {
            if Variable::find(&name.to_ascii_uppercase()).is_some() {
                let text = format!("{name} begins and ends with a quote: remove both");
                self.problems.retain(|problem| problem.rank != rank(name));
                self.problem(name, false, text);
            }
        }
        let secrets = VARIABLES.iter().filter(|variable| variable.secret);
        let secrets: Vec<&str> = secrets.map(|variable| variable.name).collect();
        if let Some((path, mode)) = environment.file_open_to_others(&secrets) {
            self.warn(format!(
                "--env-file {path:?} holds a secret and every user may read or write it \
                 (mode {mode:04o}): chmod o-rwx it"
            ));
        }
        let is_unknown = |name: &&str| name.starts_with(PREFIX) && Variable::find(name).is_none();
        for name in environment.names().into_iter().filter(is_unknown) {
            self.warn(match similar(name) {
                Some(known) => format!("Unknown variable {name}: did you mean {known}?"),
                None => format!("Unknown variable {name}: it has no effect"),
            });
        }
        let without_effect: BTreeSet<&str> = environment
            .file_names()
            .filter(|name| PROCESS_ONLY.contains(name))
            .collect();
        for name in without_effect {
            self.warn(format!(
                "{name} has no effect in --env-file: set it in the environment itself"
            ));
        }
    }
}

/// Returns where a variable is in the documentation; 0 for what is no variable.
fn rank(name: &str) -> usize {
    let name = name.to_ascii_uppercase();
    let position = VARIABLES.iter().position(|variable| variable.name == name);
    position.map_or(0, |position| position + 1)
}

/// Finds the variable that a misspelled name most likely means.
fn similar(name: &str) -> Option<&'static str> {
    let likeness = |known: &Variable| {
        let known = known.name.strip_prefix(PREFIX)?;
        Some(strsim::normalized_damerau_levenshtein(
            name.strip_prefix(PREFIX)?,
            known,
        ))
    };
    let known = VARIABLES
        .iter()
        .filter_map(|known| Some((known.name, likeness(known)?)));
    let (known, likeness) = known.max_by(|one, other| one.1.total_cmp(&other.1))?;
    (likeness >= MIN_LIKENESS).then_some(known)
}

pub(super) fn utf8(value: &OsStr) -> Result<&str, String> {
    value.to_str().ok_or_else(|| "is not UTF-8".to_owned())
}

/// Makes a sentence the end of another one; names, which begin with two capitals, keep theirs.
fn lower_first(text: &str) -> String {
    match text.strip_prefix("The ") {
        Some(rest) => format!("the {rest}"),
        None => text.to_owned(),
    }
}

/// Names a variable, with the env file that it is from.
pub(super) fn place(name: &str, file: Option<&Path>) -> String {
    match file {
        Some(path) => format!("{name} (in {path:?})"),
        None => name.to_owned(),
    }
}
