//! The program: parses, loads the settings, runs the command, and tells how it ended.
//!
//! This is the one place that writes to standard output. Whatever happens to a cycle, a panic
//! included, its summary line is printed last, and the log's last line tells why it failed.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use chrono::Utc;
use log::{debug, error, warn};

use crate::alerts;
use crate::budget::Budget;
use crate::check;
use crate::cli;
use crate::config::{
    self, Command, Config, DatabaseConfig, Environment, Format, PullConfig, Reports, Requested,
};
use crate::cycle::{self, Account, SharedAccount};
use crate::db::migrate;
use crate::error::{Failure, Reason, Result, Stage};
use crate::exit::Exit;
use crate::logging;
use crate::metrics;
use crate::progress;
use crate::rejected;
use crate::runs;
use crate::schedule;
use crate::status;
use crate::store::{Access, Store};
use crate::supervise::{self, supervise, until_signal};
use crate::watermark::{self, Move};

/// How long the run row of a failed cycle may take.
const FAILED_RUN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a command other than a cycle may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the program with its arguments, the program's name first, and its environment.
pub fn run(args: Vec<OsString>, variables: impl Iterator<Item = (OsString, OsString)>) -> Exit {
    // It fails only for a signal that cannot be caught.
    let _ = supervise::install_signal_handlers();
    supervise::install_panic_hook();
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
    let loaded = until_signal(move || {
        let environment = environment.with_file(cli.global.env_file.as_deref());
        logging::init(&config::log_config(&cli, &environment));
        let requested = config::requested(&cli, &environment);
        (Config::load(cli, &environment, Utc::now()), requested)
    });
    let (failure, requested) = match loaded {
        Ok((Ok(config), _)) => return dispatch(config),
        Ok((Err(failure), requested)) => (failure, requested),
        Err(failure) => {
            logging::init(&log);
            (failure, requested)
        }
    };
    if requested.is_cycle {
        not_started(failure, &requested)
    } else {
        failed(&failure)
    }
}

