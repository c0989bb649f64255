//! The tables of the model, and cycles that change them: with the real paging, filter and watermark,
//! and a model of the transaction that follows the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use datapass_pull::cycle::advance;
use datapass_pull::cycle::filter::{self, Basis, Class, Decisions};
use datapass_pull::cycle::list::paging::Unproved;
use datapass_pull::state::handled::{KnownEntries, KnownEntry};
use datapass_pull::state::rejections::{KnownRejection, KnownRejections};
use datapass_pull::types::DemandeId;
use datapass_pull::types::entry::{Element, Entry, Key};

use super::upstream::{Change, Upstream};
use super::{Counts, pages};

/// How a cycle ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It commits.
    Commits,
    /// It commits only after the next cycle of the history.
    Overtaken,
    /// It crashes before it commits.
    Crashes,
}

/// A cycle.
#[derive(Debug, Clone)]
pub struct Cycle {
    /// `--since`, in seconds from upstream's clock. It may be in the future of that clock, since the
    /// clock of this machine may be wrong.
    pub since: Option<i16>,
    /// `--page-size`.
    pub limit: u8,
    /// `--concurrency`.
    pub concurrency: u8,
    /// The number of rows in the previous cycle, or any other number: it must not prove anything.
    pub expected_rows: Option<u8>,
    pub end: End,
    /// Which of the concurrent requests is answered next, each time; by default the first one.
    pub responses: Vec<u8>,
    /// The changes, with the number of the response before which they happen, counted from 0.
    pub changes: Vec<(u8, Change)>,
}

/// The tables.
#[derive(Default, Clone)]
pub struct Tables {
    /// The entries that have a row.
    rows: BTreeMap<i64, Option<DateTime<Utc>>>,
    /// The entries that have or had a row.
    handled: BTreeMap<i64, Option<DateTime<Utc>>>,
    rejections: BTreeMap<i64, KnownRejection>,
    watermark: Option<DateTime<Utc>>,
    skip_before: Option<DateTime<Utc>>,
}

/// A cycle that has listed and not yet committed.
pub struct Listed {
    entries: Vec<Arc<Entry>>,
    since: Option<DateTime<Utc>>,
    clock: DateTime<Utc>,
    /// The rejections at its start.
    at_start: KnownRejections,
    seen: u64,
}

fn id_of(entry: &Entry) -> Result<i64> {
    Ok(entry.demande_id.context("an entry without id")?.get())
}

impl Tables {
    /// Returns how many rows there are.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Accepts an open rejection for its last validation.
    pub fn accept(&mut self, nth: u8) {
        let mut open: Vec<&mut KnownRejection> = self.rejections.values_mut().collect();
        open.retain(|it| !it.is_closed && !it.is_accepted);
        if let Some(nth) = usize::from(nth).checked_rem(open.len()) {
            open[nth].is_accepted = true;
        }
    }

    /// Withdraws an acceptance.
    pub fn reopen(&mut self, nth: u8) {
        let mut accepted: Vec<&mut KnownRejection> = self.rejections.values_mut().collect();
        accepted.retain(|it| it.is_accepted);
        if let Some(nth) = usize::from(nth).checked_rem(accepted.len()) {
            accepted[nth].is_accepted = false;
        }
    }

    /// `watermark reset`.
    pub fn reset(&mut self) {
        (self.watermark, self.skip_before) = (None, None);
    }

    /// `watermark set`.
    pub fn set(&mut self, time: DateTime<Utc>) {
        (self.watermark, self.skip_before) = (Some(time), Some(time));
    }

    /// The application deletes a row.
    pub fn delete(&mut self, nth: u8) {
        let place = usize::from(nth).checked_rem(self.rows.len());
        let id = place.and_then(|place| self.rows.keys().nth(place).copied());
        id.map(|id| self.rows.remove(&id));
    }

