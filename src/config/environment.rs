//! Where settings come from: the process environment, an env file behind it, secret files.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The largest secret file, in bytes: far above any secret, far below a mistaken device.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// The largest env file, in bytes.
const MAX_ENV_FILE_BYTES: u64 = 1024 * 1024;

/// The variables of a run: those of the process, then those of an env file.
///
/// An empty value is the same as none, and a name that is not UTF-8 is nobody's. It cannot be
/// printed: any value may be a secret.
#[derive(Clone, Default)]
pub(super) struct Environment {
    process: HashMap<String, OsString>,
    file: Option<EnvFile>,
}

/// An env file, as far as it could be read.
#[derive(Clone)]
struct EnvFile {
    path: PathBuf,
    variables: HashMap<String, String>,
    open_error: Option<String>,
    bad_lines: Vec<String>,
    mode: Option<u32>,
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
        let process = variables
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        Self {
            process,
            file: None,
        }
    }

    /// Puts the variables of an env file behind those of the process.
    ///
    /// The file is read once, so that a pipe will do. What is wrong with it is told by
    /// [`super::Config::load`], together with everything else. Of two lines with one name the
    /// later holds.
    pub(super) fn with_file(mut self, path: Option<&OsStr>) -> Self {
        self.file = path
            .filter(|path| !path.is_empty())
            .map(|path| EnvFile::read(path.into()));
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
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.process.keys().map(String::as_str).collect();
        names.extend(self.file_names());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the names that the env file sets, in no order.
    pub(super) fn file_names(&self) -> impl Iterator<Item = &str> {
        self.file
            .iter()
            .flat_map(|file| file.variables.keys().map(String::as_str))
    }

    /// Returns why the env file could not be read at all.
    pub(super) fn file_open_error(&self) -> Option<&str> {
        self.file.as_ref()?.open_error.as_deref()
    }

    /// Returns what is wrong inside the env file, without any of its text.
    pub(super) fn file_bad_lines(&self) -> &[String] {
        self.file.as_ref().map_or(&[], |file| &file.bad_lines)
    }

    /// Returns the env file and its mode, when other users may use it and it holds one of `names`.
    pub(super) fn file_open_to_others(&self, names: &[&str]) -> Option<(&Path, u32)> {
        let file = self.file.as_ref()?;
        let mode = file.mode.filter(|mode| is_open_to_others(*mode))?;
        let holds = names.iter().any(|name| file.variables.contains_key(*name));
        holds.then_some((file.path.as_path(), mode))
    }
}

impl EnvFile {
    fn read(path: PathBuf) -> Self {
        let mut file = Self {
            path,
            variables: HashMap::new(),
            open_error: None,
            bad_lines: vec![],
            mode: None,
        };
        match read_bounded(&file.path, MAX_ENV_FILE_BYTES) {
            Err(error) => file.open_error = Some(format!("{:?} {error}", file.path)),
            Ok((bytes, mode)) => {
                file.mode = mode;
                match String::from_utf8(bytes) {
                    Err(_) => file.bad_lines.push(format!("{:?} is not UTF-8", file.path)),
                    Ok(text) => file.parse(text),
                }
            }
        }
        file
    }

    /// Parses the whole text, going on after a bad line. The parser's own errors quote the line,
    /// so that only its number is told.
    fn parse(&mut self, mut text: String) {
        // The parser takes a space before the very end for an open word.
        text.push('\n');
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let line = Cell::new(0);
        let reader = LineReader {
            rest: text.as_bytes(),
            line: &line,
        };
        for item in dotenvy::from_read_iter(reader) {
            match item {
                Ok((name, value)) if value.is_empty() => {
                    self.variables.remove(&name);
                }
                Ok((name, value)) => {
                    self.variables.insert(name, value);
                }
                Err(_) => self.bad_lines.push(format!(
                    "{:?} line {} cannot be read (expected NAME=value, with every quote closed)",
                    self.path,
                    line.get()
                )),
            }
        }
        for line in lines_with_a_variable(text) {
            self.bad_lines.push(format!(
                "{:?} line {line} holds a $ outside of single quotes: quote the value 'like this'",
                self.path
            ));
        }
    }
}

/// Returns the numbers of the lines with a `$` that the parser would replace.
///
/// It takes for a variable what may be a piece of a password, and systemd, which reads the same
/// file, does not.
fn lines_with_a_variable(text: &str) -> Vec<usize> {
    let mut lines = vec![];
    let (mut quote, mut is_escaped, mut is_comment) = (None, false, false);
    let (mut line, mut previous) = (1, '\n');
    for char in text.chars() {
        match char {
            '\n' => (line, is_escaped, is_comment) = (line + 1, false, false),
            _ if is_comment => {}
            _ if is_escaped => {
                is_escaped = false;
                // No comment begins behind an escaped blank.
                previous = '\\';
                continue;
            }
            '\'' | '"' if quote == Some(char) => quote = None,
            _ if quote == Some('\'') => {}
            '\\' => is_escaped = true,
            '\'' | '"' if quote.is_none() => quote = Some(char),
            '#' => is_comment = quote.is_none() && previous.is_whitespace(),
            '$' => lines.push(line),
            _ => {}
        }
        previous = char;
    }
    lines.dedup();
    lines
}