/// Ends a command line that clap did not take: help and version are answers, the rest is misuse.
fn refused(error: &clap::Error, args: &[OsString], environment: Environment) -> Exit {
    if !error.use_stderr() {
        supervise::let_signals_end();
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
    not_started(failure, &requested)
}

/// Ends a cycle that could not start.
fn not_started(failure: Failure, requested: &Requested) -> Exit {
    supervise::let_signals_end();
    let account = SharedAccount::open(requested.dry_run, None).lock().clone();
    let budget = Budget::new(COMMAND_TIMEOUT);
    let format = Some(requested.format);
    conclude(account, Some(failure), format, &requested.reports, &budget)
}

/// Tells how a cycle ended, to everyone who is to hear of it, the output in the form given.
fn conclude(
    mut account: Account,
    failure: Option<Failure>,
    format: Option<Format>,
    reports: &Reports,
    budget: &Budget,
) -> Exit {
    account.summary.reason = failure.as_ref().map(|failure| failure.reason);
    account.summary.duration_ms = account.started.elapsed().as_millis() as u64;
    let exit = failure
        .as_ref()
        .map_or(Exit::Success, |failure| failure.kind().into());
    if let Some(path) = &reports.metrics_file
        && let Err(error) = metrics::write(path, &account, exit)
    {
        warn!(
            "The metrics file {} cannot be written: {error}",
            path.display()
        );
    }
    if let Some(failure) = &failure {
        tell(failure);
    }
    if let Some(format) = format
        && let Err(error) = print(&format!("{}\n", account.summary.line(format)))
        && failure.is_none()
    {
        // What the cycle did is done; a failure has told its last line.
        warn!("The summary line cannot be written: {error}");
    }
    if let Some(sentry) = &reports.sentry {
        alerts::report_in_time(sentry, account, failure, budget);
    }
    exit
}

fn dispatch(Config { command, log }: Config) -> Exit {
    match command {
        Command::Pull(config) => {
            // What is read by a program, or not at all, has no line for people in it.
            let shows_progress = !config.quiet && log.format == Format::Text;
            pull(*config, shows_progress)
        }
        Command::MigratePrint => answer(|_| Ok(migrate::print())),
        Command::Migrate { database, yes } => answer(move |budget| {
            let mut store = Store::new(&database, budget)?;
            let lines = migrate::migrate(store.client(Stage::Prepare)?, yes)?;
            Ok(lines.iter().map(|line| format!("{line}\n")).collect())
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
            let budget = Budget::new(config.timeout);
            let checked = supervise(&budget.clone(), move || {
                // The status tells what standard output may not.
                check::check(&config, &budget, &mut |line| drop(print(line)))
            });
            checked.map_or_else(|failure| failed(&failure), |()| Exit::Success)
        }
        Command::Status {
            database,
            job,
            format,
        } => {
            answer(move |budget| status::status(&mut Store::new(&database, budget)?, &job, format))
        }
        Command::RejectedList { database, format } => {
            answer(move |budget| rejected::list(&mut Store::new(&database, budget)?, format))
        }
        Command::RejectedAccept {
            database,
            id,
            reason,
        } => answer(move |budget| {
            rejected::accept(&mut Store::new(&database, budget)?, &id, &reason)
        }),
        Command::WatermarkSet {
            database,
            definition_id,
            time,
            yes,
        } => tell_answer(move_watermark(
            database,
            Move::set(definition_id, time),
            yes,
        )),
        Command::WatermarkReset { database, yes } => {
            tell_answer(move_watermark(database, Move::reset(), yes))
        }
    }
}

/// Tells why a command failed and returns its exit code.
fn failed(failure: &Failure) -> Exit {
    tell(failure);
    failure.kind().into()
}

/// Runs a command other than a cycle and prints its answer.
fn answer(work: impl FnOnce(Budget) -> Result<String> + Send + 'static) -> Exit {
    tell_answer(in_time(work))
}

/// Runs a command other than a cycle, or one step of it, within its time.
fn in_time<T: Send + 'static>(
    work: impl FnOnce(Budget) -> Result<T> + Send + 'static,
) -> Result<T> {
    let budget = Budget::new(COMMAND_TIMEOUT);
    supervise(&budget.clone(), move || work(budget))
}

fn tell_answer(answer: Result<String>) -> Exit {
    supervise::let_signals_end();
    let printed = answer.and_then(|text| {
        print(&text).map_err(|error| {
            let message = "Standard output takes no more; look at its disk";
            Failure::new(Stage::Prepare, Reason::Resources, message).with_source(error)
        })
    });
    printed.map_or_else(|failure| failed(&failure), |()| Exit::Success)
}

/// Moves the watermark by hand; asks first unless `yes`.
///
/// A person may think as long as they like: that is no part of any step's time, and neither a
/// transaction nor a connection is open meanwhile.
fn move_watermark(database: DatabaseConfig, asked_for: Move, yes: bool) -> Result<String> {
    let mut asked = None;
    if !yes {
        watermark::demand_terminal()?;
        let (database, reading) = (database.clone(), asked_for.clone());
        let stored = in_time(move |budget| reading.read(&mut Store::new(&database, budget)?))?;
        let question = asked_for.question(&stored);
        until_signal(move || watermark::ask(&question))??;
        asked = Some(stored);
    }
    in_time(move |budget| asked_for.make(&mut Store::new(&database, budget)?, asked.as_ref()))
}

/// Runs one cycle and reports it.
fn pull(config: PullConfig, shows_progress: bool) -> Exit {
    let account = SharedAccount::open(config.dry_run, config.since);
    let budget = Budget::new(config.timeout);
    let config = Arc::new(config);
    let progress = shows_progress.then(progress::show);
    let outcome = {
        let (account, budget) = (account.clone(), budget.clone());
        let config = Arc::clone(&config);
        supervise(&budget.clone(), move || {
            cycle::run(&config, &budget, &account)
        })
    };
    drop(progress);
    let account = account.lock().clone();
    let failure = outcome.err();
    if let Some(failure) = &failure
        && account.reached_database
        && !config.dry_run
    {
        record_failure(&config, &account, failure, &budget);
    }
    let format = (failure.is_some() || !config.quiet).then_some(config.format);
    conclude(account, failure, format, &config.reports, &budget)
}

/// Leaves a run row of a failed cycle, if that is possible at once; it is a courtesy, and must not
/// change how the cycle ended.
fn record_failure(config: &Arc<PullConfig>, account: &Account, failure: &Failure, budget: &Budget) {
    let limit = budget.afterwards(FAILED_RUN_TIMEOUT);
    let (done, ended) = mpsc::channel();
    let (config, account) = (Arc::clone(config), account.clone());
    let failure = Failure::new(failure.stage, failure.reason, "");
    // Without a thread `done` is dropped, and the wait is over.
    let _ = thread::Builder::new().spawn(move || {
        let recorded = Store::new(&config.database, Budget::new(limit)).and_then(|mut store| {
            store.transaction(failure.stage, Access::ReadWrite, |tx| {
                runs::record(tx, "cycle", &account, Some(&failure))
            })
        });
        let _ = done.send(recorded);
    });
    match ended.recv_timeout(limit) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("The failed run is not recorded: {}", error.story()),
        Err(_) => debug!("The failed run is not recorded in time"),
    }
}

/// Logs a failure: the last line of standard error says in one sentence what happened.
fn tell(failure: &Failure) {
    error!(stage = failure.stage.as_str(), reason = failure.reason.as_str(); "{}", failure.story());
}

/// Writes to standard output. A reader that went away is no failure of ours.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
