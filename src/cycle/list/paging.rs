//! Which offset to ask for next, and when the listing is complete: pure logic, and its proof.
//!
//! # Model
//!
//! A page is a part of one snapshot of one list: rows by `created_at`, newest first, rows with equal
//! `created_at` (a *tie*) in any order. A row's `created_at` never changes; it is printed truncated to
//! the millisecond, which keeps the order and makes more ties. Rows enter and leave between requests.
//! A page starts at the requested offset of its snapshot, holds consecutive rows of it, and is
//! shorter than the server's page size only when the snapshot ends there. The page size is unknown,
//! may change at any time, and is at least five. A *stable* row is in every snapshot of the listing.
//!
//! # Overlapping pages
//!
//! A page *joins* when its offset is 0 or its first row is strictly newer than the *frontier*, the
//! oldest `created_at` on the pages that joined before. *Claim*: every stable row that is newer than
//! the frontier, or tied with it and on the last page that lowered it, has been seen.
//!
//! *Proof*, by induction over the pages that join. A page at offset 0 holds every row of its snapshot
//! down to its last one. On any other page that joins, the rows before its first one are at least as
//! new as that one, hence newer than the frontier, and the stable ones among them have been seen; from
//! its first row to its last one it holds every row, the frontier's tie included as far as it reaches.
//! The order of the snapshots was not used: pages may be in flight together. A row without a readable
//! `created_at` is left out where times are compared, and covered by its position. ∎
//!
//! A first row that is only equal to the frontier proves nothing: a stable row of that tie may be
//! before it, unseen. After such a page, or an empty one, the listing steps back, twice as far each
//! time; it ends at offset 0, which always joins.
//!
//! A page that joins and is *short* (fewer than five rows, and fewer than requested) is smaller than
//! any page size: its snapshot ended there, and every stable row has been seen. So a page that may be
//! the last one shares four rows with the next one, which is then short.
//!
//! # Counted rows
//!
//! A tie can be longer than that, or than a page; a list can be unordered, or its times unreadable.
//! Then the rows are counted. *Claim*: when a short page ends at offset `n` (an empty one: starts
//! there), and `n` of the rows seen by then are seen again later with the same `last_validated_at`,
//! every stable row has been seen.
//!
//! *Proof*. The snapshot of the short page has `n` rows, or fewer when the page is empty. Each of these
//! `n` rows was listed before it and after it. Had one been away in between, it would have come back
//! with a new `last_validated_at`, since every return to the listing is a validation. So all `n` are
//! in that snapshot, no other row is, and a stable row is one of them. ∎
//!
//! One return is not a validation: that of rows to which the account lost access and got it back.
//! Rows that were away while the short page was read hide as many others. No count can notice that;
//! but the second reading is read to its own short page too, so it takes two such absences, and the
//! next cycle creates what this one missed.
//!
//! Only this order of requests counts, so none is in flight with another one. PostgreSQL's order within
//! a tie depends on the offset: when fewer rows than `n` were seen, pages that start elsewhere are read.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};

use crate::types::entry::{Element, Key, ValidatedAt};

/// How many rows two pages share: almost as many may leave between two requests without a step back.
const OVERLAP_ROWS: usize = 20;
/// No server's page is smaller: fewer rows are the end of the list.
const SMALLEST_PAGE_ROWS: usize = 5;
/// How many rows a page that may be the last one shares with the next one, which is then short.
const END_OVERLAP_ROWS: usize = SMALLEST_PAGE_ROWS - 1;
/// How far past a repeated page the offset is that shows whether the server ignores offsets.
const FAR_ROWS: u64 = 1_000_000;
/// After how many pages of a tie without a missing row all of the list is read again.
const PAGES_IN_VAIN: u32 = 8;
/// Requests granted to any listing, however short.
const FREE_REQUESTS: u64 = 32;
/// Requests granted for each one of a plain listing.
const REQUESTS_PER_PLAIN_PAGE: u64 = 12;
/// More rows than any account has: an endless list must end.
const MAX_ROWS: usize = 2_000_000;

/// Why a listing cannot be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// The list changed too much for the requests that are granted.
    #[error("it changed too much while it was read, and its completeness is not proved")]
    Changing,
    /// It does not end.
    #[error("it has more than {MAX_ROWS} rows")]
    Endless,
    /// The server ignores the offset, and there may be more rows than it returns.
    #[error("the server returns the same full page at every offset")]
    NoPaging,
}

