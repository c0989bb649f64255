//! Where settings come from: the process environment, an env file behind it, secret files.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::env_file;

/// The largest secret file, in bytes: far above any secret, far below a mistaken device.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// The largest env file, in bytes.
const MAX_ENV_FILE_BYTES: u64 = 1024 * 1024;

/// The variables of a run: those of the process, then those of an env file.
///
/// An empty value is the same as none, and a name that is not UTF-8 is ignored. It cannot be
/// printed: any value may be a secret.
#[derive(Clone, Default)]
pub(super) struct Environment {
    process: HashMap<String, OsString>,
    /// Names of the process whose values are in quotes, which count as not set.
    pub(super) quoted: Vec<String>,
    pub(super) file: Option<EnvFile>,
}

/// An env file, as far as it could be read.
#[derive(Clone)]
pub(super) struct EnvFile {
    path: PathBuf,
    variables: HashMap<String, String>,
    /// Why it could not be read at all.
    pub(super) unreadable: Option<String>,
    /// What is wrong inside, without any of its text.
    pub(super) problems: Vec<String>,
    open_mode: Option<u32>,
}

/// A value with the place that it was found in.
pub(super) struct Found<'a> {
    pub(super) value: &'a OsStr,
    /// The env file, when it is from there.
    pub(super) file: Option<&'a Path>,
}

impl Environment {
    /// Takes the variables of the process, such as `std::env::vars_os()`.
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else {
                continue;
            };
            if is_quoted(&value) {
                environment.quoted.push(name);
            } else if !value.is_empty() {
                environment.process.insert(name, value);
            }
        }
        environment
    }

    /// Puts the variables of an env file behind those of the process.
    ///
    /// The file is read once, so that a pipe will do. Of two lines with one name the later holds.
    pub(super) fn with_file(mut self, path: Option<&OsStr>) -> Self {
        self.file = path.map(|path| EnvFile::read(path.into()));
        self
    }

    /// Finds a variable that is set and not empty.
    pub(super) fn find(&self, name: &str) -> Option<Found<'_>> {
        if let Some(value) = self.process.get(name) {
            return Some(Found { value, file: None });
        }
        let file = self.file.as_ref()?;
        let value = file.variables.get(name)?;
        Some(Found {
            value: OsStr::new(value),
            file: Some(&file.path),
        })
    }

    /// Returns the names of every variable that is set, sorted.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let process = self.process.keys().chain(&self.quoted);
        process
            .map(String::as_str)
            .chain(self.file_names())
            .collect()
    }

    /// Returns the names that the env file sets.
    pub(super) fn file_names(&self) -> impl Iterator<Item = &str> {
        let files = self.file.iter();
        files.flat_map(|file| file.variables.keys().map(String::as_str))
    }

    /// Returns the env file and its mode, when every user may use it and it holds one of `names`.
    pub(super) fn file_open_to_others(&self, names: &[&str]) -> Option<(&Path, u32)> {
        let file = self.file.as_ref()?;
        let holds = names.iter().any(|name| file.variables.contains_key(*name));
        Some((file.path.as_path(), file.open_mode.filter(|_| holds)?))
    }
}

/// Whether a value begins and ends with the same quote character, as `docker --env-file` keeps them.
fn is_quoted(value: &OsStr) -> bool {
    let bytes = value.as_encoded_bytes();
    matches!(bytes, [b'\'', .., b'\''] | [b'"', .., b'"'])
}

impl EnvFile {
    fn read(path: PathBuf) -> Self {
        let mut file = Self {
            path,
            variables: HashMap::new(),
            unreadable: None,
            problems: vec![],
            open_mode: None,
        };
        let path = &file.path;
        match read_bounded(path, MAX_ENV_FILE_BYTES) {
            Err(error) => file.unreadable = Some(format!("{path:?} {error}")),
            Ok((bytes, open_mode)) => {
                file.open_mode = open_mode;
                match String::from_utf8(bytes) {
                    Err(_) => file.problems.push(format!("{path:?} is not UTF-8")),
                    Ok(text) => file.parse(&text),
                }
            }
        }
        file
    }

    fn parse(&mut self, text: &str) {
        for entry in env_file::parse(text) {
            match entry {
                Ok((name, value)) if value.is_empty() => {
                    self.variables.remove(name);
                }
                Ok((name, value)) => {
                    self.variables.insert(name.to_owned(), value);
                }
                Err(line) => self.problems.push(format!(
                    "{:?} line {line} cannot be read (expected NAME=value; a value with a space \
                     needs quotes, and every quote must be closed)",
                    self.path
                )),
            }
        }
    }
}

/// A secret read from a file.
pub(super) struct SecretFile {
    pub(super) text: String,
    /// The file's mode, when every user may read or write it.
    pub(super) open_mode: Option<u32>,
}

