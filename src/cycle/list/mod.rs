//! List: pages of DataPass in, one complete listing out.
//!
//! [`paging`] decides which page to ask for and when the listing is complete, and proves it;
//! [`fetcher`] keeps pages in flight; [`decode`] turns a body into elements. This file reads the list,
//! and reads it again when what the account sees has changed meanwhile: its access may be removed and
//! restored, and one of several servers may always answer `[]`.

pub mod decode;
pub mod definitions;
pub mod fetcher;
pub mod paging;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use log::{debug, warn};

use self::fetcher::{Ask, Fetcher, Source};
use self::paging::{Paging, Unproved};
use crate::cycle::outcome::SharedOutcome;
use crate::error::{Failure, Reason, Result, Stage};
use crate::net::http::Meta;
use crate::output::progress;
use crate::state::runs::History;
use crate::types::entry::{Entry, Key};

/// How often the list is read again when the view of the account changed.
const MAX_REPEATS: u32 = 3;

/// A complete listing.
#[derive(Debug)]
pub struct Listing {
    /// Every demande of the definition, or whose definition cannot be read; each once.
    pub entries: Vec<Entry>,
    /// When it was read.
    pub clocks: Clocks,
}

/// DataPass' clock while its list was read.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// At the begin of the earliest page: what was validated until then and is visible is listed.
    pub begin: DateTime<Utc>,
    /// At the end of the latest page: what was validated later is dated in the future.
    pub end: DateTime<Utc>,
}

/// Lists all that the account sees, `concurrency` pages of `page_size` rows at once, or fails.
/// `outcome` has how far it came.
pub fn list(
    source: Arc<dyn Source>,
    page_size: usize,
    concurrency: usize,
    history: &History,
    outcome: &SharedOutcome,
) -> Result<Listing> {
    let begun = Utc::now();
    let expected_rows = history.last_seen;
    let mut reader =
        Reader { source, page_size, concurrency, expected_rows, outcome, asked: 0, clocks: None };
    let has_entries = |entries: &[Entry]| entries.iter().any(|entry| entry.of_definition);
    let mut most_seen = expected_rows.unwrap_or_default();
    let mut had_entries = history.had_entries;
    let mut repeats = 0..MAX_REPEATS;
    let (entries, seen) = loop {
        let (entries, paging) = reader.read()?;
        let seen = paging.seen() as u64;
        had_entries |= has_entries(&entries);
        let problem = match seen {
            _ if paging.has_shrunk => "The list shrank while it was read",
            0 if most_seen > 0 => "The list is empty, and was not before",
            _ => break (entries, seen),
        };
        match repeats.next() {
            Some(repeat) => reader.source.reconnect(repeat, view_changed(problem))?,
            None if paging.has_shrunk => return Err(view_changed(problem)),
            // That may be true: the access to the definition decides.
            None => break (entries, seen),
        }
        most_seen = most_seen.max(seen);
    };
    let is_smaller = expected_rows.is_some_and(|expected| seen < expected);
    let stepped_back = outcome.lock().run.summary.drift_rewinds > 0;
    if !has_entries(&entries) || is_smaller || stepped_back {
        check_access(&*reader.source, had_entries)?;
    }
    if seen == 0 && most_seen > 0 {
        warn!(stage = Stage::List.as_str();
            "The list is empty, and had {most_seen} demandes before; nothing is created or closed");
    }
    let clocks = reader.clocks.unwrap_or_else(|| {
        warn!(stage = Stage::List.as_str();
            "DataPass sends no Date; this machine's clock bounds the watermark instead");
        Clocks { begin: begun, end: Utc::now() }
    });
    Ok(Listing { entries, clocks })
}

/// Checks, where the listing gives reason to doubt it, that the account has access to the definition.
fn check_access(source: &dyn Source, had_entries: bool) -> Result<()> {
    match source.lack_of_access() {
        Ok(None) => Ok(()),
        Ok(Some(_)) if had_entries => {
            Err(view_changed("The account no longer sees the definition"))
        }
        Ok(Some(failure)) => Err(failure),
        // A deadline or a signal still ends the cycle.
        Err(failure) if matches!(failure.reason, Reason::Deadline | Reason::Interrupted) => {
            Err(failure)
        }
        Err(failure) => {
            warn!(stage = Stage::List.as_str(), reason = failure.reason.as_str();
                "Cannot find out whether the account sees the definition: {}", failure.error_chain());
            Ok(())
        }
    }
}

