//! The tables as the model knows them, and cycles over them: the real paging, plan and watermark,
//! and what the transaction does, said in the interface's words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use datapass_pull::advance::{self, Covered};
use datapass_pull::create::{Known, Plan, Tracked};
use datapass_pull::list::decode::{Element, Key, ValidatedAt};
use datapass_pull::list::paging::Unproved;
use datapass_pull::rejections::{self, Acceptance, Observed, State};

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
        let Listed { plan, since, .. } = &listed;
        check_matched(&listed)?;
        let existing: BTreeSet<i64> = self.rows.keys().copied().collect();
        let (mut created, mut accepted, mut dropped, mut rejected) = (Vec::new(), 0, 0, 0);
        let mut oldest_rejected: Option<DateTime<Utc>> = None;
        let mut existing_count = 0;
        for entry in &plan.matched {
            let id = id_of(&entry.key)?;
            let validated = entry.last_validated_at;
            let stored = self.rejections.get(&id).copied();
            if existing.contains(&id) {
                existing_count += 1;
                self.close(id);
            } else if validated == ValidatedAt::Never
                && since.is_some()
                && !listed.tracked.contains_key(&id)
            {
                dropped += 1;
            } else if entry.entry.body.is_ok() {
                *self.rows.entry(id).or_default() += 1;
                created.push(validated.time());
                self.close(id);
            } else {
                let acceptance = stored.and_then(Rejection::acceptance);
                let state = rejections::next(acceptance, Observed::Failed(validated.time()));
                let was_accepted_as_it_is =
                    stored.is_some_and(|it| it.accepted && it.time == validated.time());
                ensure!(
                    (state == State::Accepted) == was_accepted_as_it_is,
                    "D{id} is {state:?}, but accepted for its validation: {was_accepted_as_it_is}"
                );
                if state == State::Accepted {
                    accepted += 1;
                } else {
                    rejected += 1;
                    oldest_rejected = [oldest_rejected, validated.time()]
                        .into_iter()
                        .flatten()
                        .min();
                }
                let row = Rejection {
                    time: validated.time(),
                    accepted: state == State::Accepted,
                    closed: false,
                };
                self.rejections.insert(id, row);
            }
        }
        for reference in &plan.left {
            self.close(reference.trim_start_matches('D').parse()?);
        }
        ensure!(
            plan.matched.len() == created.len() + existing_count + rejected + accepted + dropped,
            "the counters do not add up"
        );
        ensure!(
            created.is_sorted_by_key(|time| (time.is_none(), *time)),
            "created out of order: {created:?}"
        );
        ensure!(
            self.rows.values().all(|rows| *rows == 1),
            "a row came twice"
        );
        self.advance(&listed, oldest_rejected)?;
        self.check_rows(&listed)
    }

    fn close(&mut self, id: i64) {
        if let Some(rejection) = self.rejections.get_mut(&id) {
            rejection.closed = true;
        }
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

    /// What stood still and is in time has a row; after a quiet plain cycle, all that is listed has.
    fn check_rows(&self, listed: &Listed) -> Result<()> {
        let still = listed.still.iter().filter(|(_, it)| it.wants_row());
        for (id, demande) in still.filter(|(id, _)| !self.rows.contains_key(id)) {
            let in_time = match (demande.time(), listed.since) {
                (Some(time), Some(since)) => time >= since,
                (None, Some(_)) => false, // It is dropped.
                (_, None) => true,
            };
            ensure!(!in_time, "D{id} stood still, is in time and has no row");
            let accepted = || {
                let rejection = self.rejections.get(id);
                rejection.is_some_and(|it| it.accepted && it.time == demande.time())
            };
            let missing = demande.late > LOOKBACK_S.into();
            let dropped = demande.time().is_none();
            ensure!(
                !listed.quiet || missing || dropped || accepted(),
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
