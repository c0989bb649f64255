//! `check`: verifies everything that a cycle uses, and writes nothing to the database.
//!
//! One line per section, all of them whatever fails, so that an operator sees at once what to fix.
//! What a cycle only warns about is a warning here.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{TimeDelta, Utc};
use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;
use serde_json::json;
use url::Url;

use crate::cli::PullArgs;
use crate::config::{Format, JobConfig, PullConfig, Reports, Settings, effective};
use crate::cycle::authenticate::Session;
use crate::cycle::enqueue;
use crate::cycle::list;
use crate::cycle::list::fetcher::{Ask, Page, Source};
use crate::db::schema::{self, Finding};
use crate::db::transaction::{Access, Store};
use crate::error::{Failure, Kind, Reason, Result, Stage};
use crate::exit::Exit;
use crate::net::client::HttpSettings;
use crate::net::http::Http;
use crate::output::columns;
use crate::output::escape::escape;
use crate::output::log;
use crate::output::stdout::{described, document, print};
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;
use crate::report::metrics;
use crate::state::runs;
use crate::state::watermark::{self, Watermark};
use crate::types::time::rfc3339;

/// How far the clocks may be apart without a warning, in seconds.
const CLOCK_TOLERANCE_SECONDS: i64 = 60;

/// The sections that need valid settings, in their order.
const SECTIONS: [&str; 9] = [
    "connect",
    "token",
    "listing",
    "clock",
    "definition",
    "database",
    "tables",
    "watermark",
    "jobs",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
    /// It could not be tried.
    Skip,
}

impl Verdict {
    /// Returns the word of a line, and its style on a terminal.
    fn shown(self) -> (&'static str, Style) {
        match self {
            Self::Ok => ("ok  ", AnsiColor::Green.on_default()),
            Self::Warn => ("warn", AnsiColor::Yellow.on_default()),
            Self::Fail => ("FAIL", AnsiColor::Red.on_default().bold()),
            Self::Skip => ("skip", Style::new().dimmed()),
        }
    }
}

/// One line.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
}

/// What was found so far, shared with the thread that waits for the end. A text line is printed as
/// soon as it is known, JSON at the end.
#[derive(Clone)]
struct Findings(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    format: Format,
    checks: Vec<Check>,
    /// The failure that decides the exit code: a permanent one before a transient one.
    failure: Option<Failure>,
    /// Whether the last line is printed.
    is_concluded: bool,
}

