//! `check`: verifies everything that a cycle uses, and writes nothing to the database.
//!
//! One line per section, all of them whatever fails, so that an operator sees at once what to fix.
//! What a cycle only warns about is a warning here.

mod findings;

use std::sync::atomic::AtomicBool;

use chrono::Utc;
use url::Url;

use self::findings::Findings;
use crate::cli::PullArgs;
use crate::config::{PullConfig, Reports, Settings, effective};
use crate::cycle::authenticate::Session;
use crate::cycle::enqueue;
use crate::cycle::list;
use crate::cycle::list::fetcher::{Ask, Page, Source};
use crate::db::schema::{self, Finding};
use crate::db::transaction::{Access, Store, Tx};
use crate::error::{Exit, Failure, Result, Stage};
use crate::net::http::Http;
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;
use crate::report::metrics;
use crate::state::watermark::{self, Watermark};
use crate::state::{rejections, runs};
use crate::types::time::rfc3339;

/// How far the clocks may be apart without a warning, in seconds.
const CLOCK_TOLERANCE_SECONDS: i64 = 60;

/// The sections that every check has, in their order, each with what it needs.
const SECTIONS: [(&str, &str); 9] = [
    ("connect", "valid settings"),
    ("token", "a connection"),
    ("listing", "a connection and a token"),
    ("clock", "a response of the listing"),
    ("definition", "a connection and a token"),
    ("database", "valid settings"),
    ("tables", "the database"),
    ("watermark", "the tables"),
    ("jobs", "the database"),
];

/// Verifies every section and prints what it finds; returns the exit code that a cycle would end
/// with.
pub fn run(settings: Settings) -> Exit {
    let (format, verbosity) = (settings.format, settings.log.verbosity);
    let loaded = settings.load(|it| {
        let reports = it.reports();
        it.pull(&PullArgs::default()).map(|config| (config, reports))
    });
    let effective = loaded.as_ref().map(|(config, reports)| effective::describe(config, reports));
    let findings = Findings::new(format, effective.unwrap_or_default());
    let mut skipped = SECTIONS.map(|(name, need)| (name, format!("needs {need}")));
    if let Some((config, reports)) = findings.take("settings", loaded, |_| "valid".to_owned()) {
        let deadline = Deadline::after(config.timeout);
        let store = Store::new(&config.database, deadline.clone(), 0);
        let (supervised, findings) = (deadline.clone(), findings.clone());
        let check = Check { config, store, deadline, verbosity, findings: findings.clone() };
        let ended = supervise(&supervised, move || {
            check.upstream();
            check.database();
            check.reports(&reports);
            Ok(())
        });
        // A signal, the deadline or a panic.
        if let Err(failure) = ended {
            findings.add("check", Err(Finding::Problem(failure)));
            skipped = SECTIONS.map(|(name, _)| (name, "not reached".to_owned()));
        }
    }
    findings.conclude(skipped)
}

/// What the sections are verified with; a section that cannot be tried adds nothing.
struct Check {
    config: PullConfig,
    store: Store,
    deadline: Deadline,
    verbosity: u8,
    findings: Findings,
}

impl Check {
    fn upstream(&self) -> Option<()> {
        let upstream = &self.config.upstream;
        let urls = [&upstream.auth_url, &upstream.api_base_url];
        let mut hosts = urls.to_vec();
        hosts.dedup_by_key(|url| upstream.http.proxies.route(url));
        let connect = |url: &Url| {
            let route = upstream.http.connect(url, &self.deadline);
            self.findings.take("connect", route, String::clone).is_some()
        };
        let connected: Vec<bool> = hosts.into_iter().map(connect).collect();
        // A cycle meets the host of the token first.
        connected.first().filter(|is_connected| **is_connected)?;

        let http = Http::new(urls, &upstream.http, self.deadline.clone(), 0);
        let session = http.and_then(|http| Session::authenticate(http, upstream.clone()));
        let session = self.findings.take("token", session, |_| "granted".to_owned())?;
        if connected.contains(&false) {
            return None;
        }

        let ask = Ask { number: 1, offset: 0, limit: 1 };
        let page = session.page(ask, &AtomicBool::new(false));
        let detail = |page: &Page| format!("1 row requested, {} received", page.elements.len());
        if let Some(page) = self.findings.take("listing", page, detail) {
            self.clock(&page);
        }
        self.definition(&session);
        Some(())
    }