/// Hands out one line a read, so that the number of the line being parsed is known.
struct LineReader<'a> {
    rest: &'a [u8],
    line: &'a Cell<usize>,
}

impl Read for LineReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line_end = self
            .rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let length = line_end.min(buffer.len());
        if length > 0 && length == line_end {
            self.line.set(self.line.get() + 1);
        }
        let (line, rest) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(line);
        self.rest = rest;
        Ok(length)
    }
}

/// A secret read from a file.
pub(super) struct SecretFile {
    pub(super) text: String,
    /// The file's mode, when other users may use it.
    pub(super) open_mode: Option<u32>,
}

/// Reads a secret from a file, without one line end after it; none when there is no such file.
///
/// # Errors
///
/// What is wrong with it, as the end of a sentence; never its content.
pub(super) fn read_secret(path: &Path) -> Result<Option<SecretFile>, String> {
    let (bytes, mode) = match read_bounded(path, MAX_SECRET_BYTES) {
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
    Ok(Some(SecretFile {
        text,
        open_mode: mode.filter(|mode| is_open_to_others(*mode)),
    }))
}

fn is_open_to_others(mode: u32) -> bool {
    mode & 0o007 != 0
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("cannot be read ({})", .0.kind())]
    Io(#[from] io::Error),
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
}

/// Reads a whole file of bounded size, with its permission bits when it is a regular one.
fn read_bounded(path: &Path, max_bytes: u64) -> Result<(Vec<u8>, Option<u32>), ReadError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata
        .is_file()
        .then(|| metadata.permissions().mode() & 0o7777);
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(ReadError::TooLarge(max_bytes));
    }
    Ok((bytes, mode))
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
        assert_eq!(environment.names(), ["A", "B", "D", "G"]);
        assert!(environment.file_bad_lines().is_empty());
        assert!(environment.file_open_error().is_none());
        assert!(environment.find("A").unwrap().file.is_none());
        assert_eq!(environment.find("D").unwrap().file, Some(path.as_path()));
    }

    #[test]
    fn a_bad_line_is_numbered_and_never_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let cases: [(&[u8], &[&str]); 5] = [
            (b"A=1\n\nCANARY hunter2\nB=2\n", &["line 3"]),
            (
                b"A=1\n-hunter2=\nB=2\nC=hunter2 hunter2\n",
                &["line 2", "line 4"],
            ),
            (b"A=1\nB=2\nC='hunter2\n", &["line 4"]),
            (b"A=1\nB=2\nC=\"hunter2", &["line 3"]),
            (b"A=\xff", &["is not UTF-8"]),
        ];
        for (content, expected) in cases {
            let path = write(&directory, "env", content, 0o600);
            let environment = Environment::default().with_file(Some(path.as_os_str()));
            let lines = environment.file_bad_lines();
            assert_eq!(lines.len(), expected.len(), "{lines:?}");
            for (line, expected) in lines.iter().zip(expected) {
                assert!(line.contains(expected), "{line}");
                assert!(!line.contains("hunter2"), "{line}");
            }
        }
    }

    #[test]
    fn only_a_variable_is_one() {
        for (text, expected) in [
            ("A='p$w'\nB=\"it's \\$5\" # $5\n# $C\nC=a\\$b\n", &[][..]),
            ("A='it'\\''s $x'", &[]),
            ("A=1\nB=p$w$x\nC=a#$b\n", &[2, 3]),
            ("A=\"it's $5\"\nB='x' # it's\nC=${D}\n", &[1, 3]),
            ("A=a\\ #$b\nB=a\\\\ #$b\n", &[1]),
            ("A='two\n$lines'\nB=\"two\n$lines\"\n", &[4]),
        ] {
            assert_eq!(lines_with_a_variable(text), expected, "{text}");
        }
    }

    #[test]
    fn an_env_file_that_cannot_be_read_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing\u{202e}\n");
        for (path, expected) in [
            (missing.as_os_str(), "entity not found"),
            (directory.path().as_os_str(), "is a directory"),
            (OsStr::new("/dev/zero"), "is larger than"),
        ] {
            let environment = Environment::default().with_file(Some(path));
            let error = environment.file_open_error().unwrap();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains(['\n', '\u{202e}']), "{error}");
        }
        assert!(
            Environment::default()
                .with_file(Some(OsStr::new("")))
                .file
                .is_none()
        );
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
        assert_eq!(error, "cannot be read (is a directory)");
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
