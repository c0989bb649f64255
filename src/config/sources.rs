//! Where settings come from: options, the variables of the process, an env file, secret files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::env_file;
use super::settings::Settings;
use crate::cli::Options;
use crate::cli::variables::{VARIABLES, Variable};
use crate::error::Result;
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;

/// The largest secret file, in bytes: far above any secret, far below a mistaken device.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// The largest env file, in bytes.
const MAX_ENV_FILE_BYTES: u64 = 1024 * 1024;

/// Variables that libraries read from the process itself; in an env file they do nothing.
const PROCESS_ONLY: &[&str] = &["SSL_CERT_DIR", "SSL_CERT_FILE"];

/// What the names of our own variables begin with.
const PREFIX: &str = "DATAPASS_";
/// How like a known name an unknown one must be to be taken for it, from 0 to 1.
const MIN_LIKENESS: f64 = 0.6;

/// Where a value is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    File,
    Process,
    Option,
}

/// The value of a setting. It cannot be printed: any may be a secret.
pub(super) struct Given {
    pub(super) source: Source,
    /// How a problem names it.
    pub(super) place: String,
    /// None for a value in quotes, which is a problem already.
    pub(super) value: Option<OsString>,
}

impl Settings {
    /// Takes the options of the command line, with the env file that they name, the variables of the
    /// process, and the instant that ages count from.
    pub fn new(options: Options, variables: Vec<(OsString, OsString)>, now: DateTime<Utc>) -> Self {
        let mut settings = Self { options, now, ..Self::default() };
        for variable in VARIABLES {
            if let Some(default) = variable.default {
                let (place, value) = (variable.name.to_owned(), Some(default.into()));
                settings.give(variable.name, Source::Default, place, value);
            }
        }
        if let Some(path) = settings.env_file() {
            settings.take_env_file(path);
        }
        // A name that is not UTF-8 is not ours.
        let variables = variables.into_iter();
        let variables =
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        settings.take(Source::Process, "", variables.collect());
        for variable in VARIABLES {
            if let Some(option) = variable.option
                && let Some(value) = settings.options.value(option.long)
            {
                let (place, value) = (format!("--{}", option.long), Some(value.to_owned()));
                settings.give(variable.name, Source::Option, place, value);
            }
        }
        settings.log = settings.find_log();
        settings.format = settings.find_format();
        settings
    }

    /// Takes the variables of the env file, which is read once, so that a pipe will do.
    fn take_env_file(&mut self, path: PathBuf) {
        let (file, suffix) = (format!("--env-file {path:?}"), format!(" (in {path:?})"));
        // A pipe may be slow.
        let read = move || Ok(read_bounded(&path, MAX_ENV_FILE_BYTES));
        let (bytes, open_mode) = match supervise(&Deadline::signal_only(), read) {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                self.unreadable = Some(format!("{file} {error}"));
                return;
            }
            Err(failure) => {
                self.interrupted = Some(failure);
                return;
            }
        };
        let Ok(text) = String::from_utf8(bytes) else {
            self.problem("", Source::File, format!("{file} is not UTF-8"));
            return;
        };
        let mut variables = BTreeMap::new();
        for entry in env_file::parse(&text) {
            match entry {
                // Of two lines with one name the later holds, an empty one too.
                Ok((name, value)) => {
                    variables.insert(name.to_owned(), OsString::from(value));
                }
                Err(line) => {
                    let text = format!(
                        "{file} line {line} cannot be read (expected NAME=value; a value with a \
                         space needs quotes, and every quote must be closed)"
                    );
                    self.problem("", Source::File, text);
                }
            }
        }
        variables.retain(|_, value| !value.is_empty());
        let holds_secret = VARIABLES.iter().any(|it| it.secret && variables.contains_key(it.name));
        if let Some(mode) = open_mode.filter(|_| holds_secret) {
            self.warn(format!(
                "{file} holds a secret and every user may read or write it (mode {mode:04o}): \
                 chmod o-rwx it"
            ));
        }
        for name in PROCESS_ONLY.iter().filter(|name| variables.contains_key(**name)) {
            self.warn(format!(
                "{name} has no effect in --env-file: set it in the environment itself"
            ));
        }
        self.take(Source::File, &suffix, variables);
    }

    /// Takes the variables of one source. An empty value is the same as none.
    fn take(&mut self, source: Source, suffix: &str, variables: BTreeMap<String, OsString>) {
        // Lower case first: of a proxy's two names the one in upper case wins.
        let set = variables.into_iter().rev();
        for (name, value) in set.filter(|(_, value)| !value.is_empty()) {
            let Some(variable) = known(&name) else {
                if name.starts_with(PREFIX) {
                    let hint = similar(&name).map(|known| format!("did you mean {known}?"));
                    let hint = hint.unwrap_or_else(|| "it has no effect".to_owned());
                    self.warn(format!("Unknown variable {name}: {hint}"));
                }
                continue;
            };
            let is_quoted = source == Source::Process && is_quoted(&value);
            if is_quoted {
                let text = format!("{name} begins and ends with a quote: remove both");
                self.problem(variable.name, source, text);
            }
            let value = (!is_quoted).then_some(value);
            self.give(variable.name, source, name + suffix, value);
        }
    }

    /// Keeps a value, instead of an earlier one.
    fn give(&mut self, name: &'static str, source: Source, place: String, value: Option<OsString>) {
        self.values.insert(name, Given { source, place, value });
    }

    /// Finds a secret that is not given directly: the file that `NAME_FILE` names, else a
    /// credential.
    ///
    /// # Errors
    ///
    /// What is wrong with it; never its content.
    pub(super) fn find_secret(&mut self, name: &'static str) -> Result<(), String> {
        let file_name = format!("{name}_FILE");
        let value = |name: &str| {
            let given = self.values.get(name)?;
            Some((given.place.clone(), PathBuf::from(given.value.as_ref()?)))
        };
        let is_given = self.values.contains_key(name);
        let (place, path) = match (value(&file_name), value("CREDENTIALS_DIRECTORY")) {
            (Some(_), _) if is_given => {
                return Err(format!("{name} and {file_name} are both set: use one"));
            }
            (Some(file), _) => file,
            (None, Some((_, directory))) if !is_given => {
                (format!("The credential {name}"), directory.join(name))
            }
            _ => return Ok(()),
        };
        let (text, open_mode) = match read_secret(&path) {
            Ok(Some(secret)) => secret,
            Ok(None) if place.starts_with(&file_name) => {
                return Err(format!("{place} names a file that does not exist"));
            }
            Ok(None) => return Ok(()),
            Err(problem) => return Err(format!("{place} {problem}")),
        };
        if let Some(mode) = open_mode {
            self.warn(format!(
                "{place}: every user may read or write the file (mode {mode:04o}): chmod o-rwx it"
            ));
        }
        self.give(name, Source::File, place, Some(text.into()));
        Ok(())
    }
}