/// The state of one reading of the list.
#[derive(Debug, Default)]
pub struct Paging {
    limit: usize,
    concurrency: usize,
    /// How many rows the list had last time, until it turns out to be longer.
    expected_rows: Option<u64>,
    mode: Mode,
    /// Offsets whose pages are received next, in this order.
    planned: VecDeque<u64>,
    /// How many of these were asked for.
    in_flight: usize,
    frontier: Option<DateTime<Utc>>,
    step_back: u64,
    /// Where to go on if the awaited page, past the supposed end, shows that it was not the end.
    resume_at: Option<u64>,
    /// Every row as it was seen last, and in which pass.
    rows: HashMap<Key, (ValidatedAt, u32)>,
    pass: Pass,
    previous: Vec<Key>,
    largest_page_rows: usize,
    has_restarted: bool,
    requests: u64,
    /// How often the listing stepped back.
    pub drift_rewinds: u64,
    /// Whether the list was read from its start again and ended with fewer rows than were seen.
    pub has_shrunk: bool,
    /// Whether the server ignores the offset; its one page is then the whole list.
    pub ignores_offset: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Pages overlap.
    #[default]
    Overlap,
    /// The list is read to a short page, pass after pass, and its rows are counted.
    Count,
    Done,
}

/// One reading of the list. All overlapping pages are part of the first one.
#[derive(Debug, Default)]
struct Pass {
    number: u32,
    /// How many rows it has seen.
    rows: u64,
    /// How many more rows of the pass before are to be seen unchanged; unknown in the first pass.
    unconfirmed: Option<u64>,
    /// Where the list ended. Known, only rows that are missing are looked for.
    end: Option<u64>,
    /// From where to where pages could not overlap.
    tie: Option<(u64, u64)>,
    /// How many pages were read there again.
    again: u64,
    /// How many of the last ones had no row that was missing.
    in_vain: u32,
}

/// A page, compared with those before it.
struct Received<'a> {
    offset: u64,
    rows: &'a [Element],
    /// Whether the snapshot ended with it, whatever the server's page size.
    is_short: bool,
    /// Whether the snapshot may end with it, as far as its size shows.
    may_be_last: bool,
    /// Whether its size is the limit, or was seen twice.
    is_usual_size: bool,
    /// Whether its rows are those of the page before.
    is_repeated: bool,
    /// How many of its rows are the first sight of them in this pass.
    added: u64,
}

impl Received<'_> {
    /// Returns the offset after its last row.
    fn end(&self) -> u64 {
        self.offset + self.rows.len() as u64
    }
}

impl Paging {
    /// Starts a listing that requests `limit` rows per page, `concurrency` pages at once.
    ///
    /// `expected_rows` is how many rows the list had last time. It decides how many pages are in
    /// flight and proves nothing: with another length the listing costs a few more requests.
    pub fn new(limit: usize, concurrency: usize, expected_rows: Option<u64>) -> Self {
        let planned = VecDeque::from([0]);
        let mut paging = Self { limit, concurrency, expected_rows, planned, ..Self::default() };
        if expected_rows.is_some() {
            paging.look_ahead(0, limit as u64, 1);
        }
        paging
    }

    /// Returns the next offset to ask for, if one more page should be in flight now.
    pub fn ask(&mut self) -> Option<u64> {
        let offset = *self.planned.get(self.in_flight)?;
        self.in_flight += 1;
        self.requests += 1;
        Some(offset)
    }

    /// Returns how many pages are awaited, nearest first. When it is zero after a page was received,
    /// those still under way are not needed any more.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Returns whether the listing is complete.
    pub fn is_complete(&self) -> bool {
        self.mode == Mode::Done
    }

    /// Returns how many distinct demandes were listed.
    pub fn seen(&self) -> usize {
        self.rows.len()
    }

    /// Takes the page that was awaited first.
    pub fn receive(&mut self, rows: &[Element]) -> Result<(), Unproved> {
        let Some(offset) = self.planned.pop_front() else {
            return Ok(());
        };
        self.in_flight = self.in_flight.saturating_sub(1);
        self.largest_page_rows = self.largest_page_rows.max(rows.len());
        let is_first = self.rows.is_empty();
        let is_repeated = offset > 0
            && !rows.is_empty()
            && self.previous.iter().eq(rows.iter().map(|row| &row.key));
        let page = Received {
            offset,
            rows,
            is_short: rows.len() < SMALLEST_PAGE_ROWS.min(self.limit),
            // Of the first page's size nothing but the limit is known.
            may_be_last: rows.len() < self.largest_page_rows
                || (is_first && rows.len() < self.limit),
            is_usual_size: rows.len() >= self.limit || rows.len() == self.previous.len(),
            is_repeated,
            added: self.record(rows),
        };
        self.has_restarted |= offset == 0 && !is_first;
        match (self.resume_at.take(), self.mode) {
            (Some(next), _) => self.check_end(&page, next)?,
            (None, Mode::Overlap) => self.join(&page),
            (None, Mode::Count) => self.count(&page),
            (None, Mode::Done) => {}
        }
        self.check_bounds()
    }

