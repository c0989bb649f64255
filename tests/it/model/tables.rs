//! The tables as the model knows them, and cycles over them: the real paging, plan and watermark,
//! and what the transaction does, said in the interface's words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use datapass_pull::cycle::advance::{self, Covered};
use datapass_pull::cycle::filter::{self, Known, Plan, Sorted, Tracked};
use datapass_pull::cycle::list::paging::Unproved;
use datapass_pull::state::acceptance::{self, Acceptance, Observed, State};
use datapass_pull::types::entry::{Element, Key, ValidatedAt};

use super::upstream::{Demande, Move, Upstream};
use super::{Counts, pages};

/// How far before the watermark a cycle looks again.
pub const LOOKBACK_S: u8 = 60;
const LOOKBACK: Duration = Duration::from_secs(LOOKBACK_S as u64);

/// How a run of a cycle ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It commits.
    Commits,
    /// It lists, and commits only after the next cycle of the history did.
    IsOvertaken,
    /// It dies before it commits.
    Dies,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Cycle {
    /// `--since`, in seconds from upstream's clock. An operator takes it from a clock that may be
    /// wrong either way, so it may be yet to come.
    pub since: Option<i16>,
    /// `--page-size`.
    pub limit: u8,
    /// `--concurrency`.
    pub concurrency: u8,
    /// How many rows the cycle before had, or anything else: it must prove nothing.
    pub expected_rows: Option<u8>,
    /// How it ends.
    pub end: End,
    /// Which of the pages in flight is answered next, each time; the first one when not said.
    pub answers: Vec<u8>,
    /// What happens before which answer, counted from 0.
    pub moves: Vec<(u8, Move)>,
}

/// A row of the rejections.
#[derive(Debug, Clone, Copy)]
struct Rejection {
    time: Option<DateTime<Utc>>,
    accepted: bool,
    closed: bool,
}

impl Rejection {
    fn acceptance(self) -> Option<Acceptance> {
        self.accepted.then_some(Acceptance(self.time))
    }

    fn known(self) -> Known {
        Known {
            acceptance: self.acceptance(),
            closed: self.closed,
        }
    }
}

/// The tables.
#[derive(Default)]
pub struct Tables {
    /// How many rows, each with its job, an id has.
    rows: BTreeMap<i64, u32>,
    rejections: BTreeMap<i64, Rejection>,
    watermark: Option<DateTime<Utc>>,
}

/// A run that has listed and not yet committed.
pub struct Listed {
    plan: Plan,
    since: Option<DateTime<Utc>>,
    clock: DateTime<Utc>,
    /// What stood unchanged through the listing, as it was.
    still: Vec<(i64, Demande)>,
    /// A plain cycle while nothing moved.
    quiet: bool,
    /// The rejections that were not closed when it began.
    tracked: BTreeMap<i64, Rejection>,
}

fn number(reference: &str) -> Result<i64> {
    Ok(reference.trim_start_matches('D').parse()?)
}

fn id_of(key: &Key) -> Result<i64> {
    Ok(key.demande_id().context("an element without id")?.get())
}

impl Tables {
    /// Returns how many rows there are.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Accepts an open rejection, for the validation that its row has.
    pub fn accept(&mut self, nth: u8) {
        let mut open: Vec<&mut Rejection> = self.rejections.values_mut().collect();
        open.retain(|it| !it.closed && !it.accepted);
        if let Some(nth) = usize::from(nth).checked_rem(open.len()) {
            open[nth].accepted = true;
        }
    }

    /// Forgets the watermark.
    pub fn reset(&mut self) {
        self.watermark = None;
    }

    /// Lists, up to the transaction; `None` when the listing is given up.
    pub fn list(
        &self,
        upstream: &mut Upstream,
        cycle: &Cycle,
        counts: &mut Counts,
    ) -> Result<Option<Listed>> {
        let since = match cycle.since {
            Some(seconds) => Some(upstream.clock() + TimeDelta::seconds(seconds.into())),
            None => self.watermark.map(|it| advance::since(it, LOOKBACK)),
        };
        let tracked = self.rejections.iter();
        let tracked = tracked.filter(|(_, it)| !it.closed || it.accepted);
        let tracked: Tracked = tracked
            .map(|(id, it)| (format!("D{id}"), it.known()))
            .collect();
        let mut not_closed = self.rejections.clone();
        not_closed.retain(|_, it| !it.closed);
        upstream.begin_listing();
        let clock = upstream.clock();
        let before = upstream.listed().to_vec();
        let pages = read_pages(upstream, cycle, counts)?;
        let (touched, quiet) = upstream.end_listing();
        let elements = match pages {
            Ok(elements) => elements,
            Err(error) => {
                ensure!(!quiet, "a quiet list is given up: {error}");
                counts.listings_given_up += 1;
                return Ok(None);
            }
        };
        counts.listings_proved += 1;
        let still = before.into_iter().filter(|id| !touched.contains(id));
        Ok(Some(Listed {
            plan: Plan::new(elements, since, clock, tracked),
            since,
            clock,
            still: still.map(|id| (id, upstream.demande(id).clone())).collect(),
            quiet: quiet && cycle.since.is_none(),
            tracked: not_closed,
        }))
    }

