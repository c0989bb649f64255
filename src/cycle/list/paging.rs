//! Which offset to ask for next, and when the listing is complete: no I/O, only judgement.
//!
//! # What is known
//!
//! An answer is one snapshot of one list: rows by `created_at`, newest first, rows with an equal
//! `created_at` in any order. A row's `created_at` never changes; it is printed cut to the
//! millisecond, which keeps the order and makes more ties. Rows enter and leave between two
//! requests. A page begins at the asked offset of its snapshot, holds consecutive rows of it, and
//! is shorter than the server's page size only when the snapshot ends there. The server's page
//! size is not told, may change at any time, and is at least five.
//!
//! # Lemma (overlapping pages)
//!
//! A row *stands still* when it is in every snapshot of the listing. The *frontier* is the oldest
//! `created_at` on the pages that joined so far. Then every still row that is newer than the
//! frontier, and every still row tied with it on the last page that lowered it, has been seen.
//!
//! *Proof*, by induction over the pages that joined. A page at offset 0 covers its snapshot from
//! the top down to its last row, so every still row down to there is on it. Let now a page's first
//! row be *strictly* newer than the frontier. Rows that its snapshot has before that row are as new
//! or newer than it, thus newer than the frontier: the still ones among them were seen. From its
//! first row on, the page is consecutive: every still row down to its last row is on it, with the
//! frontier's whole tie as far as the page reaches. So the claim holds with the frontier lowered to
//! the page's last row. The order in which the snapshots were taken was not used, since a still row
//! is in all of them: pages may be in flight together. A row whose `created_at` cannot be read is
//! passed over where times are compared, and covered by its place. ∎
//!
//! A first row only *equal* to the frontier proves nothing: a tied still row may stand before it,
//! unseen. Such a page, and an empty one further down, does not join: rows have left ahead, and the
//! listing steps back, twice as far each time; offset 0 joins always, so this ends.
//!
//! When a page that joins is shorter than the server's page size, its snapshot ended there, and
//! every still row has been seen. For the size that is not known stands "fewer than five rows and than
//! asked": a page that may be the last one shares fewer than that with the page after it, which then
//! proves the end.
//!
//! A tie at the end is more than such a page can have. There a page is the last one when it is shorter
//! than every page before it, of which the last one that joined was shorter than another. *Proof*,
//! should the page size change only once: where the page's own length is the size of its time, both
//! of those pages came at the other size, and the shorter one ended its snapshot. ∎
//!
//! # Lemma (a list read twice)
//!
//! Where overlap proves nothing (one tie fills a page, or all of it but its first row; rows are not in
//! order, or carry no readable `created_at`; pages of one or two rows) the list is read plainly to an
//! empty page, and then once more. If both passes read the same set of `n` rows, each row once and with the same
//! `last_validated_at`, the listing is complete.
//!
//! *Proof*. The first pass's empty page came at offset `n`: its snapshot had at most `n` rows. Each of
//! the `n` rows read was listed before that snapshot and after it. Had it been away in between, it
//! would have come back with a new `last_validated_at`, since every return to the listing is a
//! validation; so it was in it. That snapshot was exactly these rows, and a still row is one of
//! them. ∎
//!
//! A tie larger than a page is therefore listed whole when the list is quiet for that long, and is
//! a transient failure, never a loss, when it is not.

use std::collections::{HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};

use crate::types::entry::{Element, Key, ValidatedAt};

/// How many rows two pages share: almost as many may leave between two requests without a step back.
const OVERLAP_ROWS: usize = 20;
/// No server's page is smaller: fewer rows are the end of the list.
const SMALLEST_PAGE_ROWS: usize = 5;
/// How far past a page that came twice the question goes whether the server pages at all.
const FAR_ROWS: u64 = 1_000_000;
/// How often a list that must be read twice unchanged is read at most.
const MAX_PASSES: u32 = 4;
/// Requests granted to any listing, however short.
const FREE_REQUESTS: u64 = 32;
/// Requests granted for each one of a plain listing.
const REQUESTS_PER_PLAIN_PAGE: u64 = 8;
/// More rows than any account has: an endless list must end.
const MAX_ROWS: usize = 2_000_000;

