//! The compiled binary, run in an environment that holds only what the test sets.
//!
//! The checks are strict: the status, one summary line on standard output and no other, and no
//! line on standard error that the test did not expect. Noise is a failure.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::datapass::{CANARY, DataPass};
use super::postgres::Database;
use super::summary::Summary;
use super::wait::{SchedulingDelay, eventually};

/// How long a run may take before the test fails because the run hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// The time limit for the end of a run after a signal; the manual states it.
const SIGNAL_LIMIT: Duration = Duration::from_secs(2);

/// A run to start.
#[derive(Debug, Clone)]
pub struct Run {
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    stdin: Vec<u8>,
    expected: Expected,
}

/// What a test expects on standard error.
#[derive(Debug, Clone, Default)]
struct Expected {
    anything: bool,
    lines: Vec<String>,
}

impl Run {
    /// Describes a run with arguments and an empty environment.
    pub fn new<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            program: env!("CARGO_BIN_EXE_datapass-pull").into(),
            args: args.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            stdin: Vec::new(),
            expected: Expected::default(),
        }
    }

    /// Describes a plain cycle against a fake DataPass and a database.
    pub fn cycle(upstream: &DataPass, database: &Database) -> Self {
        Self::new::<&str>([]).upstream(upstream).database(database)
    }

    /// Sets the four variables that name the fake DataPass and its account.
    pub fn upstream(self, upstream: &DataPass) -> Self {
        let (id, secret) = upstream.credentials();
        self.env("DATAPASS_AUTH_URL", upstream.auth_url())
            .env("DATAPASS_API_BASE_URL", upstream.api_base_url())
            .env("DATAPASS_CLIENT_ID", id)
            .env("DATAPASS_CLIENT_SECRET", secret)
    }

    /// Sets `DATABASE_URL`.
    pub fn database(self, database: &Database) -> Self {
        self.env("DATABASE_URL", database.url())
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// Removes a variable.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.remove(name.as_ref());
        self
    }

    /// Sets the content of standard input, which is empty by default.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs the binary through a wrapper program, such as `unshare`, which gets the binary's path and
    /// arguments after its own.
    pub fn through<S: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        let mut words = wrapper.into_iter().map(Into::into);
        let outer = words.next().expect("a wrapper has a name");
        let inner = std::mem::replace(&mut self.program, outer);
        let args = std::mem::take(&mut self.args);
        self.args = words.chain([inner]).chain(args).collect();
        self
    }

    /// Expects a line on standard error that contains this text.
    pub fn stderr(mut self, text: impl Into<String>) -> Self {
        self.expected.lines.push(text.into());
        self
    }

    /// Allows any content of standard error.
    pub fn any_stderr(mut self) -> Self {
        self.expected.anything = true;
        self
    }

    /// Returns program with arguments, and environment, to run it in another way.
    pub(super) fn command(self) -> (Vec<OsString>, BTreeMap<OsString, OsString>) {
        ([self.program].into_iter().chain(self.args).collect(), self.env)
    }

    /// Runs it to its end.
    pub fn output(self) -> Outcome {
        self.spawn().wait()
    }

    /// Starts it.
    pub fn spawn(self) -> Running {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(&self.env)
            .current_dir(Path::new("/"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", self.program));
        let mut stdin = child.stdin.take().unwrap();
        thread::spawn(move || stdin.write_all(&self.stdin));
        let (sender, ended) = mpsc::channel();
        let so_far = Arc::new(Mutex::new(Vec::new()));
        read_all(child.stdout.take().unwrap(), sender.clone(), |bytes| (false, bytes));
        let stderr = Tee { stream: child.stderr.take().unwrap(), copy: Arc::clone(&so_far) };
        read_all(stderr, sender, |bytes| (true, bytes));
        let args = self.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Running {
            child,
            ended,
            stdout: None,
            stderr: None,
            stderr_so_far: so_far,
            args,
            expected: self.expected,
        }
    }
}

/// A stream's whole content: whether it is standard error, and the bytes.
type Content = (bool, Vec<u8>);

fn read_all(
    mut stream: impl Read + Send + 'static,
    sender: mpsc::Sender<Content>,
    label: impl FnOnce(Vec<u8>) -> Content + Send + 'static,
) {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(label(bytes));
    });
}

/// A stream whose bytes can be read before its end.
struct Tee<R> {
    stream: R,
    copy: Arc<Mutex<Vec<u8>>>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.copy.lock().unwrap().extend(&buffer[..count]);
        Ok(count)
    }
}

/// A run under way; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    ended: Receiver<Content>,
    stdout: Option<Vec<u8>>,
    stderr: Option<Vec<u8>>,
    stderr_so_far: Arc<Mutex<Vec<u8>>>,
    args: String,
    expected: Expected,
}