/// Finds the variable of a name; proxies have one in lower case, too.
fn known(name: &str) -> Option<&'static Variable> {
    match name.strip_suffix("_proxy") {
        Some(_) => Variable::find(&name.to_ascii_uppercase()),
        None => Variable::find(name),
    }
}

/// Finds the variable that a misspelled name most likely means.
fn similar(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix(PREFIX)?;
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(name, known);
    let known = VARIABLES.iter().filter_map(|known| {
        let likeness = likeness(known.name.strip_prefix(PREFIX)?);
        Some((known.name, likeness)).filter(|_| likeness >= MIN_LIKENESS)
    });
    Some(known.max_by(|one, other| one.1.total_cmp(&other.1))?.0)
}

/// Whether a value begins and ends with the same quote character, as `docker --env-file` keeps them.
fn is_quoted(value: &OsStr) -> bool {
    matches!(value.as_encoded_bytes(), [b'\'', .., b'\''] | [b'"', .., b'"'])
}

/// Reads a secret from a file, without a byte-order mark and one line end; none when there is no
/// such file. Beside it its mode, when every user may read or write it.
fn read_secret(path: &Path) -> Result<Option<(String, Option<u32>)>, String> {
    let (bytes, open_mode) = match read_bounded(path, MAX_SECRET_BYTES) {
        Ok(read) => read,
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = match text.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => text,
    };
    match text {
        "" => Err("is empty".to_owned()),
        text => Ok(Some((text.to_owned(), open_mode))),
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    /// In the words of the system, such as `No such file or directory`.
    #[error("cannot be read ({})", .0.to_string().split(" (os error").next().unwrap_or_default())]
    Io(#[from] io::Error),
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
}

/// Reads a whole file of bounded size, with its permission bits when every user may read or write it.
fn read_bounded(path: &Path, max_bytes: u64) -> Result<(Vec<u8>, Option<u32>), ReadError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o7777;
    let open_mode = (metadata.is_file() && mode & 0o007 != 0).then_some(mode);
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(ReadError::TooLarge(max_bytes));
    }
    Ok((bytes, open_mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &tempfile::TempDir, content: &[u8], mode: u32) -> PathBuf {
        let path = directory.path().join("secret");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_quoted_value_starts_and_ends_with_the_same_quote() {
        let cases = [
            ("'x'", true),
            ("\"x\"", true),
            ("''", true),
            ("'", false),
            ("'x\"", false),
            ("x'", false),
            ("'a' 'b", false),
            ("", false),
        ];
        for (value, expected) in cases {
            assert_eq!(is_quoted(OsStr::new(value)), expected, "{value}");
        }
    }

    #[test]
    fn a_byte_order_mark_and_one_line_end_of_a_secret_file_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        for (content, expected) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            ("s3cret\n\n", "s3cret\n"),
            (" s3cret\r", " s3cret\r"),
            ("\u{feff}s3cret\r\n", "s3cret"),
        ] {
            let path = write(&directory, content.as_bytes(), 0o440);
            assert_eq!(read_secret(&path), Ok(Some((expected.to_owned(), None))));
        }
        for mode in [0o604, 0o644, 0o602, 0o666] {
            let path = write(&directory, b"s3cret", mode);
            assert_eq!(read_secret(&path).unwrap().unwrap().1, Some(mode));
        }
        assert_eq!(read_secret(&directory.path().join("missing")), Ok(None));
    }

    #[test]
    fn an_invalid_secret_file_is_refused_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = write(&directory, &vec![b'x'; 64 * 1024], 0o600);
        assert!(read_secret(&path).is_ok());
        let too_large = vec![b'x'; 64 * 1024 + 1];
        let cases: [(&[u8], &str); 6] = [
            (b"", "is empty"),
            ("\u{feff}\n".as_bytes(), "is empty"),
            (b"\n", "is empty"),
            (b"\r\n", "is empty"),
            (b"hunter2\xff", "is not UTF-8"),
            (&too_large, "is larger than 65536 bytes"),
        ];
        for (content, expected) in cases {
            let path = write(&directory, content, 0o600);
            assert_eq!(read_secret(&path), Err(expected.to_owned()));
        }
        let expected = "cannot be read (Is a directory)".to_owned();
        assert_eq!(read_secret(directory.path()), Err(expected));
    }
}