/// Why a listing cannot be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// The list moved too much for the requests that are granted.
    #[error("the list moved too much while it was read: completeness is not proved")]
    Moving,
    /// It was read several times and was never twice the same.
    #[error(
        "rows that share one created_at fill a page, and the list did not stand still: \
         completeness is not proved"
    )]
    Tie,
    /// It does not end.
    #[error("the list has more than {MAX_ROWS} rows")]
    Endless,
    /// The server ignores the offset, and there is more than it serves.
    #[error("the server serves the same full page at every offset")]
    NoPaging,
}

/// Something about a listing that a person should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// The server ignores the offset; its one page is shorter than asked, so it is the whole list.
    NotPaged,
    /// Overlap proves nothing here; the list is read twice.
    ReadTwice,
}

/// The judgement over one listing's pages.
#[derive(Debug)]
pub struct Paging {
    limit: usize,
    concurrency: usize,
    /// How many rows the list had last time, until it shows itself longer.
    expected_rows: Option<u64>,
    mode: Mode,
    /// Offsets whose pages are judged next, in this order.
    planned: VecDeque<u64>,
    /// How many of these were asked for.
    in_flight: usize,
    seen: HashSet<Key>,
    previous: Vec<Key>,
    largest_page_rows: usize,
    /// Of the pages that joined.
    shortest_page_rows: usize,
    /// Whether the last page that joined was shorter than another one.
    was_short: bool,
    requests: u64,
    drift_rewinds: u64,
    remarks: Vec<Remark>,
}

/// What one plain reading of the list gave.
type Pass = HashMap<Key, ValidatedAt>;

#[derive(Debug)]
enum Mode {
    /// Pages overlap.
    Overlap {
        frontier: Option<DateTime<Utc>>,
        step_back: u64,
    },
    /// The same rows came twice; a far offset tells. Then goes on in the mode inside.
    Probe { after: Box<Mode>, next_offset: u64 },
    /// The list is read plainly, again and again.
    Twice {
        pass: Pass,
        rows: usize,
        previous_pass: Option<Pass>,
        passes: u32,
    },
    /// Complete.
    Done,
}

impl Paging {
    /// Starts a listing that asks for `limit` rows a page, `concurrency` pages at once.
    ///
    /// `expected_rows` is how many rows the list had last time. It tells how far to look ahead and
    /// proves nothing: a list of another length costs a few requests more.
    pub fn new(limit: usize, concurrency: usize, expected_rows: Option<u64>) -> Self {
        Self {
            limit,
            concurrency,
            expected_rows,
            mode: Mode::Overlap {
                frontier: None,
                step_back: 0,
            },
            planned: VecDeque::from([0]),
            in_flight: 0,
            seen: HashSet::new(),
            previous: Vec::new(),
            largest_page_rows: 0,
            shortest_page_rows: usize::MAX,
            was_short: false,
            requests: 0,
            drift_rewinds: 0,
            remarks: Vec::new(),
        }
    }

    /// Returns the next offset to ask for, if one more page should be in flight now.
    pub fn ask(&mut self) -> Option<u64> {
        let offset = *self.planned.get(self.in_flight)?;
        self.in_flight += 1;
        self.requests += 1;
        Some(offset)
    }

    /// Returns how many pages are awaited, nearest first. Zero after a judgement means that the
    /// ones still under way were asked for in vain.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Tells whether the listing is complete.
    pub fn is_complete(&self) -> bool {
        matches!(self.mode, Mode::Done)
    }

    /// Returns how many distinct demandes were listed.
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Returns how often the listing stepped back.
    pub fn drift_rewinds(&self) -> u64 {
        self.drift_rewinds
    }

    /// Returns what should be told, once.
    pub fn take_remarks(&mut self) -> Vec<Remark> {
        std::mem::take(&mut self.remarks)
    }

    /// Judges the page that was awaited first; returns whether its rows belong to the listing.
    pub fn judge(&mut self, page: &[Element]) -> Result<bool, Unproved> {
        let Some(offset) = self.planned.pop_front() else {
            return Ok(false);
        };
        self.in_flight -= 1;
        self.largest_page_rows = self.largest_page_rows.max(page.len());
        let mode = std::mem::replace(&mut self.mode, Mode::Done);
        let joined = match mode {
            Mode::Overlap {
                frontier,
                step_back,
            } => self.judge_overlap(offset, page, frontier, step_back),
            Mode::Probe { after, next_offset } => self.judge_probe(page, *after, next_offset)?,
            Mode::Twice {
                pass,
                rows,
                previous_pass,
                passes,
            } => self.judge_twice(offset, page, pass, rows, previous_pass, passes)?,
            Mode::Done => false,
        };
        self.check_bounds()?;
        Ok(joined)
    }

