//! List: pages of DataPass in, one complete listing out.
//!
//! [`paging`] decides which page to ask for and when the listing is complete, and proves it;
//! [`fetcher`] keeps pages in flight; [`decode`] turns a body into elements. This file reads the list,
//! and reads it again when what the account sees has changed meanwhile: its access may be removed and
//! given back, and one of several servers may answer `[]` for good.

pub mod decode;
pub mod definitions;
pub mod fetcher;
pub mod paging;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use log::{debug, warn};

use self::fetcher::{Ask, Fetcher, Source};
use self::paging::{Paging, Unproved};
use crate::error::{Failure, Reason, Result, Stage};
use crate::net::http::Meta;
use crate::types::entry::{Element, Key};

/// How often the list is read again when the view of the account changed.
const MAX_REPEATS: u32 = 3;

/// How the list is read.
#[derive(Debug, Clone, Copy)]
pub struct ListSettings {
    /// Rows per page.
    pub page_size: usize,
    /// Pages in flight at once.
    pub concurrency: usize,
}

/// What is known of the listings before this one.
#[derive(Debug, Clone, Copy, Default)]
pub struct LastListing {
    /// How many demandes the last success listed.
    pub seen: Option<u64>,
    /// Whether a success of the last two days listed entries of the definition.
    pub had_entries: bool,
}

/// A complete listing.
#[derive(Debug)]
pub struct Listing {
    /// Every element of the definition, or whose definition cannot be read; each once.
    pub elements: Vec<Element>,
    /// DataPass' clock when the listing began: what was validated until then and is visible is listed.
    pub clock: DateTime<Utc>,
    /// DataPass' clock when the listing ended: what was validated later is dated in the future.
    pub clock_at_end: DateTime<Utc>,
}

/// How far a listing came, reported while it goes on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Pages received.
    pub pages: u64,
    /// Distinct demandes listed.
    pub seen: u64,
    /// Steps back.
    pub drift_rewinds: u64,
}

/// Lists all that the account sees, or fails.
pub fn list(
    source: Arc<dyn Source>,
    settings: ListSettings,
    last: LastListing,
    progress: &mut dyn FnMut(Progress),
) -> Result<Listing> {
    let begun = Utc::now();
    let mut reader = Reader {
        source,
        settings,
        expected_rows: last.seen,
        progress,
        so_far: Progress::default(),
        asked: 0,
        clocks: None,
    };
    let mut most_seen = last.seen.unwrap_or_default();
    let mut had_entries = false;
    let mut repeats = 0;
    let reading = loop {
        let reading = reader.read()?;
        had_entries |= reading.has_entries();
        let is_missing = reading.seen == 0 && most_seen > 0;
        if !reading.has_shrunk && (!is_missing || repeats == MAX_REPEATS) {
            break reading;
        }
        let problem = match reading.has_shrunk {
            true => "The list shrank while it was read",
            false => "The list is empty, and was not before",
        };
        if repeats == MAX_REPEATS {
            return Err(view_changed(problem));
        }
        most_seen = most_seen.max(reading.seen);
        reader.source = reader.source.reconnected(repeats, view_changed(problem))?;
        repeats += 1;
    };
    let is_smaller = last.seen.is_some_and(|seen| reading.seen < seen);
    if !reading.has_entries() || is_smaller || reader.so_far.drift_rewinds > 0 {
        check_access(&*reader.source, had_entries || last.had_entries)?;
    }
    if reading.seen == 0 && most_seen > 0 {
        warn!(stage = Stage::List.as_str();
            "The list is empty, and had {most_seen} demandes before; nothing is created or closed");
    }
    let (clock, clock_at_end) = reader.clocks.unwrap_or_else(|| {
        warn!(stage = Stage::List.as_str();
            "DataPass sends no Date; this machine's clock bounds the watermark instead");
        (begun, Utc::now())
    });
    Ok(Listing { elements: reading.elements, clock, clock_at_end })
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
    settings: ListSettings,
    expected_rows: Option<u64>,
    progress: &'a mut dyn FnMut(Progress),
    so_far: Progress,
    asked: u64,
    /// DataPass' clock at the begin of the earliest page and at the end of the latest.
    clocks: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// One complete reading of the list.
struct Reading {
    elements: Vec<Element>,
    seen: u64,
    has_shrunk: bool,
}

impl Reading {
    fn has_entries(&self) -> bool {
        let mut entries = self.elements.iter().filter_map(|it| it.entry.as_ref());
        entries.any(|entry| entry.of_definition)
    }
}

impl Reader<'_> {
    fn read(&mut self) -> Result<Reading> {
        let ListSettings { page_size: limit, concurrency } = self.settings;
        let mut paging = Paging::new(limit, concurrency, self.expected_rows);
        let mut fetcher = Fetcher::start(Arc::clone(&self.source), concurrency)?;
        // The last one of each key: an entry may be listed again while it changes.
        let mut elements: HashMap<Key, Element> = HashMap::new();
        let earlier_rewinds = self.so_far.drift_rewinds;
        while !paging.is_complete() {
            while let Some(offset) = paging.ask() {
                self.asked += 1;
                fetcher.ask(Ask { number: self.asked, offset, limit });
            }
            let page = fetcher.next()?;
            self.note_clock(page.meta);
            paging.receive(&page.elements).map_err(unproved)?;
            let ours = page.elements.into_iter().filter(|it| it.entry.is_some());
            elements.extend(ours.map(|element| (element.key.clone(), element)));
            if paging.in_flight() == 0 {
                fetcher.abandon()?;
            }
            self.so_far = Progress {
                pages: self.so_far.pages + 1,
                seen: paging.seen() as u64,
                drift_rewinds: earlier_rewinds + paging.drift_rewinds(),
            };
            let Progress { pages, seen, .. } = self.so_far;
            debug!(stage = Stage::List.as_str(), page = pages; "{seen} demandes are listed so far");
            (self.progress)(self.so_far);
        }
        if paging.ignores_offset() {
            warn!(stage = Stage::List.as_str();
                "The server does not page: it returned the same rows at every offset. They are fewer \
                 than requested, so they are taken as the whole list");
        }
        Ok(Reading {
            elements: with_distinct_references(elements.into_values().collect()),
            seen: self.so_far.seen,
            has_shrunk: paging.has_shrunk(),
        })
    }

    /// `Date` has whole seconds, truncated: the request began no earlier than it less the time that the
    /// response took, and the page was made within the second after it.
    fn note_clock(&mut self, meta: Meta) {
        let Some(date) = meta.date else { return };
        let elapsed = TimeDelta::from_std(meta.elapsed).unwrap_or_default();
        let page = (date - elapsed, date + TimeDelta::seconds(1));
        self.clocks = Some(match self.clocks {
            Some((begin, end)) => (begin.min(page.0), end.max(page.1)),
            None => page,
        });
    }
}

/// Makes different elements without ids that have the same stable members distinct by their texts.
fn with_distinct_references(mut elements: Vec<Element>) -> Vec<Element> {
    let mut counts: HashMap<[u8; 16], usize> = HashMap::new();
    for element in &elements {
        if let Key::Digest { stable, .. } = element.key {
            *counts.entry(stable).or_default() += 1;
        }
    }
    for element in &mut elements {
        if let Key::Digest { text, stable } = &mut element.key
            && counts.get(stable).is_some_and(|count| *count > 1)
        {
            *stable = *text;
        }
    }
    elements
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
    let date = meta.date?;
    Some(TimeDelta::seconds((middle - date).num_seconds()))
}

#[cfg(test)]
mod tests;
