//! Runs the program and returns its exit code; nothing below exits.

use std::env;
use std::process::ExitCode;

use datapass_pull::app;
use datapass_pull::process::supervise::run_process;

fn main() -> ExitCode {
    run_process(|| {
        let args: Vec<_> = env::args_os().collect();
        app::run(&args, env::vars_os())
    })
    .into()
}
