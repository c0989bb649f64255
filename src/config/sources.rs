//! Where settings come from: options, the variables of the process, an env file, secret files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::env_file;
use super::settings::{Settings, failure};
use crate::cli::Options;
use crate::cli::variables::{VARIABLES, Variable};
use crate::error::{Reason, Result};
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

/// What a variable is set to. It cannot be printed: any may be a secret.
pub(super) struct Given {
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
        if let Some(path) = settings.env_file() {
            settings.take_env_file(path);
        }
        // A name that is not UTF-8 is not ours.
        let variables = variables.into_iter();
        let variables =
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        settings.take(None, variables.collect());
        settings.log = settings.find_log();
        settings.format = settings.find_format();
        settings
    }

    /// Takes the variables of the env file, which is read once, so that a pipe will do.
    fn take_env_file(&mut self, path: PathBuf) {
        let (file, place) = (path.clone(), format!("--env-file {path:?}"));
        // A pipe may be slow.
        let read = supervise(&Deadline::signal_only(), move || {
            let unread =
                |problem| failure(Reason::Usage, vec![format!("--env-file {path:?} {problem}")]);
            read_bounded(&path, MAX_ENV_FILE_BYTES).map_err(unread)
        });
        let (bytes, open_mode) = match read {
            Ok(read) => read,
            Err(failure) => {
                self.unread = Some(failure);
                return;
            }
        };
        let Ok(text) = String::from_utf8(bytes) else {
            self.problem("", Reason::Configuration, format!("{place} is not UTF-8"));
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
                        "{place} line {line} cannot be read (expected NAME=value; a value with a \
                         space needs quotes, and every quote must be closed)"
                    );
                    self.problem("", Reason::Configuration, text);
                }
            }
        }
        self.take(Some(&file), variables);
        if VARIABLES.iter().any(|it| it.secret && self.values.contains_key(it.name)) {
            self.warn_of_open_file(&place, open_mode);
        }
    }

    /// Takes the variables of the env file or, without one, of the process. An empty value is the
    /// same as none.
    fn take(&mut self, file: Option<&Path>, variables: BTreeMap<String, OsString>) {
        // Lower case first: of a proxy's two names the one in upper case wins.
        let set = variables.into_iter().rev();
        for (name, value) in set.filter(|(_, value)| !value.is_empty()) {
            let Some(variable) = known(&name) else {
                if name.starts_with(PREFIX) {
                    let hint = similar(&name).map(|known| format!("did you mean {known}?"));
                    let hint = hint.unwrap_or_else(|| "it has no effect".to_owned());
                    self.warnings.insert(format!("Unknown variable {name}: {hint}"));
                } else if file.is_some() && PROCESS_ONLY.contains(&&*name) {
                    self.warnings.insert(format!(
                        "{name} has no effect in --env-file: set it in the environment itself"
                    ));
                }
                continue;
            };
            let is_quoted = file.is_none() && is_quoted(&value);
            if is_quoted {
                let text = format!("{name} begins and ends with a quote: remove both");
                self.problem(variable.name, Reason::Configuration, text);
            }
            let place = file.map_or(name.clone(), |file| format!("{name} (in {file:?})"));
            let value = (!is_quoted).then_some(value);
            self.values.insert(variable.name, Given { place, value });
        }
    }

    /// Finds a secret that is not given directly: the file that `NAME_FILE` names, else a
    /// credential.
    ///
    /// # Errors
    ///
    /// What is wrong with it; never its content.
    pub(super) fn find_secret(&mut self, name: &'static str) -> Result<(), String> {
        let file_name = format!("{name}_FILE");
        let path = |name: &str| {
            let given = self.values.get(name)?;
            Some((given.place.clone(), PathBuf::from(given.value.as_ref()?)))
        };
        let credential = path("CREDENTIALS_DIRECTORY").map(|(_, directory)| directory.join(name));
        // A directory need not have every credential.
        let credential = credential.filter(|path| !matches!(path.try_exists(), Ok(false)));
        let is_given = self.values.contains_key(name);
        let (place, path) = match (path(&file_name), credential) {
            (Some(_), _) if is_given => {
                return Err(format!("{name} and {file_name} are both set: use one"));
            }
            (Some(file), _) => file,
            (None, Some(credential)) if !is_given => (format!("The credential {name}"), credential),
            _ => return Ok(()),
        };
        let (text, open_mode) =
            read_secret(&path).map_err(|problem| format!("{place} {problem}"))?;
        self.warn_of_open_file(&place, open_mode);
        self.values.insert(name, Given { place, value: Some(text.into()) });
        Ok(())
    }

    /// Warns of a file with a secret that every user may read or write, if it has such a mode.
    fn warn_of_open_file(&mut self, place: &str, open_mode: Option<u32>) {
        if let Some(mode) = open_mode {
            self.warnings.insert(format!(
                "{place}: it holds a secret, and every user may read or write the file (mode \
                 {mode:04o}): chmod o-rwx it"
            ));
        }
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

/// Reads a secret from a file, without a byte-order mark and one line end. Beside it the file's
/// mode, when every user may read or write it.
fn read_secret(path: &Path) -> Result<(String, Option<u32>), String> {
    let (bytes, open_mode) = read_bounded(path, MAX_SECRET_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let line = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n'));
    match line.unwrap_or(text) {
        "" => Err("is empty".to_owned()),
        text => Ok((text.to_owned(), open_mode)),
    }
}

/// Reads a whole file of bounded size, with its permission bits when every user may read or write it.
fn read_bounded(path: &Path, max_bytes: u64) -> Result<(Vec<u8>, Option<u32>), String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        file.take(max_bytes + 1).read_to_end(&mut bytes)?;
        Ok(metadata)
    });
    let metadata = read.map_err(|error| {
        // In the words of the system, such as `No such file or directory`.
        let text = error.to_string();
        format!("cannot be read ({})", text.split(" (os error").next().unwrap_or_default())
    })?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("is larger than {max_bytes} bytes"));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    Ok((bytes, (metadata.is_file() && mode & 0o007 != 0).then_some(mode)))
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
            assert_eq!(read_secret(&path), Ok((expected.to_owned(), None)));
        }
        for mode in [0o604, 0o644, 0o602, 0o666] {
            let path = write(&directory, b"s3cret", mode);
            assert_eq!(read_secret(&path).unwrap().1, Some(mode));
        }
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
