//! Runs the program and returns its exit code; nothing below exits.

use std::panic::catch_unwind;
use std::process::ExitCode;

use datapass_pull::app;
use datapass_pull::exit::Exit;

fn main() -> ExitCode {
    // The hook has told of a panic; its own status would be none of ours.
    catch_unwind(|| app::run(std::env::args_os().collect(), std::env::vars_os()))
        .unwrap_or(Exit::Permanent)
        .into()
}