    /// Remembers a page's rows, and how many of the pass before are unchanged; returns how many this
    /// pass had not seen.
    fn record(&mut self, rows: &[Element]) -> u64 {
        let pass = &mut self.pass;
        let rows_before = pass.rows;
        self.previous.clear();
        for row in rows {
            let validated = row.last_validated_at;
            let before = self.rows.insert(row.key.clone(), (validated, pass.number));
            self.previous.push(row.key.clone());
            match before {
                Some((_, seen_in)) if seen_in == pass.number => continue,
                Some(before) if before == (validated, pass.number.wrapping_sub(1)) => {
                    pass.unconfirmed = pass.unconfirmed.map(|left| left.saturating_sub(1));
                }
                _ => {}
            }
            pass.rows += 1;
        }
        pass.rows - rows_before
    }

    fn join(&mut self, page: &Received<'_>) {
        let times = || page.rows.iter().filter_map(|row| row.created_at);
        if page.offset > 0 && times().next() <= self.frontier {
            self.step_back = (self.step_back * 2).max(OVERLAP_ROWS as u64);
            self.drift_rewinds += 1;
            return self.plan(page.offset.saturating_sub(self.step_back));
        }
        self.step_back = 0;
        if page.is_short {
            self.has_shrunk = self.has_restarted && page.end() < self.rows.len() as u64;
            self.mode = Mode::Done;
            return;
        }
        let Some(last_newer) = last_newer_row(page.rows) else {
            self.mode = Mode::Count;
            return self.count(page);
        };
        self.frontier = times().chain(self.frontier).min();
        let length = page.rows.len();
        let most = if page.may_be_last { END_OVERLAP_ROWS } else { OVERLAP_ROWS };
        let next = page.offset + last_newer.min(length - overlap_rows(length, most)) as u64;
        if page.is_repeated {
            return self.look_past(page.offset + FAR_ROWS, next);
        }
        // The next page would hold the whole tie, and not be short.
        if page.may_be_last && length - last_newer >= SMALLEST_PAGE_ROWS {
            return self.look_past(page.end().saturating_sub(1), next);
        }
        // A page that was asked for ahead will do when it begins within this one.
        let within = page.offset + 1..=page.offset + last_newer as u64;
        if !self.planned.front().is_some_and(|next| within.contains(next)) {
            self.plan(next);
        }
        // Any other size does not predict the offsets of the pages after the next one.
        if page.is_usual_size {
            self.look_ahead(page.offset, length as u64, 0);
        }
    }

    /// Plans the pages behind the one at `offset`, as if nothing changed and pages had `rows` rows:
    /// as many as may be in flight, and one more to go on with at once where the list is expected to
    /// have it. The first `planned` of them are planned.
    fn look_ahead(&mut self, mut offset: u64, rows: u64, planned: usize) {
        let surely = (offset + rows).saturating_sub(OVERLAP_ROWS as u64);
        if !self.rows.is_empty() {
            self.expected_rows = self.expected_rows.filter(|expected| surely <= *expected);
        }
        let expected = self.expected_rows.unwrap_or(u64::MAX);
        let depth = self.concurrency + usize::from(self.expected_rows.is_some());
        for nth in planned..depth {
            let length = rows.min(expected.saturating_sub(offset));
            if length < SMALLEST_PAGE_ROWS.min(self.limit).max(3) as u64 {
                return;
            }
            let most = if length < rows { END_OVERLAP_ROWS } else { OVERLAP_ROWS };
            let next = offset + length - overlap_rows(length as usize, most) as u64;
            offset = *self.planned.get(nth).unwrap_or(&next);
            if nth == self.planned.len() {
                self.planned.push_back(next);
            }
        }
    }

    /// Takes a page of counted rows: reads the list to its end, then the rows that are missing, then
    /// ends the pass.
    fn count(&mut self, page: &Received<'_>) {
        let pass = &mut self.pass;
        let end = match pass.end {
            None if !page.is_short => return self.go_on(page),
            Some(end) if !page.is_short => end.max(page.end()),
            Some(end) if page.rows.is_empty() => end.min(page.end()),
            _ => page.end(),
        };
        pass.end = Some(end);
        pass.in_vain = if page.added > 0 { 0 } else { pass.in_vain + 1 };
        if end > pass.rows {
            self.seek();
        } else if page.is_short && page.end() == end {
            self.end_pass(end);
        } else {
            // A page of one row is short, unless the limit is one.
            self.plan(end.saturating_sub(u64::from(self.limit > 1)));
        }
    }

