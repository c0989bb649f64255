//! The primitives of loading: each looks at one setting and keeps what is wrong, instead of
//! stopping at it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use chrono::{DateTime, Utc};

use super::environment::{self, Environment};
use crate::cli::variables::{VARIABLES, Variable};
use crate::error::{Failure, Reason, Stage};

/// The variables whose value is a secret: a file that holds one should be its owner's alone.
const SECRETS: &[&str] = &["DATAPASS_CLIENT_SECRET", "DATABASE_URL", "SENTRY_DSN"];

/// Variables that libraries read from the process itself; in an env file they do nothing.
const PROCESS_ONLY: &[&str] = &["SSL_CERT_DIR", "SSL_CERT_FILE"];

/// One thing that is wrong.
struct Problem {
    /// Where the setting stands in the documentation; what is only an option comes first.
    rank: usize,
    from_option: bool,
    text: String,
}

/// Looks at one setting after the other, and keeps what is wrong instead of stopping at it.
pub(super) struct Loader<'a> {
    pub(super) environment: &'a Environment,
    pub(super) now: DateTime<Utc>,
    problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(environment: &'a Environment, now: DateTime<Utc>) -> Self {
        Self {
            environment,
            now,
            problems: vec![],
            warnings: vec![],
        }
    }

    /// Tells whether nothing is wrong so far.
    pub(super) fn is_content(&self) -> bool {
        self.problems.is_empty()
    }

    /// Tells everything that is wrong in one failure, in the order of the documentation.
    pub(super) fn into_failure(self) -> Failure {
        let mut problems = self.problems;
        problems.sort_by_key(|problem| problem.rank);
        problems.dedup_by(|one, other| one.text == other.text);
        let is_usage = problems.iter().all(|problem| problem.from_option);
        let reason = if is_usage {
            Reason::Usage
        } else {
            Reason::Configuration
        };
        let texts: Vec<String> = problems.into_iter().map(|problem| problem.text).collect();
        let message = format!("Missing or bad settings: {}", texts.join("; "));
        Failure::new(Stage::Prepare, reason, message)
    }

    pub(super) fn problem(&mut self, name: &str, from_option: bool, text: String) {
        let rank = VARIABLES.iter().position(|variable| variable.name == name);
        let rank = rank.map_or(0, |position| position + 1);
        self.problems.push(Problem {
            rank,
            from_option,
            text,
        });
    }

    fn missing(&mut self, name: &str, detail: String) {
        let help =
            Variable::find(name).map_or_else(String::new, |variable| lower_first(variable.help));
        self.problem(
            name,
            false,
            format!("{name} is not set{detail} (expected: {help})"),
        );
    }

    /// Judges an option that has no variable.
    pub(super) fn only_option<T>(&mut self, option: &str, value: Result<T, String>) -> Option<T> {
        value
            .map_err(|problem| self.problem("", true, format!("{option} {problem}")))
            .ok()
    }

    /// Judges a setting: its option, its variable, or its default; none when there is none.
    pub(super) fn setting<T>(
        &mut self,
        name: &'static str,
        option: Option<&OsStr>,
        parse: impl FnOnce(&OsStr) -> Result<T, String>,
    ) -> Option<T> {
        let variable = Variable::find(name)?;
        let (place, from_option, value) = match option.filter(|value| !value.is_empty()) {
            Some(value) => (variable.option.unwrap_or(name).to_owned(), true, value),
            None => match self.environment.find(name) {
                Some(found) => (place(name, found.file), false, found.value),
                None => (name.to_owned(), false, OsStr::new(variable.default?)),
            },
        };
        parse(value)
            .map_err(|problem| self.problem(name, from_option, format!("{place} {problem}")))
            .ok()
    }

    /// Judges a setting that is a text.
    pub(super) fn text<T>(
        &mut self,
        name: &'static str,
        option: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.setting(name, option.map(OsStr::new), |value| parse(utf8(value)?))
    }

    /// Judges a text that must be there.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.environment.find(name).is_none() {
            self.missing(name, String::new());
            return None;
        }
        self.text(name, None, parse)
    }

    /// Judges a secret: the variable, else the file that `file_name` names, else a credential.
    pub(super) fn secret<T>(
        &mut self,
        name: &'static str,
        file_name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let environment = self.environment;
        let file = environment.find(file_name);
        let credentials = environment.find("CREDENTIALS_DIRECTORY");
        let (place, read) = match (environment.find(name), file, credentials) {
            (Some(_), Some(_), _) => {
                let text = format!("{name} and {file_name} are both set, use one");
                self.problem(name, false, text);
                return None;
            }
            (Some(found), None, _) => (
                place(name, found.file),
                utf8(found.value).map(|text| Some(text.to_owned())),
            ),
            (None, Some(found), _) => {
                let place = place(file_name, found.file);
                let path = Path::new(found.value);
                let read = self.secret_file(path, &place).and_then(|text| match text {
                    None => Err("names a file that does not exist".to_owned()),
                    text => Ok(text),
                });
                (place, read)
            }
            (None, None, Some(found)) => {
                let place = format!("The credential {name}");
                let path = Path::new(found.value).join(name);
                let read = self.secret_file(&path, &place);
                (place, read)
            }
            (None, None, None) => (name.to_owned(), Ok(None)),
        };
        match read.and_then(|text| text.map(|text| parse(&text)).transpose()) {
            Ok(Some(value)) => Some(value),
            Ok(None) => {
                self.missing(name, format!(", neither is {file_name}"));
                None
            }
            Err(problem) => {
                self.problem(name, false, format!("{place} {problem}"));
                None
            }
        }
    }

    fn secret_file(&mut self, path: &Path, place: &str) -> Result<Option<String>, String> {
        let Some(secret) = environment::read_secret(path)? else {
            return Ok(None);
        };
        if let Some(mode) = secret.open_mode {
            self.warnings.push(format!(
                "{place}: the file may be used by every user (mode {mode:04o}): chmod o-rwx it"
            ));
        }
        Ok(Some(secret.text))
    }

    /// Judges the env file and the names that are set.
    ///
    /// An entry for a scheduler may name an env file that is not there yet, or not for us.
    pub(super) fn sources(&mut self, env_file_may_be_missing: bool) {
        let environment = self.environment;
        if let Some(error) = environment.file_open_error() {
            let text = format!("--env-file {error}");
            if env_file_may_be_missing {
                self.warnings.push(text);
            } else {
                self.problem("", true, text);
            }
        }
        for line in environment.file_bad_lines() {
            self.problem("", false, format!("--env-file {line}"));
        }
        if let Some((path, mode)) = environment.file_open_to_others(SECRETS) {
            self.warnings.push(format!(
                "--env-file {path:?} holds a secret and may be used by every user \
                 (mode {mode:04o}): chmod o-rwx it"
            ));
        }
        let is_unknown =
            |name: &&str| name.starts_with("DATAPASS_") && Variable::find(name).is_none();
        let unknown: Vec<&str> = environment.names().into_iter().filter(is_unknown).collect();
        if !unknown.is_empty() {
            let names = unknown.join(", ");
            self.warnings
                .push(format!("Unknown variables, perhaps misspelled: {names}"));
        }
        let without_effect: BTreeSet<&str> = environment
            .file_names()
            .filter(|name| PROCESS_ONLY.contains(name))
            .collect();
        for name in without_effect {
            self.warnings.push(format!(
                "{name} has no effect in --env-file: set it in the environment itself"
            ));
        }
    }
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
