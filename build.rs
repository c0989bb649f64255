//! Records the commit and the target that `--version` prints.

#![allow(clippy::print_stdout, reason = "cargo reads a build script's output")]

use std::env;
use std::path::Path;
use std::process::Command;

/// The variable that names the commit in a build without a repository.
const COMMIT: &str = "DATAPASS_PULL_COMMIT";

fn main() {
    // The log changes with each commit, the other paths when the work tree becomes dirty.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists());
    for path in
        ["src", "sql", "build.rs", "Cargo.toml", "Cargo.lock"].into_iter().chain(log.as_deref())
    {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let given = env::var(COMMIT).ok().filter(|commit| !commit.is_empty());
    let commit = given
        .or_else(|| git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let target = env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
    println!("cargo::rustc-env=BUILD_TARGET={target}");
}

/// Returns what git prints, unless it fails or prints nothing.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
