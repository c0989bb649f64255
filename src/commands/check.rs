//! `check`: proves the set-up step by step, and writes nothing.
//!
//! A line a step, all of them whatever fails, so that a person sees at once what to mend.

use std::sync::Arc;

use chrono::Utc;

use crate::cli::PullArgs;
use crate::config::{PullConfig, Settings};
use crate::cycle::authenticate::Session;
use crate::cycle::enqueue;
use crate::cycle::list::{self, Ask, Right, Source};
use crate::db::schema::{self, Finding};
use crate::db::transaction::{Access, Store};
use crate::error::{Failure, Kind, Result, Stage};
use crate::exit::Exit;
use crate::net::http::Http;
use crate::output::escape::escape;
use crate::output::stdout::{log_failure, print};
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;
use crate::state::watermark;
use crate::types::time::rfc3339;

/// How far the clocks may be apart before it is worth a word, in seconds.
const CLOCK_TOLERANCE_SECONDS: i64 = 60;

/// What a check found.
struct Findings<'a> {
    print: &'a mut dyn FnMut(&str),
    failure: Option<Failure>,
}

impl Findings<'_> {
    /// Prints a line; what it tells may be remote text.
    fn line(&mut self, verdict: &str, name: &str, detail: &str) {
        (self.print)(&format!("{verdict} {name}: {}\n", escape(detail)));
    }

    fn ok(&mut self, name: &str, detail: &str) {
        self.line("ok  ", name, detail);
    }

    fn warn(&mut self, name: &str, detail: &str) {
        self.line("warn", name, detail);
    }

    /// Keeps the failure that decides the exit code: a permanent one before a transient one.
    fn fail(&mut self, name: &str, failure: Failure) {
        self.line("FAIL", name, &failure.story());
        let decides = self.failure.as_ref().is_none_or(|first| {
            first.kind() == Kind::Transient && failure.kind() == Kind::Permanent
        });
        if decides {
            self.failure = Some(failure);
        }
    }

    /// Tells an answer or a failure; returns the answer.
    fn take<T>(
        &mut self,
        name: &str,
        detail: impl Fn(&T) -> String,
        answer: Result<T>,
    ) -> Option<T> {
        match answer {
            Ok(value) => {
                self.ok(name, &detail(&value));
                Some(value)
            }
            Err(failure) => {
                self.fail(name, failure);
                None
            }
        }
    }
}

/// Checks everything that a cycle needs, and prints each line as soon as it is known.
pub fn run(settings: Settings) -> Exit {
    let config = settings.load(|it| {
        it.reports();
        it.pull(&PullArgs::default())
    });
    let checked = config.and_then(|config| {
        let deadline = Deadline::after(config.timeout);
        supervise(&deadline.clone(), move || {
            // The status tells what standard output may not.
            check(&config, &deadline, &mut |line| drop(print(line)))
        })
    });
    match checked {
        Ok(()) => Exit::Success,
        Err(failure) => {
            log_failure(&failure);
            failure.kind().into()
        }
    }
}

fn check(config: &PullConfig, deadline: &Deadline, print: &mut dyn FnMut(&str)) -> Result<()> {
    let mut findings = Findings {
        print,
        failure: None,
    };
    findings.ok("configuration", "complete");
    check_database(config, deadline, &mut findings);
    check_upstream(config, deadline, &mut findings);
    findings.failure.map_or(Ok(()), Err)
}

fn check_database(config: &PullConfig, deadline: &Deadline, findings: &mut Findings<'_>) {
    let store = Store::new(&config.database.url, deadline.clone(), 0);
    let connected = store.transaction(Stage::Prepare, Access::ReadBeforeWrite, |_| Ok(()));
    if findings
        .take("database", |()| "connected".to_owned(), connected)
        .is_none()
    {
        return;
    }
    let examined = store.transaction(Stage::Prepare, Access::ReadOnly, |tx| {
        Ok(schema::examine(tx.inner())?)
    });
    match examined {
        Err(failure) => findings.fail("tables", failure),
        Ok((schema, found)) => {
            let is_problem = |finding: &Finding| matches!(finding, Finding::Problem(_));
            if !found.iter().any(is_problem) {
                let place = schema.place();
                findings.ok(
                    "tables",
                    &format!("{place}: columns, unique index and grants are as needed"),
                );
            }
            for finding in found {
                match finding {
                    Finding::Problem(failure) => findings.fail("tables", failure),
                    Finding::Warning(text) => findings.warn("tables", &text),
                }
            }
        }
    }
    let stored = store.transaction(Stage::Prepare, Access::ReadOnly, |tx| {
        let stored = watermark::read(tx)?;
        stored.require_definition(&config.upstream.definition_id)?;
        Ok(stored)
    });
    let shown =
        |stored: &watermark::Watermark| stored.time.map_or_else(|| "none yet".to_owned(), rfc3339);
    let stored = findings.take("watermark", shown, stored);
    if stored.is_some_and(|stored| stored.time > Some(Utc::now())) {
        findings.warn(
            "watermark",
            "it is in the future: nothing validated until then is created; move it back with \
             `datapass-pull watermark set`",
        );
    }
    let handoff = store.transaction(Stage::Prepare, Access::ReadOnly, |tx| {
        let queue = enqueue::choose(tx, &config.job)?;
        let job = enqueue::preview(tx, &config.job, &queue, 1)?;
        Ok((queue, job))
    });
    let handoff = findings.take("jobs", |(queue, _)| queue.describe(), handoff);
    if let Some((_, Some(job))) = handoff {
        findings.ok("job", &format!("for the record of id 1: {job}"));
    }
}

fn check_upstream(config: &PullConfig, deadline: &Deadline, findings: &mut Findings<'_>) {
    let upstream = &config.upstream;
    let urls = [&upstream.auth_url, &upstream.api_base_url];
    let session = Http::new(
        urls,
        &upstream.http,
        deadline.clone(),
        // An operator waits for the answer.
        0,
    )
    .and_then(|http| Session::open(http, upstream.clone()));
    let Some(session) = findings.take("token", |_| "granted".to_owned(), session) else {
        return;
    };
    let session = Arc::new(session);
    let page = session.page(Ask {
        number: 1,
        offset: 0,
        limit: 1,
    });
    let page = findings.take(
        "listing",
        |page| format!("{} row asked and read", page.elements.len()),
        page,
    );
    if let Some(page) = page {
        match list::clock_offset(page.meta) {
            None => findings.warn("clock", "DataPass sends no Date to compare with"),
            Some(offset) => {
                let seconds = offset.num_seconds();
                let side = if seconds < 0 { "behind" } else { "ahead of" };
                let told = format!("this machine is {} s {side} DataPass", seconds.abs());
                if seconds.abs() > CLOCK_TOLERANCE_SECONDS {
                    findings.warn("clock", &told);
                } else {
                    findings.ok("clock", &told);
                }
            }
        }
    }
    match list::right(&session) {
        Ok(Right::Granted) => findings.ok("definition", "the account may see it"),
        Ok(Right::Absent) => findings.fail("definition", list::no_definition()),
        Err(error) => findings.warn(
            "definition",
            &format!(
                "whether the account may see it is unknown: {}",
                error.failure.story()
            ),
        ),
    }
}
