//! Runs the program and returns its exit code; nothing below exits.

use std::env;
use std::process::ExitCode;

use datapass_pull::app;

fn main() -> ExitCode {
    app::run(env::args_os().collect(), env::vars_os().collect())
}
