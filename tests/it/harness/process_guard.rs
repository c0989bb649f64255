//! A server run by a script that outlives this process just long enough to clean up.
//!
//! The script's standard input is a pipe that only this process holds: however this process dies,
//! the script reads the end of it, stops the server and removes its folder.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A script of `tests/support` that runs one server and removes it at the end.
#[derive(Debug)]
pub struct ProcessGuard {
    child: Child,
    pipes: Mutex<(Option<ChildStdin>, BufReader<ChildStdout>)>,
    properties: HashMap<String, String>,
}

impl ProcessGuard {
    /// Starts a script and waits until it prints `ready`; the lines before are its properties.
    pub fn start<S: AsRef<OsStr>>(script: &str, args: &[S], env: &[(&str, &str)]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script);
        let mut child = Command::new(&path)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Neither the terminal's Ctrl-C nor a kill of our process group reaches it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", path.display()));
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut properties = HashMap::new();
        loop {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            match line.trim_end().split_once(' ') {
                Some((key, value)) => properties.insert(key.to_owned(), value.to_owned()),
                None if line == "ready\n" => break,
                None => panic!(
                    "tests/support/{script} failed ({}): its message is on standard error",
                    child.wait().unwrap()
                ),
            };
        }
        Self { child, pipes: Mutex::new((Some(stdin), stdout)), properties }
    }

    /// Returns a property of the server, as the script printed it.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(String::as_str)
    }

    /// Sends a command to the script and waits until it is done; panics when it failed.
    pub fn command(&self, command: &str) {
        let mut pipes = self.pipes.lock().unwrap();
        writeln!(pipes.0.as_mut().unwrap(), "{command}").unwrap();
        let mut reply = String::new();
        pipes.1.read_line(&mut reply).unwrap();
        drop(pipes);
        assert_eq!(reply, "done 0\n", "the command `{command}` of a server script failed");
    }
}

impl Drop for ProcessGuard {
    fn drop(&mut self) {
        // A panic must not leave the script running, for which this waits.
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner).0 = None;
        let _ = self.child.wait();
    }
}