    /// An operator deletes a handled entry, to have it created again.
    pub fn forget(&mut self, nth: u8) {
        let gone = self.handled.keys().filter(|id| !self.rows.contains_key(id));
        let gone: Vec<i64> = gone.copied().collect();
        if let Some(place) = usize::from(nth).checked_rem(gone.len()) {
            self.handled.remove(&gone[place]);
        }
    }

    fn known_rejections(&self) -> KnownRejections {
        let known = self.rejections.iter();
        let known = known.filter(|(_, it)| !it.is_closed || it.is_accepted);
        known.map(|(id, it)| (format!("D{id}"), *it)).collect()
    }

    fn known_entries(&self) -> KnownEntries {
        let ids: BTreeSet<&i64> = self.rows.keys().chain(self.handled.keys()).collect();
        let known = ids.into_iter().map(|id| {
            let (row, handled) = (self.rows.get(id), self.handled.get(id));
            let known = KnownEntry {
                has_row: row.is_some(),
                is_handled: handled.is_some(),
                last_validated_at: handled.or(row).copied().flatten(),
            };
            (format!("public-{id}"), known)
        });
        known.collect()
    }

    /// Runs a cycle up to its transaction; `None` when the listing is given up.
    pub fn list(
        &self,
        upstream: &mut Upstream,
        cycle: &Cycle,
        counts: &mut Counts,
    ) -> Result<Option<Listed>> {
        let since = cycle.since;
        let since = since.map(|it| upstream.clock() + TimeDelta::seconds(it.into()));
        upstream.begin_listing();
        let clock = upstream.clock();
        let pages = read_pages(upstream, cycle, counts)?;
        let is_quiet = upstream.end_listing();
        let elements = match pages {
            Ok(elements) => elements,
            Err(error) => {
                ensure!(!is_quiet, "an unchanged list is given up: {error}");
                counts.listings_given_up += 1;
                return Ok(None);
            }
        };
        counts.listings_proved += 1;
        Ok(Some(Listed {
            seen: elements.len() as u64,
            entries: filter::in_order(elements.into_iter().filter_map(|it| it.entry).collect()),
            since,
            clock,
            at_start: self.known_rejections(),
        }))
    }

    /// Commits a cycle, and checks the properties that must hold after it.
    pub fn commit(&mut self, listed: &Listed) -> Result<()> {
        let basis = Basis {
            since: listed.since,
            skip_before: self.skip_before,
            watermark: self.watermark,
            entries: self.known_entries(),
            rejections: self.known_rejections(),
        };
        let decisions = Decisions::new(&listed.entries, &basis);
        self.check_classes(listed, &decisions)?;
        let created = decisions.of(Class::Created).map(Entry::time);
        ensure!(created.is_sorted_by_key(|time| (time.is_none(), time)), "created out of order");
        for entry in decisions.of(Class::Created) {
            let id = id_of(entry)?;
            let row = self.rows.insert(id, entry.time());
            ensure!(row.is_none(), "D{id} got a second row");
            let was_handled = self.handled.contains_key(&id);
            ensure!(
                !was_handled || listed.since.is_some(),
                "D{id} was handled and is created again by a plain cycle"
            );
        }
        for entry in decisions.those(|it| it.is_recorded) {
            let known = self.handled.entry(id_of(entry)?).or_default();
            *known = (*known).max(entry.time());
        }
        self.reject(listed, &decisions)?;
        let before = self.watermark;
        self.advance(listed, &decisions)?;
        self.check_nothing_left(listed, before)
    }

    fn reject(&mut self, listed: &Listed, decisions: &Decisions) -> Result<()> {
        for entry in decisions.of(Class::Rejected).chain(decisions.of(Class::Accepted)) {
            let (id, time) = (id_of(entry)?, entry.time());
            let stored = self.rejections.get(&id).copied();
            let lowers = |it: KnownRejection| matches!((it.last_validated_at, time), (Some(stored), Some(time)) if time < stored);
            if stored.is_some_and(lowers) {
                continue;
            }
            let row = KnownRejection {
                is_accepted: stored.is_some_and(|it| it.accepts(time)),
                last_validated_at: time,
                is_closed: false,
                times_seen: stored.map_or(1, |it| it.times_seen + 1),
            };
            self.rejections.insert(id, row);
        }
        let is_whole = listed.since.is_none() && listed.seen > 0;
        for (reference, at_start) in decisions.over(is_whole, &listed.at_start) {
            let id = reference.trim_start_matches('D').parse()?;
            if let Some(it) = self.rejections.get_mut(&id)
                && it.times_seen == at_start.times_seen
            {
                it.is_closed = true;
            }
        }
        Ok(())
    }