    fn judge_overlap(
        &mut self,
        offset: u64,
        page: &[Element],
        frontier: Option<DateTime<Utc>>,
        step_back: u64,
    ) -> bool {
        let mut times = page.iter().filter_map(|row| row.created_at);
        let joins = offset == 0 || times.next().is_some_and(|first| Some(first) > frontier);
        if !joins {
            let step_back = if step_back == 0 {
                OVERLAP_ROWS as u64
            } else {
                step_back * 2
            };
            self.drift_rewinds += 1;
            self.plan(offset.saturating_sub(step_back));
            self.mode = Mode::Overlap {
                frontier,
                step_back,
            };
            return false;
        }
        let (same, length_before) = (self.is_same_page(page), self.previous.len());
        let oldest = page.iter().filter_map(|row| row.created_at).min();
        let is_short = page.len() < self.largest_page_rows;
        // Nothing but the limit is known of the first page's size.
        let may_be_last = is_short || (self.seen.is_empty() && page.len() < self.limit);
        let steps = overlapping_steps(page, overlap_rows(page.len(), may_be_last));
        self.record(page);
        let ends = page.len() < SMALLEST_PAGE_ROWS.min(self.limit)
            || (is_one_tie(page) && self.was_short && page.len() < self.shortest_page_rows);
        if ends {
            return true;
        }
        self.shortest_page_rows = self.shortest_page_rows.min(page.len());
        self.was_short = is_short;
        let Some(steps) = steps else {
            self.begin_twice();
            return true;
        };
        let frontier = if frontier.is_none() {
            oldest
        } else {
            frontier.min(oldest)
        };
        let mode = Mode::Overlap {
            frontier,
            step_back: 0,
        };
        let next_offset = offset + steps.wanted as u64;
        if offset > 0 && same {
            self.begin_probe(mode, offset, next_offset);
            return true;
        }
        self.mode = mode;
        // A page that was asked for ahead will do when it begins within this one.
        let within = offset + 1..=offset + steps.furthest as u64;
        if !self
            .planned
            .front()
            .is_some_and(|next| within.contains(next))
        {
            self.plan(next_offset);
        }
        // Only a page size that was seen to hold tells where the pages after the next one begin.
        if page.len() >= self.limit || page.len() == length_before {
            self.look_ahead(offset, page.len() as u64);
        }
        true
    }

    /// Plans the pages behind the one of `rows` rows at `offset`, as if nothing moved: as many as
    /// may be in flight, and one more to go on with at once where the list is expected to have it.
    fn look_ahead(&mut self, offset: u64, rows: u64) {
        let surely = (offset + rows).saturating_sub(OVERLAP_ROWS as u64);
        self.expected_rows = self.expected_rows.filter(|expected| surely <= *expected);
        let expected = self.expected_rows.unwrap_or(u64::MAX);
        let depth = self.concurrency + usize::from(self.expected_rows.is_some());
        let (mut end, mut length) = (offset + rows, rows);
        for nth in 0..depth {
            let next = end - overlap_rows(length as usize, length < rows) as u64;
            let next = *self.planned.get(nth).unwrap_or(&next);
            if nth == self.planned.len() {
                self.planned.push_back(next);
            }
            // The page just planned comes after the last row, and so ends the list.
            if end >= expected {
                return;
            }
            length = rows.min(expected.saturating_sub(next));
            end = next + length;
        }
    }

    fn judge_probe(
        &mut self,
        page: &[Element],
        after: Mode,
        next_offset: u64,
    ) -> Result<bool, Unproved> {
        if !self.is_same_page(page) {
            self.plan(next_offset);
            self.mode = after;
        } else if page.len() >= self.limit {
            return Err(Unproved::NoPaging);
        } else {
            self.remarks.push(Remark::NotPaged);
        }
        Ok(false)
    }