/// Reads a secret from a file, without one line end after it; none when there is no such file.
///
/// # Errors
///
/// What is wrong with it, as the end of a sentence; never its content.
pub(super) fn read_secret(path: &Path) -> Result<Option<SecretFile>, String> {
    let (bytes, open_mode) = match read_bounded(path, MAX_SECRET_BYTES) {
        Ok(read) => read,
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let Ok(mut text) = String::from_utf8(bytes) else {
        return Err("is not UTF-8".to_owned());
    };
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(Some(SecretFile { text, open_mode }))
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("cannot be read ({})", without_number(.0))]
    Io(#[from] io::Error),
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
}

/// Returns the words of the system, such as `No such file or directory`.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
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

    fn write(directory: &tempfile::TempDir, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn text(environment: &Environment, name: &str) -> Option<String> {
        environment
            .find(name)
            .map(|found| found.value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_process_wins_over_the_file_and_empty_is_unset() {
        let directory = tempfile::tempdir().unwrap();
        let content = "\u{feff}A=file\r\nexport B='fi le' # comment\n\n# C=1\nD=first\nD=\"second\"\n\
                       E=1\nE=\nF=\nG='p$w#d' ";
        let path = write(&directory, "env", content.as_bytes(), 0o600);
        let process = [("A", "process"), ("B", ""), ("Z", "")];
        let process = process.map(|(name, value)| (name.into(), value.into()));
        let environment = Environment::new(process).with_file(Some(path.as_os_str()));
        let expected = [
            ("A", Some("process")),
            ("B", Some("fi le")),
            ("C", None),
            ("D", Some("second")),
            ("E", None),
            ("F", None),
            ("G", Some("p$w#d")),
            ("Z", None),
        ];
        for (name, value) in expected {
            assert_eq!(text(&environment, name).as_deref(), value, "{name}");
        }
        assert_eq!(environment.names(), BTreeSet::from(["A", "B", "D", "G"]));
        let file = environment.file.as_ref().unwrap();
        assert!(file.problems.is_empty() && file.unreadable.is_none());
        assert!(environment.find("A").unwrap().file.is_none());
        assert_eq!(environment.find("D").unwrap().file, Some(path.as_path()));
    }

    #[test]
    fn a_bad_line_is_numbered_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let cases: [(&[u8], &[&str]); 3] = [
            (b"A=1\n\nCANARY hunter2\nB=2\n", &["line 3"]),
            (b"A=1\n-hunter2=\nC='hunter2\n", &["line 2", "line 3"]),
            (b"A=\xff", &["is not UTF-8"]),
        ];
        for (content, expected) in cases {
            let path = write(&directory, "env", content, 0o600);
            let environment = Environment::default().with_file(Some(path.as_os_str()));
            let problems = environment.file.unwrap().problems;
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for (problem, expected) in problems.iter().zip(expected) {
                assert!(problem.contains(expected), "{problem}");
                assert!(!problem.contains("hunter2"), "{problem}");
            }
        }
    }

    #[test]
    fn a_value_in_quotes_counts_as_not_set() {
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
        for (value, is_quoted) in cases {
            let environment = Environment::new([("A".into(), value.into())]);
            assert_eq!(environment.quoted == ["A"], is_quoted, "{value}");
            let is_found = !is_quoted && !value.is_empty();
            assert_eq!(environment.find("A").is_some(), is_found, "{value}");
        }
    }

    #[test]
    fn an_env_file_that_cannot_be_read_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing\u{202e}\n");
        for (path, expected) in [
            (missing.as_os_str(), "(No such file or directory)"),
            (directory.path().as_os_str(), "(Is a directory)"),
            (OsStr::new("/dev/zero"), "is larger than"),
        ] {
            let environment = Environment::default().with_file(Some(path));
            let error = environment.file.unwrap().unreadable.unwrap();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains(['\n', '\u{202e}']), "{error}");
        }
    }

    #[test]
    fn a_secret_file_loses_a_byte_order_mark_and_one_line_end() {
        let directory = tempfile::tempdir().unwrap();
        for (content, expected) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            ("s3cret\n\n", "s3cret\n"),
            (" s3cret\r", " s3cret\r"),
            ("\u{feff}s3cret\r\n", "s3cret"),
        ] {
            let path = write(&directory, "secret", content.as_bytes(), 0o440);
            let secret = read_secret(&path).unwrap().unwrap();
            assert_eq!(secret.text, expected);
            assert_eq!(secret.open_mode, None);
        }
        for mode in [0o604, 0o644, 0o602, 0o666] {
            let path = write(&directory, "secret", b"s3cret", mode);
            assert_eq!(read_secret(&path).unwrap().unwrap().open_mode, Some(mode));
        }
        assert!(
            read_secret(&directory.path().join("missing"))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_bad_secret_file_is_refused_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let largest = vec![b'x'; 64 * 1024];
        let path = write(&directory, "secret", &largest, 0o600);
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
            let path = write(&directory, "secret", content, 0o600);
            assert_eq!(read_secret(&path).err().as_deref(), Some(expected));
        }
        let error = read_secret(directory.path()).err().unwrap();
        assert_eq!(error, "cannot be read (Is a directory)");
    }

    #[test]
    fn an_open_env_file_matters_only_with_a_secret_in_it() {
        let directory = tempfile::tempdir().unwrap();
        for (content, mode, expected) in [
            ("S=1", 0o640, false),
            ("S=1", 0o644, true),
            ("S=", 0o644, false),
            ("A=1", 0o644, false),
        ] {
            let path = write(&directory, "env", content.as_bytes(), mode);
            let environment = Environment::default().with_file(Some(path.as_os_str()));
            assert_eq!(
                environment.file_open_to_others(&["S"]).is_some(),
                expected,
                "{content}"
            );
        }
    }
}
