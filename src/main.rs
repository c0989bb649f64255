//! Runs the program and returns its exit code; nothing below exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    datapass_pull::app::run(std::env::args_os().collect(), std::env::vars_os()).into()
}
