//! The program: parses, loads the settings, runs the command, and tells how it ended.
//!
//! This is the one place that writes to standard output. Whatever happens to a cycle, a panic
//! included, its summary line is printed last, and the log's last line tells why it failed.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use chrono::Utc;

use crate::cli;
use crate::commands::{check, migrate, pull, rejected, schedule, status, watermark};
use crate::config::{self, Command, Config, Environment, Format, Reports};
use crate::db::transaction::{Access, Store};
use crate::error::{Failure, Reason, Result, Stage};
use crate::exit::Exit;
use crate::output;
use crate::output::stdout::{log_failure, print};
use crate::process::deadline::Deadline;
use crate::process::panics;
use crate::process::supervise::{in_time, supervise};

/// Runs the program with its arguments, the program's name first, and its environment.
pub fn run(args: Vec<OsString>, variables: impl Iterator<Item = (OsString, OsString)>) -> Exit {
    panics::install_hook();
    // It fails only when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let environment = Environment::new(variables);
    let cli = match cli::parse(args.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) => return refused(&error, &args, environment),
    };
    // What is known should the settings never come.
    let log = config::log_config(&cli, &environment);
    let requested = config::requested(&cli, &environment);
    // A pipe may hold them, and be slow.
    let loaded = supervise(&Deadline::signal_only(), move || {
        let environment = environment.with_file(cli.global.env_file.as_deref());
        output::log::init(&config::log_config(&cli, &environment));
        let requested = config::requested(&cli, &environment);
        Ok((Config::load(cli, &environment, Utc::now()), requested))
    });
    let (failure, requested) = match loaded {
        Ok((Ok(config), _)) => return dispatch(config),
        Ok((Err(failure), requested)) => (failure, requested),
        Err(failure) => {
            output::log::init(&log);
            (failure, requested)
        }
    };
    if requested.is_cycle {
        pull::not_started(failure, &requested)
    } else {
        failed(&failure)
    }
}

/// Ends a command line that clap did not take: help and version are answers, the rest is misuse.
fn refused(error: &clap::Error, args: &[OsString], environment: Environment) -> Exit {
    if !error.use_stderr() {
        let _ = print(&error.render().to_string());
        return Exit::Success;
    }
    // A closed standard error loses the text, not the code.
    let _ = write!(io::stderr().lock(), "{}", error.render());
    let mut requested = config::requested_by_refused(args, environment);
    if !requested.is_cycle {
        return Exit::Permanent;
    }
    if io::stderr().is_terminal() {
        // Whoever mistyped has just read it.
        requested.reports = Reports::default();
    }
    // There is no log yet, so that the text above stays the last.
    let failure = Failure::new(
        Stage::Prepare,
        Reason::Usage,
        "The command line is not understood",
    );
    pull::not_started(failure, &requested)
}

fn dispatch(Config { command, log }: Config) -> Exit {
    match command {
        Command::Pull(config) => {
            // What is read by a program, or not at all, has no line for people in it.
            let shows_progress = !config.quiet && log.format == Format::Text;
            pull::pull(*config, shows_progress)
        }
        Command::MigratePrint => answer(|_| Ok(migrate::print())),
        Command::Migrate {
            database,
            yes,
            format,
        } => answer(move |deadline| {
            let store = Store::new(&database.url, deadline, 0);
            // A standby is refused as everywhere.
            store.transaction(Stage::Prepare, Access::ReadWrite, |_| Ok(()))?;
            let changes = migrate::migrate(&mut store.connect(Stage::Prepare)?, yes)?;
            Ok(migrate::report(&changes, format))
        }),
        Command::Schedule(config) => answer(move |_| {
            let binary = env::current_exe().map_err(|error| {
                let message = "The path of this program cannot be found";
                Failure::new(Stage::Prepare, Reason::Configuration, message).with_source(error)
            })?;
            schedule::entry(&config, &binary)
        }),
        Command::Completions(shell) => answer(move |_| Ok(cli::completions(shell))),
        Command::Check(config) => {
            let deadline = Deadline::after(config.timeout);
            let checked = supervise(&deadline.clone(), move || {
                // The status tells what standard output may not.
                check::check(&config, &deadline, &mut |line| drop(print(line)))
            });
            checked.map_or_else(|failure| failed(&failure), |()| Exit::Success)
        }
        Command::Status {
            database,
            job,
            format,
        } => answer(move |deadline| {
            status::status(&mut Store::new(&database.url, deadline, 0), &job, format)
        }),
        Command::RejectedList { database, format } => answer(move |deadline| {
            rejected::list(&mut Store::new(&database.url, deadline, 0), format)
        }),
        Command::RejectedAccept {
            database,
            id,
            reason,
        } => answer(move |deadline| {
            rejected::accept(&mut Store::new(&database.url, deadline, 0), &id, &reason)
        }),
        Command::WatermarkSet {
            database,
            definition_id,
            time,
            yes,
        } => tell_answer(watermark::move_watermark(
            database,
            watermark::Move::set(definition_id, time),
            yes,
        )),
        Command::WatermarkReset { database, yes } => tell_answer(watermark::move_watermark(
            database,
            watermark::Move::reset(),
            yes,
        )),
    }
}

/// Tells why a command failed and returns its exit code.
fn failed(failure: &Failure) -> Exit {
    log_failure(failure);
    failure.kind().into()
}

/// Runs a command other than a cycle and prints its answer.
fn answer(work: impl FnOnce(Deadline) -> Result<String> + Send + 'static) -> Exit {
    tell_answer(in_time(work))
}

fn tell_answer(answer: Result<String>) -> Exit {
    let printed = answer.and_then(|text| {
        print(&text).map_err(|error| {
            let message = "Standard output takes no more; look at its disk";
            Failure::new(Stage::Prepare, Reason::Resources, message).with_source(error)
        })
    });
    printed.map_or_else(|failure| failed(&failure), |()| Exit::Success)
}