/// Returns the failure of a listing during which, or since the last of which, the view changed.
pub fn view_changed(problem: &str) -> Failure {
    let message = format!(
        "{problem}: the account's access was changed, or one of DataPass' servers answers wrongly"
    );
    Failure::new(Stage::List, Reason::ViewChanged, message)
}

/// Reads the list, from its start each time.
struct Reader<'a> {
    source: Arc<dyn Source>,
    page_size: usize,
    concurrency: usize,
    expected_rows: Option<u64>,
    outcome: &'a SharedOutcome,
    /// How many pages the cycle asked for.
    asked: u64,
    clocks: Option<Clocks>,
}

impl Reader<'_> {
    /// Reads the list once, to its end.
    fn read(&mut self) -> Result<(Vec<Entry>, Paging)> {
        let mut paging = Paging::new(self.page_size, self.concurrency, self.expected_rows);
        let mut fetcher = Fetcher::start(Arc::clone(&self.source), self.concurrency)?;
        // The last one of each key: an entry may be listed again while it changes.
        let mut entries: HashMap<Key, Entry> = HashMap::new();
        let earlier_rewinds = self.outcome.lock().run.summary.drift_rewinds;
        while !paging.is_complete() {
            while let Some(offset) = paging.ask() {
                self.asked += 1;
                fetcher.ask(Ask { number: self.asked, offset, limit: self.page_size });
            }
            let page = fetcher.next()?;
            self.note_clock(page.meta);
            paging.receive(&page.elements).map_err(unproved)?;
            entries.extend(page.elements.into_iter().filter_map(|it| Some((it.key, it.entry?))));
            if paging.in_flight() == 0 {
                fetcher.abandon()?;
            }
            let seen = paging.seen() as u64;
            // Nothing is logged under the lock: an output that is not read would keep it.
            let pages = {
                let summary = &mut self.outcome.lock().run.summary;
                summary.seen = seen;
                summary.drift_rewinds = earlier_rewinds + paging.drift_rewinds;
                summary.pages += 1;
                summary.pages
            };
            debug!(stage = Stage::List.as_str(), page = pages; "{seen} demandes are listed so far");
            progress::update(pages, seen);
        }
        if paging.ignores_offset {
            warn!(stage = Stage::List.as_str();
                "The server does not page: it returned the same rows at every offset. They are fewer \
                 than requested, so they are taken as the whole list");
        }
        Ok((with_distinct_references(entries), paging))
    }

    /// `Date` has whole seconds, truncated: the request began no earlier than it less the time that the
    /// response took, and the page was made within the second after it.
    fn note_clock(&mut self, meta: Meta) {
        let Some(date) = meta.date else { return };
        let elapsed = TimeDelta::from_std(meta.elapsed).unwrap_or_default();
        let page = Clocks { begin: date - elapsed, end: date + TimeDelta::seconds(1) };
        let Clocks { begin, end } = self.clocks.unwrap_or(page);
        self.clocks = Some(Clocks { begin: begin.min(page.begin), end: end.max(page.end) });
    }
}

/// Returns the entries. Of those without ids that have the same reference each gets its text's.
fn with_distinct_references(mut entries: HashMap<Key, Entry>) -> Vec<Entry> {
    let mut seen = HashSet::new();
    let references = entries.values().map(|entry| &entry.reference);
    let repeated: HashSet<String> = references.filter(|it| !seen.insert(*it)).cloned().collect();
    for (key, entry) in &mut entries {
        if repeated.contains(&entry.reference) {
            entry.reference = key.to_string();
        }
    }
    entries.into_values().collect()
}

fn unproved(error: Unproved) -> Failure {
    let reason = match error {
        Unproved::NoPaging => Reason::NoPaging,
        Unproved::Changing | Unproved::Endless => Reason::UnprovedListing,
    };
    Failure::new(Stage::List, reason, format!("The listing is given up: {error}"))
}

/// Returns how far this machine's clock is ahead of the server's, truncated to seconds.
pub fn clock_offset(meta: Meta) -> Option<TimeDelta> {
    let middle = Utc::now() - TimeDelta::from_std(meta.elapsed / 2).unwrap_or_default();
    // The middle of the second to which `Date` was truncated.
    let date = meta.date? + TimeDelta::milliseconds(500);
    Some(TimeDelta::seconds((middle - date).num_seconds()))
}

#[cfg(test)]
mod tests;