    /// The transaction, and what must hold after it.
    pub fn commit(&mut self, listed: Listed) -> Result<()> {
        check_matched(&listed)?;
        check_newest(&listed)?;
        let plan = &listed.plan;
        let had: BTreeSet<i64> = self.rows.keys().copied().collect();
        let exists = |entry: &filter::Listed| id_of(&entry.key).is_ok_and(|id| had.contains(&id));
        let sorted = plan.sort_out(exists);
        check_sorted(&listed, &sorted, &had)?;
        for (entry, _) in &sorted.valid {
            *self.rows.entry(id_of(&entry.key)?).or_default() += 1;
        }
        let mut oldest_rejected: Option<DateTime<Utc>> = None;
        for (entry, _) in &sorted.failed {
            let (id, time) = (id_of(&entry.key)?, entry.time());
            let stored = self.rejections.get(&id).copied();
            let acceptance = stored.and_then(Rejection::acceptance);
            let state = acceptance::next(acceptance, Observed::Failed(time));
            let accepted = state == State::Accepted;
            ensure!(
                accepted == stored.is_some_and(|it| it.accepted && it.time == time),
                "D{id} is {state:?}, not for the validation that was accepted"
            );
            if !accepted {
                oldest_rejected = [oldest_rejected, time].into_iter().flatten().min();
            }
            let row = Rejection {
                time,
                accepted,
                closed: false,
            };
            self.rejections.insert(id, row);
        }
        for reference in sorted.passed().chain(plan.left.iter().map(String::as_str)) {
            if let Some(rejection) = self.rejections.get_mut(&number(reference)?) {
                rejection.closed = true;
            }
        }
        let parts = [&sorted.existing, &sorted.dropped].map(Vec::len);
        let parts = parts.iter().sum::<usize>() + sorted.valid.len() + sorted.failed.len();
        ensure!(plan.matched.len() == parts, "the counters do not add up");
        let created = sorted.valid.iter().map(|(entry, _)| entry.time());
        ensure!(
            created.is_sorted_by_key(|time| (time.is_none(), time)),
            "created out of order"
        );
        ensure!(
            self.rows.values().all(|rows| *rows == 1),
            "a row came twice"
        );
        self.advance(&listed, oldest_rejected)?;
        let excused: BTreeSet<i64> = plan
            .missing(exists)
            .chain(sorted.dropped.iter().copied())
            .map(|entry| id_of(&entry.key))
            .collect::<Result<_>>()?;
        self.check_rows(&listed, &excused)
    }

    fn advance(&mut self, listed: &Listed, oldest_rejected: Option<DateTime<Utc>>) -> Result<()> {
        let stored = self.watermark;
        let covered = Covered {
            since: listed.since,
            lookback: LOOKBACK,
            newest: listed.plan.newest,
            oldest_rejected,
        };
        let moved = advance::watermark(stored, covered);
        ensure!(moved >= stored, "the watermark went back");
        if moved != stored {
            ensure!(
                moved <= Some(listed.clock),
                "the watermark passed the clock"
            );
            ensure!(
                oldest_rejected.is_none_or(|rejected| moved <= Some(rejected)),
                "the watermark passed a rejection"
            );
        }
        self.watermark = moved;
        Ok(())
    }

    /// What stood still and is in time has a row; after a quiet plain cycle, all that is listed has,
    /// but for what a person accepted, and what the cycle tells by name.
    fn check_rows(&self, listed: &Listed, excused: &BTreeSet<i64>) -> Result<()> {
        let still = listed.still.iter().filter(|(_, it)| it.wants_row());
        for (id, demande) in still.filter(|(id, _)| !self.rows.contains_key(id)) {
            let is_in_time = match (demande.time(), listed.since) {
                (_, None) => true,
                (Some(time), Some(since)) => time >= since,
                (None, Some(_)) => false,
            };
            ensure!(!is_in_time, "D{id} stood still, is in time and has no row");
            let accepted = || {
                let rejection = self.rejections.get(id);
                rejection.is_some_and(|it| it.accepted && it.time == demande.time())
            };
            let never = demande.time().is_none();
            let excuse = excused.contains(id) && (never || demande.late > LOOKBACK_S.into());
            ensure!(
                !listed.quiet || excuse || accepted(),
                "D{id} is lost: {demande:?}, watermark {:?}",
                self.watermark
            );
        }
        Ok(())
    }
}