impl Findings {
    fn new(format: Format) -> Self {
        Self(Arc::new(Mutex::new(State { format, ..State::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line; its detail may be remote text.
    fn add(&self, verdict: Verdict, name: &'static str, detail: impl Into<String>) {
        let detail = detail.into();
        let mut state = self.lock();
        if state.is_concluded {
            return;
        }
        if state.format == Format::Text {
            let (word, style) = verdict.shown();
            let detail = escape(&detail);
            // The exit code reports what standard output cannot.
            let _ = print(&format!("{style}{word}{style:#} {name}: {detail}\n"));
        }
        state.checks.push(Check { name, verdict, detail });
    }

    fn fail(&self, name: &'static str, failure: Failure) {
        for problem in failure.problems() {
            self.add(Verdict::Fail, name, problem);
        }
        let mut state = self.lock();
        let decides = state.failure.as_ref().is_none_or(|first| {
            first.kind() == Kind::Transient && failure.kind() == Kind::Permanent
        });
        if decides {
            state.failure = Some(failure);
        }
    }

    fn skip(&self, names: &[&'static str], why: &str) {
        for name in names {
            self.add(Verdict::Skip, name, why);
        }
    }

    /// Adds a result; returns its value.
    fn take<T>(
        &self,
        name: &'static str,
        result: Result<T>,
        detail: impl Fn(&T) -> String,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.add(Verdict::Ok, name, detail(&value));
                Some(value)
            }
            Err(failure) => {
                self.fail(name, failure);
                None
            }
        }
    }

    /// Adds what was found of a table; returns whether a cycle could use it.
    fn add_all(&self, name: &'static str, found: Vec<Finding>, detail: String) -> bool {
        let is_problem = |finding: &Finding| matches!(finding, Finding::Problem(_));
        let is_usable = !found.iter().any(is_problem);
        if is_usable {
            self.add(Verdict::Ok, name, detail);
        }
        for finding in found {
            match finding {
                Finding::Problem(failure) => self.fail(name, failure),
                Finding::Warning(text) => self.add(Verdict::Warn, name, text),
            }
        }
        is_usable
    }

    /// Adds what a cycle would only warn about.
    fn expect(&self, name: &'static str, result: Result<()>, detail: &str) {
        match result {
            Ok(()) => self.add(Verdict::Ok, name, detail),
            Err(failure) => self.add(Verdict::Warn, name, failure.error_chain()),
        }
    }
}

impl State {
    fn count(&self, verdict: Verdict) -> usize {
        let has = |check: &&Check| check.verdict == verdict;
        self.checks.iter().filter(has).count()
    }

    /// Returns how many lines have which verdict.
    fn tally(&self) -> String {
        let (ok, warnings) = (self.count(Verdict::Ok), self.count(Verdict::Warn));
        let (failed, skipped) = (self.count(Verdict::Fail), self.count(Verdict::Skip));
        let plural = if warnings == 1 { "" } else { "s" };
        let mut tally = format!("{ok} ok, {warnings} warning{plural}, {failed} failed");
        if skipped > 0 {
            tally.push_str(&format!(", {skipped} skipped"));
        }
        tally
    }

    /// Returns the names of what failed.
    fn failed(&self) -> Vec<&'static str> {
        let failed = self.checks.iter().filter(|it| it.verdict == Verdict::Fail);
        let mut names: Vec<&str> = failed.map(|check| check.name).collect();
        names.dedup();
        names
    }
}

/// Runs every check and prints what it finds; returns the exit code that a cycle would end with.
pub fn run(settings: Settings) -> Exit {
    let (format, verbosity) = (settings.format(), settings.log().verbosity);
    let findings = Findings::new(format);
    let loaded = settings.load(|it| {
        let reports = it.reports();
        Some((it.pull(&PullArgs::default())?, reports))
    });
    let mut settings = Vec::new();
    match loaded {
        Err(failure) => {
            findings.fail("settings", failure);
            findings.skip(&SECTIONS, "needs valid settings");
        }
        Ok((config, reports)) => {
            settings = effective::describe(&config, &reports);
            if format == Format::Text {
                let lines = settings.iter();
                let lines =
                    lines.map(|(name, value)| columns::entry(&format!("{name:<14}"), value));
                let _ = print(&lines.collect::<String>());
            }
            findings.add(Verdict::Ok, "settings", "valid");
            let deadline = Deadline::after(config.timeout);
            let worker = findings.clone();
            let ended = supervise(&deadline.clone(), move || {
                let store = Store::new(&config.database.url, deadline.clone(), 0);
                check_upstream(&config, &store, &deadline, &worker);
                check_database(&config, &store, verbosity, &worker);
                check_reports(&reports, &deadline, &worker);
                Ok(())
            });
            // A signal, the deadline or a panic.
            if let Err(failure) = ended {
                findings.fail("check", failure);
            }
        }
    }
    conclude(&mut findings.lock(), &settings)
}

/// Prints how the checks ended; returns the exit code.
fn conclude(state: &mut State, settings: &[(&'static str, String)]) -> Exit {
    state.is_concluded = true;
    let tally = state.tally();
    let failure = state.failure.as_ref();
    let answer = match state.format {
        Format::Text => format!("{tally}\n"),
        Format::Json => {
            let settings = settings.iter();
            let settings: BTreeMap<_, _> = settings.map(|(name, value)| (name, value)).collect();
            let mut value = failure.map_or_else(|| json!({"outcome": "success"}), described);
            value["settings"] = json!(settings);
            value["checks"] = json!(state.checks);
            document(&value)
        }
    };
    let _ = print(&answer);
    let Some(failure) = failure else {
        return Exit::Success;
    };
    let message = format!("Check failed: {}", state.failed().join(", "));
    log::failure(&Failure::new(failure.stage, failure.reason, message));
    failure.kind().into()
}

fn check_upstream(config: &PullConfig, store: &Store, deadline: &Deadline, findings: &Findings) {
    let upstream = &config.upstream;
    let urls = [&upstream.auth_url, &upstream.api_base_url];
    if !check_hosts(&urls, &upstream.http, deadline, findings) {
        findings.skip(&SECTIONS[1..5], "needs a connection");
        return;
    }
    let http = Http::new(urls, &upstream.http, deadline.clone(), 0);
    let session = http.and_then(|http| Session::authenticate(http, upstream.clone()));
    let Some(session) = findings.take("token", session, |_| "granted".to_owned()) else {
        findings.skip(&SECTIONS[2..5], "needs a token");
        return;
    };
    check_listing(&session, store, findings);
}

/// Connects to each host once.
fn check_hosts(
    urls: &[&Url],
    settings: &HttpSettings,
    deadline: &Deadline,
    findings: &Findings,
) -> bool {
    let mut routes = Vec::new();
    let mut is_connected = true;
    for url in urls {
        let route = settings.proxies.route(url);
        if !routes.contains(&route) {
            let result = settings.connect(url, deadline);
            is_connected &= findings.take("connect", result, |()| route.clone()).is_some();
            routes.push(route);
        }
    }
    is_connected
}

fn check_listing(session: &Session, store: &Store, findings: &Findings) {
    let ask = Ask { number: 1, offset: 0, limit: 1 };
    let page = session.page(ask, &AtomicBool::new(false));
    let page = findings.take("listing", page, |page: &Page| {
        format!("{} row requested and read", page.elements.len())
    });
    match page {
        None => findings.skip(&["clock"], "needs a response of the listing"),
        Some(page) => check_clock(list::clock_offset(page.meta), findings),
    }
    check_definition(session, store, findings);
}

fn check_definition(session: &Session, store: &Store, findings: &Findings) {
    match session.lack_of_access() {
        Ok(None) => findings.add(Verdict::Ok, "definition", "visible to the account"),
        // An account that saw it lately may see it again.
        Ok(Some(failure)) if had_entries(store) => {
            findings.fail("definition", list::view_changed(&failure.message));
        }
        Ok(Some(failure)) => findings.fail("definition", failure),
        Err(failure) => {
            let cause = failure.error_chain();
            let detail = format!("Cannot find out whether the account sees it: {cause}");
            findings.add(Verdict::Warn, "definition", detail);
        }
    }
}

fn had_entries(store: &Store) -> bool {
    let history = store.transaction(Stage::Prepare, Access::ReadOnly, runs::history);
    history.is_ok_and(|history| history.had_entries)
}

fn check_clock(offset: Option<TimeDelta>, findings: &Findings) {
    let Some(seconds) = offset.map(|offset| offset.num_seconds()) else {
        let detail = "DataPass sends no Date to compare with";
        findings.add(Verdict::Warn, "clock", detail);
        return;
    };
    let side = if seconds < 0 { "behind" } else { "ahead of" };
    let verdict = if seconds.abs() > CLOCK_TOLERANCE_SECONDS { Verdict::Warn } else { Verdict::Ok };
    let detail = format!("this machine is {} s {side} DataPass", seconds.abs());
    findings.add(verdict, "clock", detail);
}

fn check_database(config: &PullConfig, store: &Store, verbosity: u8, findings: &Findings) {
    let connected = store.transaction(Stage::Prepare, Access::ReadBeforeWrite, |_| Ok(()));
    if findings.take("database", connected, |()| "connected".to_owned()).is_none() {
        findings.skip(&SECTIONS[6..], "needs the database");
        return;
    }
    let is_usable = check_tables(store, findings);
    match store.transaction(Stage::Prepare, Access::ReadOnly, watermark::read) {
        // The cause is reported already.
        Err(_) if !is_usable => findings.skip(&["watermark"], "needs the tables"),
        stored => check_watermark(stored, &config.upstream.definition_id, findings),
    }
    check_jobs(store, &config.job, verbosity, findings);
}

/// Examines the tables; returns whether a cycle could use them.
fn check_tables(store: &Store, findings: &Findings) -> bool {
    let examined =
        store.transaction(Stage::Prepare, Access::ReadOnly, |tx| Ok(schema::examine(tx.inner())?));
    let (place, found) = match examined {
        Ok(examined) => examined,
        Err(failure) => {
            findings.fail("tables", failure);
            return false;
        }
    };
    let detail = format!("{place}: columns, unique indexes and privileges are sufficient");
    findings.add_all("tables", found, detail)
}

fn check_watermark(stored: Result<Watermark>, definition_id: &str, findings: &Findings) {
    let stored = stored.and_then(|stored| {
        stored.require_definition(definition_id)?;
        Ok(stored)
    });
    let Some(stored) = findings.take("watermark", stored, describe_watermark) else {
        return;
    };
    for (name, time) in [("It", stored.time), ("skip_before", stored.skip_before)] {
        if time > Some(Utc::now()) {
            let detail =
                format!("{name} is in the future: move it back with `datapass-pull watermark set`");
            findings.add(Verdict::Warn, "watermark", detail);
        }
    }
}

fn describe_watermark(stored: &Watermark) -> String {
    let time = stored.time.map_or_else(|| "none yet".to_owned(), rfc3339);
    match stored.skip_before {
        Some(skip_before) => format!("{time}, skip_before {}", rfc3339(skip_before)),
        None => time,
    }
}

fn check_jobs(store: &Store, config: &JobConfig, verbosity: u8, findings: &Findings) {
    let chosen = store.transaction(Stage::Prepare, Access::ReadOnly, |tx| {
        let queue = enqueue::choose(tx, config)?;
        let job = enqueue::preview(tx, config, &queue, 1)?;
        let guards = match &job {
            Some(_) => schema::examine_jobs(tx.inner())?,
            None => Vec::new(),
        };
        Ok((queue, job, guards))
    });
    let (queue, job, guards) = match chosen {
        Ok(chosen) => chosen,
        Err(failure) => return findings.fail("jobs", failure),
    };
    findings.add_all("jobs", guards, queue.describe());
    if let Some(job) = job
        && verbosity > 0
    {
        findings.add(Verdict::Ok, "job", format!("for the record with id 1: {job}"));
    }
}

/// Checks what a cycle only warns about.
fn check_reports(reports: &Reports, deadline: &Deadline, findings: &Findings) {
    if let Some(path) = &reports.metrics_file {
        let probed = metrics::probe(path).map_err(|error| {
            let message = format!("Cannot write {}", path.display());
            Failure::new(Stage::Prepare, Reason::Resources, message).with_source(error)
        });
        let detail = format!("{} can be written", path.display());
        findings.expect("metrics file", probed, &detail);
    }
    let connect = |name, url: &Url, settings: &HttpSettings| {
        let route = settings.proxies.route(url);
        findings.expect(name, settings.connect(url, deadline), &route);
    };
    if let Some(sentry) = &reports.sentry {
        connect("Sentry", &sentry.dsn.envelope_api_url(), &sentry.http);
    }
    if let Some(ping) = &reports.ping {
        connect("ping", &ping.url, &ping.http);
    }
}