impl Running {
    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `TERM`, `INT`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        // The shell has a built-in `kill`; procps may not be installed.
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "cannot send signal {name}");
    }

    /// Waits until standard error has this text.
    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str) {
        let has_it = || String::from_utf8_lossy(&self.stderr_so_far.lock().unwrap()).contains(text);
        eventually(text, has_it);
    }

    /// Waits for the end.
    pub fn wait(self) -> Outcome {
        self.wait_for(PATIENCE).unwrap_or_else(|_| panic!("the run did not end in {PATIENCE:?}"))
    }

    /// Waits for the end of a run that was just sent a signal, and expects it within
    /// [`SIGNAL_LIMIT`].
    #[track_caller]
    pub fn wait_after_signal(self) -> Outcome {
        self.wait_within(SIGNAL_LIMIT)
    }

    /// Waits for the end and expects it within `limit`, plus the scheduling delay of this machine.
    #[track_caller]
    pub fn wait_within(self, limit: Duration) -> Outcome {
        let (begun, machine) = (Instant::now(), SchedulingDelay::watch());
        let outcome = self.wait();
        let (took, late) = (begun.elapsed(), machine.total());
        outcome.check(
            took < limit + late,
            &format!("the run ended after {took:?}; the machine was late by {late:?}"),
        );
        outcome
    }

    /// Waits for the end at most this long; returns the run itself when it has not ended.
    pub fn wait_for(mut self, patience: Duration) -> Result<Outcome, Box<Self>> {
        while self.stdout.is_none() || self.stderr.is_none() {
            match self.ended.recv_timeout(patience) {
                Ok((false, bytes)) => self.stdout = Some(bytes),
                Ok((true, bytes)) => self.stderr = Some(bytes),
                Err(_) => return Err(Box::new(self)),
            }
        }
        let status = self.child.wait().unwrap();
        let text = |bytes: Option<Vec<u8>>| {
            String::from_utf8(bytes.unwrap_or_default()).expect("the output is UTF-8")
        };
        Ok(Outcome {
            status,
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            args: std::mem::take(&mut self.args),
            expected: std::mem::take(&mut self.expected),
        })
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    args: String,
    expected: Expected,
}

impl Outcome {
    /// Returns the exit code; a signal is shown as 128 and its number.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Expects a cycle that succeeded.
    #[track_caller]
    pub fn success(&self) -> Summary {
        self.summary(0, "success", None)
    }

    /// Expects a cycle that failed with status 1 and this reason.
    #[track_caller]
    pub fn permanent(&self, reason: &str) -> Summary {
        self.summary(1, "permanent", Some(reason))
    }

    /// Expects a cycle that failed with status 2 and this reason.
    #[track_caller]
    pub fn transient(&self, reason: &str) -> Summary {
        self.summary(2, "transient", Some(reason))
    }

    /// Expects status 0 of a command that prints no summary.
    #[track_caller]
    pub fn assert_success(&self) -> &Self {
        self.assert_code(0)
    }

    /// Expects a status, and the expected lines on standard error.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        self.check(self.code() == code, &format!("the status is {}, not {code}", self.code()));
        self.check_stderr(code != 0);
        self.assert_no_canary();
        self
    }

    #[track_caller]
    fn summary(&self, code: i32, outcome: &str, reason: Option<&str>) -> Summary {
        self.assert_code(code);
        let line = self.stdout.strip_suffix('\n').filter(|line| !line.contains('\n'));
        self.check(line.is_some(), "standard output is not one line");
        let line = line.unwrap_or_default();
        let summary =
            if line.starts_with('{') { Summary::from_json(line) } else { Summary::from_text(line) };
        if let Err(problem) = &summary {
            self.check(false, &format!("the summary line is invalid: {problem}"));
        }
        let summary = summary.unwrap();
        let got = (summary.outcome.as_str(), summary.reason.as_deref());
        self.check(got == (outcome, reason), &format!("not the expected {outcome} {reason:?}"));
        summary
    }

    /// Compares standard error with the expected lines. The last line of a failure is its error; a
    /// test need not expect it, but it must exist.
    #[track_caller]
    fn check_stderr(&self, failed: bool) {
        let lines: Vec<&str> = self.stderr.lines().collect();
        self.check(!failed || !lines.is_empty(), "the failure is not logged on standard error");
        for text in &self.expected.lines {
            self.check(
                lines.iter().any(|line| line.contains(text.as_str())),
                &format!("standard error has no line with `{text}`"),
            );
        }
        if self.expected.anything {
            return;
        }
        for line in &lines[..lines.len() - usize::from(failed)] {
            self.check(
                self.expected.lines.iter().any(|text| line.contains(text.as_str())),
                &format!("unexpected on standard error: {line}"),
            );
        }
    }

    /// Expects neither a secret nor personal data of the fake DataPass in any output.
    #[track_caller]
    pub fn assert_no_canary(&self) {
        let output = format!("{}{}", self.stdout, self.stderr).to_lowercase();
        self.check(!output.contains(CANARY), "the output holds a secret or personal data");
    }

    #[track_caller]
    fn check(&self, holds: bool, problem: &str) {
        assert!(
            holds,
            "{problem}\n--- datapass-pull {}\n--- status {}\n--- stdout\n{}--- stderr\n{}",
            self.args,
            self.code(),
            self.stdout,
            self.stderr,
        );
    }
}

/// Returns the static release binary, built if it is missing; the program whose instructions are
/// counted is in `examples` beside it.
pub fn release_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/static");
        let built = Command::new(script).output().unwrap();
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{errors}");
        String::from_utf8(built.stdout).unwrap().trim().into()
    })
}

/// Builds the library for `LD_PRELOAD` that changes the clock.
pub fn clock_library(folder: &Path) -> PathBuf {
    let library = folder.join("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/clock.c");
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", source, "-o"])
        .arg(&library)
        .status();
    assert!(compiler.unwrap().success());
    library
}