    fn advance(&mut self, listed: &Listed, decisions: &Decisions) -> Result<()> {
        let stored = self.watermark;
        let newest = filter::newest(&listed.entries, listed.clock);
        let waiting = decisions.waiting().and_then(Entry::time);
        let moved = advance::watermark(stored, newest, waiting);
        ensure!(moved >= stored, "the watermark went back");
        ensure!(moved == stored || moved <= Some(listed.clock), "the watermark passed the clock");
        self.watermark = moved;
        Ok(())
    }

    /// Compares the decision about each entry with the documented rules.
    fn check_classes(&self, listed: &Listed, decisions: &Decisions) -> Result<()> {
        ensure!(decisions.0.len() == listed.entries.len(), "an entry without decision");
        for (entry, decision) in listed.entries.iter().zip(&decisions.0) {
            ensure!(entry.reference == decision.entry.reference, "decisions in another order");
            let id = id_of(entry)?;
            let plain = self.plain(entry)?;
            let expected = match listed.since {
                None => plain,
                Some(since) if entry.time() >= Some(since) => match &entry.body {
                    _ if self.rows.contains_key(&id) => "existing",
                    Err(_) if self.handled.contains_key(&id) => "existing",
                    Ok(_) => "created",
                    Err(_) => self.failed(entry)?,
                },
                Some(_) if ["created", "rejected"].contains(&plain) => "postponed",
                Some(_) => "outside",
            };
            let class = format!("{:?}", decision.class).to_lowercase();
            ensure!(class == expected, "D{id} is {class}, not {expected}");
        }
        Ok(())
    }

    /// Returns the expected decision of a plain cycle about an entry.
    fn plain(&self, entry: &Entry) -> Result<&'static str> {
        let id = id_of(entry)?;
        let is_before = self.skip_before.is_some_and(|skip_before| {
            entry.last_validated_at.is_ok() && entry.time().is_none_or(|time| time < skip_before)
        });
        let rejection = self.rejections.get(&id);
        let is_open = rejection.is_some_and(|it| {
            !(it.is_closed || it.is_accepted && it.last_validated_at == entry.time())
        });
        Ok(match &entry.body {
            _ if self.rows.contains_key(&id) || self.handled.contains_key(&id) => "existing",
            _ if is_before && !is_open => "skipped",
            Ok(_) => "created",
            Err(_) => self.failed(entry)?,
        })
    }

    fn failed(&self, entry: &Entry) -> Result<&'static str> {
        let rejection = self.rejections.get(&id_of(entry)?);
        let accepted = rejection.filter(|it| it.is_accepted);
        Ok(match accepted {
            Some(it) if it.last_validated_at == entry.time() => "accepted",
            _ => "rejected",
        })
    }

    /// Checks that each valid entry that was listed is handled, unless it is skipped or outside
    /// `--since`, and that the watermark is not later than an unhandled entry.
    fn check_nothing_left(&self, listed: &Listed, before: Option<DateTime<Utc>>) -> Result<()> {
        let moved = self.watermark.filter(|_| self.watermark > before);
        for entry in listed.entries.iter().filter(|it| it.body.is_ok()) {
            let id = id_of(entry)?;
            let is_outside = listed.since.is_some_and(|since| entry.time() < Some(since));
            let is_left = !self.handled.contains_key(&id) && self.plain(entry)? != "skipped";
            ensure!(!is_left || is_outside, "D{id} was listed and is not handled");
            ensure!(
                !is_left || entry.time().is_none() || entry.time() >= moved,
                "the watermark passed D{id}, which is not handled"
            );
        }
        Ok(())
    }

    /// Checks, after two cycles that listed everything without changes, that every valid entry that is
    /// not skipped has or had a row.
    pub fn check_complete(&self, upstream: &Upstream) -> Result<()> {
        for id in upstream.listed() {
            let Some(entry) = upstream.element(*id).entry else {
                continue;
            };
            let is_left = entry.body.is_ok() && !self.handled.contains_key(id);
            ensure!(
                !is_left || self.plain(&entry)? == "skipped",
                "D{id} is lost: {:?}, watermark {:?}, skipped before {:?}",
                upstream.demande(*id),
                self.watermark,
                self.skip_before
            );
        }
        let rows = self.rows.keys().all(|id| self.handled.contains_key(id));
        ensure!(rows, "an entry has a row and is not recorded as handled");
        Ok(())
    }
}

