//! How far a test can isolate a program here: an ordinary container may not make namespaces or
//! mount anything.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The kinds of isolation, from the strongest to the weakest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces, and mounts in them.
    Namespaces,
    /// Another root folder.
    Root,
    /// Nothing.
    Nothing,
}

/// Returns the strongest isolation that is possible here. A weaker one than namespaces is reported
/// once, and tests then run what they can.
pub fn isolation() -> Isolation {
    static FOUND: OnceLock<Isolation> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let works = |words: &[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if works(&["unshare", "--pid", "--fork", "--kill-child", "--mount", "true"]) {
            return Isolation::Namespaces;
        }
        // `tests/run` has already reported it.
        if std::env::var_os("TEST_NO_NAMESPACES").is_none() {
            // Unlike `eprintln`, this is not captured by the test framework.
            let _ = std::io::stderr().lock().write_all(
                b"note: the kernel refuses namespaces and mounts: some tests run without them\n",
            );
        }
        match works(&["/usr/sbin/chroot", "--userspec=65532:65532", "/", "true"]) {
            true => Isolation::Root,
            false => Isolation::Nothing,
        }
    })
}