/// Matched is what is in time, has no readable time, or has an open rejection; nothing else is.
fn check_matched(listed: &Listed) -> Result<()> {
    let both = [(true, &listed.plan.matched), (false, &listed.plan.earlier)];
    for (is_matched, entries) in both {
        for entry in entries {
            let time = entry.last_validated_at.time();
            let is_open = listed
                .tracked
                .get(&id_of(&entry.key)?)
                .is_some_and(|it| !(it.accepted && it.time == time));
            let is_in_time = listed.since.is_none_or(|since| time >= Some(since));
            ensure!(
                is_matched == (is_in_time || time.is_none() || is_open),
                "{} is matched: {is_matched}",
                entry.reference
            );
        }
    }
    Ok(())
}

/// Newest is the greatest time that is not later than the clock.
fn check_newest(listed: &Listed) -> Result<()> {
    let entries = listed.plan.matched.iter().chain(&listed.plan.earlier);
    let mut times: Vec<_> = entries.filter_map(filter::Listed::time).collect();
    times.sort_unstable();
    let newest = times.into_iter().rfind(|time| *time <= listed.clock);
    ensure!(listed.plan.newest == newest, "newest is not {newest:?}");
    Ok(())
}

/// What the table has is existing, whatever it is like. Of the rest, a cycle with a `since` drops what
/// has no time, unless it is rejected and tried again.
fn check_sorted(listed: &Listed, sorted: &Sorted<'_>, had: &BTreeSet<i64>) -> Result<()> {
    let valid = sorted.valid.iter().map(|(entry, _)| *entry);
    let failed = sorted.failed.iter().map(|(entry, _)| *entry);
    let existing = sorted.existing.iter().map(|entry| ("existing", *entry));
    let dropped = sorted.dropped.iter().map(|entry| ("dropped", *entry));
    let judged = valid.chain(failed).map(|entry| ("judged", entry));
    for (is, entry) in existing.chain(dropped).chain(judged) {
        let id = id_of(&entry.key)?;
        let never = entry.last_validated_at == ValidatedAt::Never;
        let is_tried_again = listed.tracked.contains_key(&id);
        let should_be = match (had.contains(&id), listed.since) {
            (true, _) => "existing",
            (false, Some(_)) if never && !is_tried_again => "dropped",
            (false, _) => "judged",
        };
        ensure!(is == should_be, "D{id} is {is}, not {should_be}");
    }
    Ok(())
}

/// Reads the pages while upstream moves, and checks that what was in every snapshot is listed.
fn read_pages(
    upstream: &mut Upstream,
    cycle: &Cycle,
    counts: &mut Counts,
) -> Result<Result<Vec<Element>, Unproved>> {
    let limit = cycle.limit.into();
    let mut still: Option<BTreeSet<i64>> = None;
    let mut answers = 0;
    let expected_rows = cycle.expected_rows.map(u64::from);
    let proved = pages::read(limit, cycle.concurrency.into(), expected_rows, |open| {
        upstream.tick(1);
        for (_, step) in cycle
            .moves
            .iter()
            .filter(|(at, _)| usize::from(*at) == answers)
        {
            upstream.make(*step);
        }
        let nth = usize::from(*cycle.answers.get(answers).unwrap_or(&0)) % open.len();
        answers += 1;
        let listed: BTreeSet<i64> = upstream.listed().iter().copied().collect();
        match &mut still {
            Some(still) => still.retain(|id| listed.contains(id)),
            None => still = Some(listed),
        }
        (nth, upstream.page(open[nth], limit))
    });
    counts.requests += answers as u64;
    let proved = match proved {
        Ok(proved) => proved,
        Err(error) => return Ok(Err(error)),
    };
    counts.drift_rewinds += proved.drift_rewinds;
    let listed: BTreeSet<i64> = proved.elements.keys().map(id_of).collect::<Result<_>>()?;
    for id in still.unwrap_or_default() {
        ensure!(listed.contains(&id), "D{id} stood still and is not listed");
    }
    Ok(Ok(proved.elements.into_values().collect()))
}