/// Reads the pages while upstream changes, and checks that each row that was in every snapshot is
/// listed. Not so where rows may have been counted and some returned without a new validation: these
/// can hide others, and later cycles create what is missing.
fn read_pages(
    upstream: &mut Upstream,
    cycle: &Cycle,
    counts: &mut Counts,
) -> Result<Result<Vec<Element>, Unproved>> {
    let limit = cycle.limit.into();
    let mut in_all_snapshots: Option<BTreeSet<i64>> = None;
    let mut views = Views::default();
    let mut responses = 0;
    let expected_rows = cycle.expected_rows.map(u64::from);
    let proved = pages::read(limit, cycle.concurrency.into(), expected_rows, |open| {
        upstream.tick(1);
        for (_, change) in cycle.changes.iter().filter(|(at, _)| usize::from(*at) == responses) {
            upstream.apply(*change);
        }
        let nth = usize::from(*cycle.responses.get(responses).unwrap_or(&0)) % open.len();
        responses += 1;
        let shown: BTreeSet<i64> = upstream.shown().into_iter().collect();
        views.add(upstream, &shown);
        match &mut in_all_snapshots {
            Some(in_all_snapshots) => in_all_snapshots.retain(|id| shown.contains(id)),
            None => in_all_snapshots = Some(shown),
        }
        (nth, upstream.page(open[nth], limit))
    });
    counts.requests += responses as u64;
    let proved = match proved {
        Ok(proved) => proved,
        Err(error) => return Ok(Err(error)),
    };
    counts.drift_rewinds += proved.drift_rewinds;
    if views.has_returned && views.longest_tie() + 1 >= limit.min(5) {
        in_all_snapshots = None;
    }
    for id in in_all_snapshots.unwrap_or_default() {
        let key = Key::Id(DemandeId::try_from(id)?);
        ensure!(
            proved.elements.contains_key(&key),
            "D{id} was in every snapshot and is not listed"
        );
    }
    Ok(Ok(proved.elements.into_values().collect()))
}

/// The snapshots of a listing.
#[derive(Default)]
struct Views {
    /// Every row that was in one, with its times there
    rows: BTreeMap<i64, Element>,
    last: BTreeSet<i64>,
    /// Whether a row was away, and listed again without a new validation
    has_returned: bool,
}

impl Views {
    fn add(&mut self, upstream: &Upstream, shown: &BTreeSet<i64>) {
        for id in shown.difference(&self.last) {
            let row = upstream.element(*id);
            let validated = row.last_validated_at;
            let before = self.rows.insert(*id, row);
            self.has_returned |= before.is_some_and(|it| it.last_validated_at == validated);
        }
        self.last.clone_from(shown);
    }

    /// Returns how many rows have the most frequent `created_at`. Rows are counted only when a page that
    /// is not short has no other rows but its first one.
    fn longest_tie(&self) -> usize {
        let mut ties = BTreeMap::new();
        for row in self.rows.values() {
            *ties.entry(row.created_at).or_insert(0_usize) += 1;
        }
        ties.into_values().max().unwrap_or_default()
    }
}
