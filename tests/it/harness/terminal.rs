//! The binary on a pseudo-terminal, which `script` (Debian: bsdutils) makes.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use super::datapass::CANARY;
use super::run::{PATIENCE, Run};

/// A run whose three standard streams are a terminal; killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Receiver<Vec<u8>>,
    screen: String,
}

impl Run {
    /// Starts it on a terminal.
    pub fn on_terminal(self) -> Terminal {
        let (words, env) = self.command();
        let quoted = words.iter().map(|word| {
            let word = word.to_str().expect("the words are UTF-8");
            format!(" '{}'", word.replace('\'', r"'\''"))
        });
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command"])
            .arg(format!("exec{}", quoted.collect::<String>()))
            .arg("/dev/null")
            .env_clear()
            .envs(env)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is needed: apt-get install bsdutils");
        let keys = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { child, keys, shown, screen: String::new() }
    }
}

impl Terminal {
    /// Waits until a text is on the screen.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        while !self.screen.contains(text) {
            match self.shown.recv_timeout(PATIENCE) {
                Ok(bytes) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("`{text}` was not shown: {}", self.screen),
            }
        }
    }

    /// Presses keys; `\x03` is Ctrl-C, `\x04` Ctrl-D.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end; returns the status and everything that was shown, echoed keys included.
    #[track_caller]
    pub fn end(mut self) -> (i32, String) {
        loop {
            match self.shown.recv_timeout(PATIENCE) {
                Ok(bytes) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the run did not end: {}", self.screen),
            }
        }
        let code = self.child.wait().unwrap().code().unwrap();
        let screen = std::mem::take(&mut self.screen);
        assert!(!screen.to_lowercase().contains(CANARY), "{screen}");
        (code, screen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Renders what was written to a terminal; returns the lines then shown, without trailing blanks.
///
/// It supports what a progress line uses: carriage return, line feed, "erase in line" and "cursor
/// up".
pub fn rendered(text: &str) -> String {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0, 0);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(Vec::new());
                }
            }
            '\u{1b}' => {
                assert_eq!(chars.next(), Some('['), "{text:?}");
                let mut number = String::new();
                let verb = loop {
                    match chars.next() {
                        Some(digit) if digit.is_ascii_digit() => number.push(digit),
                        verb => break verb,
                    }
                };
                match (verb, number.parse().unwrap_or(1)) {
                    (Some('K'), 2) => lines[row].clear(),
                    (Some('A'), up) => row = row.checked_sub(up).expect("a line above"),
                    _ => panic!("unsupported escape sequence: {text:?}"),
                }
            }
            c => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    let lines = lines.iter().map(|line| line.iter().collect::<String>());
    let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}