    fn clock(&self, page: &Page) {
        let found = match list::clock_offset(page.meta) {
            None => Err("DataPass sends no Date to compare with".to_owned()),
            Some(offset) => {
                let seconds = offset.num_seconds();
                let side = if seconds < 0 { "behind" } else { "ahead of" };
                let detail = format!("this machine is {} s {side} DataPass", seconds.abs());
                if seconds.abs() <= CLOCK_TOLERANCE_SECONDS { Ok(detail) } else { Err(detail) }
            }
        };
        self.findings.add("clock", found.map_err(Finding::Warning));
    }

    fn definition(&self, session: &Session) {
        let found = match session.lack_of_access() {
            Ok(None) => Ok("visible to the account".to_owned()),
            // An account that saw it lately may see it again.
            Ok(Some(failure)) if self.read(runs::history).is_ok_and(|it| it.had_entries) => {
                Err(Finding::Problem(list::view_changed(&failure.message)))
            }
            Ok(Some(failure)) => Err(Finding::Problem(failure)),
            Err(failure) => Err(Finding::Warning(format!(
                "Cannot find out whether the account sees it: {}",
                failure.error_chain()
            ))),
        };
        self.findings.add("definition", found);
    }

    fn database(&self) -> Option<()> {
        let connected = self.store.transaction(Stage::Prepare, Access::ReadBeforeWrite, |_| Ok(()));
        self.findings.take("database", connected, |()| "connected".to_owned())?;
        let tables = self.read(|tx| schema::examine(tx.inner()));
        let is_usable = self.findings.examined("tables", tables);
        let unread = |failure| match is_usable {
            true => self.findings.add("watermark", Err(Finding::Problem(failure))),
            // The cause is reported already.
            false => self.findings.decide("watermark", failure),
        };
        match self.read(watermark::read) {
            Ok(stored) => self.watermark(stored),
            Err(failure) => unread(failure),
        }
        // What else a cycle reads before it lists.
        let others = self.read(|tx| runs::history(tx).and_then(|_| rejections::known(tx)));
        if let Err(failure) = others {
            unread(failure);
        }
        self.jobs();
        Some(())
    }

    fn watermark(&self, stored: Watermark) {
        let ours = stored.require_definition(&self.config.upstream.definition_id);
        let ours = ours.map(|()| stored);
        let ours = self.findings.take("watermark", ours, describe_watermark);
        let times = ours.map(|it| [("It", it.time), ("skip_before", it.skip_before)]);
        for (name, time) in times.into_iter().flatten() {
            if time > Some(Utc::now()) {
                let detail = format!(
                    "{name} is in the future: move it back with `datapass-pull watermark set`"
                );
                self.findings.add("watermark", Err(Finding::Warning(detail)));
            }
        }
    }

    fn jobs(&self) {
        let config = &self.config.job;
        let mut job = None;
        let examined = self.read(|tx| {
            let queue = enqueue::choose(tx, config)?;
            job = enqueue::preview(tx, config, &queue)?;
            let found = match &job {
                Some(_) => schema::examine_jobs(tx.inner())?,
                None => Vec::new(),
            };
            Ok((queue.describe(), found))
        });
        self.findings.examined("jobs", examined);
        if let Some(job) = job.filter(|_| self.verbosity > 0) {
            self.findings.add("job", Ok(format!("for the record with id 1: {job}")));
        }
    }

    /// Verifies what a cycle only warns about.
    fn reports(&self, reports: &Reports) {
        if let Some(path) = &reports.metrics_file {
            let (probed, path) = (metrics::probe(path), path.display());
            let probed = probed.map(|()| format!("{path} can be written"));
            let problem = |error| Finding::Warning(format!("Cannot write {path}: {error}"));
            self.findings.add("metrics file", probed.map_err(problem));
        }
        let sentry = reports.sentry.as_ref().map(|it| (it.dsn.envelope_api_url(), &it.http));
        let ping = reports.ping.as_ref().map(|it| (it.url.clone(), &it.http));
        for (name, host) in [("Sentry", sentry), ("ping", ping)] {
            if let Some((url, http)) = host {
                let problem = |failure: Failure| Finding::Warning(failure.error_chain());
                self.findings.add(name, http.connect(&url, &self.deadline).map_err(problem));
            }
        }
    }

    fn read<T>(&self, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.store.transaction(Stage::Prepare, Access::ReadOnly, work)
    }
}

fn describe_watermark(stored: &Watermark) -> String {
    let time = stored.time.map_or_else(|| "none yet".to_owned(), rfc3339);
    match stored.skip_before {
        Some(skip_before) => format!("{time}, skip_before {}", rfc3339(skip_before)),
        None => time,
    }
}