    /// Goes on after a page that is not short.
    fn go_on(&mut self, page: &Received<'_>) {
        let last_newer = last_newer_row(page.rows);
        if last_newer.is_none() {
            let start = self.pass.tie.map_or(page.offset, |(start, _)| start.min(page.offset));
            self.pass.tie = Some((start, page.end()));
        }
        // When all is confirmed, the list is expected to end with this page.
        let step = last_newer.filter(|_| self.pass.unconfirmed != Some(0));
        let step = step.unwrap_or(page.rows.len().saturating_sub(1).max(1));
        let next = page.offset + step as u64;
        match page.is_repeated {
            true => self.look_past(page.offset + FAR_ROWS, next),
            false => self.plan(next),
        }
    }

    /// Looks for rows that are missing: in the tie, which may have another order at another offset; when
    /// that was in vain several times, in all of the list, which may have changed.
    fn seek(&mut self) {
        let pass = &mut self.pass;
        match pass.tie {
            Some((start, end)) if pass.in_vain < PAGES_IN_VAIN => {
                pass.again += 1;
                // Multiples of the golden ratio's fraction are spread evenly.
                let first = start.saturating_sub(self.largest_page_rows as u64);
                let shift = (end - first) * (pass.again * 382 % 1000) / 1000;
                self.plan(first + shift);
            }
            _ => {
                (pass.end, pass.in_vain) = (None, 0);
                self.plan(0);
            }
        }
    }

    /// Ends a pass after a short page that ends at offset `rows`, and begins the one that confirms its
    /// rows, unless it confirmed those of the pass before.
    fn end_pass(&mut self, rows: u64) {
        self.has_shrunk = rows < self.rows.len() as u64;
        let is_confirmed = rows == 0 || self.pass.unconfirmed == Some(0);
        self.mode = if is_confirmed { Mode::Done } else { Mode::Count };
        self.pass =
            Pass { number: self.pass.number + 1, unconfirmed: Some(rows), ..Pass::default() };
        self.plan(0);
    }

    /// Plans a page past the supposed end.
    fn look_past(&mut self, offset: u64, resume_at: u64) {
        self.resume_at = Some(resume_at);
        self.plan(offset);
    }

    /// Takes the page past the supposed end.
    fn check_end(&mut self, page: &Received<'_>, next: u64) -> Result<(), Unproved> {
        if page.is_repeated && page.offset < FAR_ROWS {
            self.look_past(page.offset + FAR_ROWS, next);
        } else if page.is_repeated && page.rows.len() >= self.limit {
            return Err(Unproved::NoPaging);
        } else if page.is_repeated {
            self.ignores_offset = true;
            self.mode = Mode::Done;
        } else if page.is_short && page.end() <= self.pass.rows {
            self.end_pass(page.end());
        } else {
            self.plan(next);
        }
        Ok(())
    }

    /// Makes `offset` the only one planned, to be asked for when all before it was received.
    fn plan(&mut self, offset: u64) {
        self.planned.clear();
        self.in_flight = 0;
        self.planned.push_back(offset);
    }

    fn check_bounds(&self) -> Result<(), Unproved> {
        if self.rows.len() > MAX_ROWS {
            return Err(Unproved::Endless);
        }
        let rows = self.largest_page_rows;
        let stride = rows.saturating_sub(overlap_rows(rows, OVERLAP_ROWS)).max(1);
        let plain_pages = (self.rows.len() / stride) as u64;
        let granted = FREE_REQUESTS + REQUESTS_PER_PLAIN_PAGE * plain_pages;
        if !self.is_complete() && self.requests >= granted {
            return Err(Unproved::Changing);
        }
        Ok(())
    }
}

/// Returns how many rows the page after one of `rows` rows shares with it, `most` if it has as many.
/// One is too few: the next page would begin at the frontier, and not join.
fn overlap_rows(rows: usize, most: usize) -> usize {
    (rows / 2).max(2).min(most)
}

/// Returns the index of the last row that is strictly newer than the page's last row: the furthest
/// place where the next page may begin and join. `None` when that would be this page again, or the
/// rows are not in order.
fn last_newer_row(rows: &[Element]) -> Option<usize> {
    let times = rows.iter().filter_map(|row| row.created_at);
    let oldest = times.clone().min()?;
    if !times.is_sorted_by(|one, next| one >= next) {
        return None;
    }
    let newer = rows.iter().rposition(|row| row.created_at > Some(oldest));
    newer.filter(|index| *index > 0)
}