    fn judge_twice(
        &mut self,
        offset: u64,
        page: &[Element],
        mut pass: Pass,
        mut rows: usize,
        mut previous_pass: Option<Pass>,
        mut passes: u32,
    ) -> Result<bool, Unproved> {
        let same = offset > 0 && !page.is_empty() && self.is_same_page(page);
        self.record(page);
        pass.extend(
            page.iter()
                .map(|row| (row.key.clone(), row.last_validated_at)),
        );
        rows += page.len();
        let mut next_offset = offset + page.len() as u64;
        if page.is_empty() {
            passes += 1;
            let each_once = pass.len() == rows;
            if each_once && previous_pass.as_ref() == Some(&pass) {
                return Ok(true);
            }
            if passes >= MAX_PASSES {
                return Err(Unproved::Tie);
            }
            previous_pass = each_once.then_some(pass);
            (pass, rows, next_offset) = (Pass::new(), 0, 0);
        }
        let mode = Mode::Twice {
            pass,
            rows,
            previous_pass,
            passes,
        };
        if same {
            self.begin_probe(mode, offset, next_offset);
        } else {
            self.mode = mode;
            self.plan(next_offset);
        }
        Ok(true)
    }

    fn begin_probe(&mut self, after: Mode, offset: u64, next_offset: u64) {
        self.mode = Mode::Probe {
            after: Box::new(after),
            next_offset,
        };
        self.plan(offset + FAR_ROWS);
    }

    fn begin_twice(&mut self) {
        self.remarks.push(Remark::ReadTwice);
        self.previous.clear();
        self.mode = Mode::Twice {
            pass: Pass::new(),
            rows: 0,
            previous_pass: None,
            passes: 0,
        };
        self.plan(0);
    }

    /// Makes `offset` the next one judged. Pages asked for ahead stay when they go on from there.
    fn plan(&mut self, offset: u64) {
        if self.planned.front() != Some(&offset) {
            self.planned.clear();
            self.in_flight = 0;
            self.planned.push_back(offset);
        }
    }

    /// Remembers a page's rows.
    fn record(&mut self, page: &[Element]) {
        self.previous.clear();
        self.previous.extend(page.iter().map(|row| row.key.clone()));
        self.seen.extend(self.previous.iter().cloned());
    }

    fn is_same_page(&self, page: &[Element]) -> bool {
        self.previous.iter().eq(page.iter().map(|row| &row.key))
    }

    fn check_bounds(&self) -> Result<(), Unproved> {
        if self.seen.len() > MAX_ROWS {
            return Err(Unproved::Endless);
        }
        let rows = self.largest_page_rows;
        let stride = rows.saturating_sub(overlap_rows(rows, false)).max(1);
        let plain_pages = (self.seen.len() / stride) as u64;
        if !self.is_complete()
            && self.requests >= FREE_REQUESTS + REQUESTS_PER_PLAIN_PAGE * plain_pages
        {
            return Err(Unproved::Moving);
        }
        Ok(())
    }
}

/// Returns how many rows the page after one of `rows` rows shares with it.
///
/// One is too few: that page would begin at the frontier, and not join. After a page that may be the
/// last one they are too few to be a page of their own.
fn overlap_rows(rows: usize, may_be_last: bool) -> usize {
    let most = if may_be_last {
        SMALLEST_PAGE_ROWS - 1
    } else {
        OVERLAP_ROWS
    };
    (rows / 2).max(2).min(most)
}

/// Tells whether all rows behind the first one share their `created_at`, so that no page can begin
/// further down and join.
fn is_one_tie(page: &[Element]) -> bool {
    let mut times = page.iter().skip(1).map(|row| row.created_at);
    let time = times.next().flatten();
    time.is_some() && times.all(|other| other == time)
}

/// How far behind a page's first row the next page may begin.
struct Steps {
    /// Where it shares enough rows to join although some leave meanwhile.
    wanted: usize,
    /// The last place where it joins when nothing moves.
    furthest: usize,
}

/// Returns where the page after this one begins, so that it joins and shares that many rows; `None`
/// when there is no such place.
fn overlapping_steps(page: &[Element], overlap: usize) -> Option<Steps> {
    let mut oldest: Option<DateTime<Utc>> = None;
    for time in page.iter().filter_map(|row| row.created_at) {
        if oldest.is_some_and(|oldest| time > oldest) {
            return None;
        }
        oldest = Some(time);
    }
    let furthest = page.iter().rposition(|row| row.created_at > oldest)?;
    let wanted = furthest.min(page.len() - overlap);
    Some(Steps { wanted, furthest }).filter(|steps| steps.wanted > 0)
}
