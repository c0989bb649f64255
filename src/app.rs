//! The program: sets the process up, reads the command line, and runs the command.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use chrono::Utc;

use crate::cli::{self, Cli, Command};
use crate::commands::{check, migrate, pull, rejected, schedule, status, watermark};
use crate::config::{Format, Reports, Settings};
use crate::error::{Exit, Failure, Reason, Stage};
use crate::output;
use crate::output::stdout::{Answer, answer, print};
use crate::process::panics;
use crate::process::supervise;

/// The variables of the process.
type Variables = Vec<(OsString, OsString)>;

/// Runs the program with its arguments, the program's name first, and its environment.
pub fn run(args: Vec<OsString>, variables: Variables) -> ExitCode {
    supervise::run_process(move || program(&args, variables)).code().into()
}

fn program(args: &[OsString], variables: Variables) -> Exit {
    panics::install_hook();
    let Cli { command, options } = match cli::parse(args) {
        Ok(cli) => cli,
        Err(error) => return refused(&error, args, variables),
    };
    let settings = Settings::new(options, variables, Utc::now());
    output::log::init(&settings.log);
    let format = settings.format;
    let answered = match command {
        Command::Pull(args) => return pull::run(settings, &args),
        Command::Check => return check::run(settings),
        Command::Status => status::run(settings),
        Command::Migrate(args) => migrate::run(settings, &args),
        Command::Rejected { action } => rejected::run(settings, action),
        Command::Watermark { action } => watermark::run(settings, action),
        Command::Schedule { scheduler } => schedule::run(settings, scheduler).map(Answer::from),
        Command::Completions { shell } => Ok(cli::completions(shell).into()),
    };
    answer(format, answered)
}

/// Ends a command line that clap did not take: help and version are answers, the rest is misuse.
fn refused(error: &clap::Error, args: &[OsString], variables: Variables) -> Exit {
    if !error.use_stderr() {
        let _ = print(&error.render().to_string());
        return Exit::Success;
    }
    let (pull, options) = cli::parse_refused(args);
    let mut settings = Settings::new(options, variables, Utc::now());
    let text = error.render().to_string();
    // An operator has just read it, and needs no log and no report.
    let is_typed = io::stderr().is_terminal() && settings.log.format == Format::Text;
    if is_typed {
        // A closed standard error loses the text, not the code.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    } else {
        output::log::init(&settings.log);
    }
    // The first paragraph, whose other lines name the missing arguments.
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let sentence = lines.collect::<Vec<_>>().join(" ");
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    let message = format!("The command line is not understood: {sentence}");
    let failure = Failure::new(Stage::Prepare, Reason::Usage, message);
    let Some(args) = pull else {
        return answer(settings.format, Err(failure));
    };
    let reports = if is_typed || args.dry_run { Reports::default() } else { settings.reports() };
    pull::not_started(failure, &reports, &args, settings.format)
}
