//! Plan: what a complete listing asks for, before the tables are looked at. No I/O.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::state::acceptance::{self, Acceptance, Observed, State};
use crate::types::AuthorizationId;
use crate::types::entry::{Element, Entry, Key, Rejected, Valid, ValidatedAt};

/// The rejections that a cycle begins with, by reference.
pub type Tracked = HashMap<String, Known>;

/// A rejection that is not closed, or one that a person decided about.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The decision.
    pub acceptance: Option<Acceptance>,
    /// Whether the entry passed or left the listing.
    pub closed: bool,
}

impl Known {
    /// Returns the state of the entry, should it fail again.
    pub fn state(self, entry: &Listed) -> State {
        acceptance::next(self.acceptance, Observed::Failed(entry.time()))
    }

    fn is_open(self, entry: &Listed) -> bool {
        !self.closed && self.state(entry) == State::Open
    }
}

/// An entry, and what its rejection is filed under.
#[derive(Debug)]
pub struct Listed {
    /// What tells it apart.
    pub key: Key,
    /// The key's text.
    pub reference: String,
    /// When it was validated last.
    pub last_validated_at: ValidatedAt,
    /// What it says.
    pub entry: Entry,
}

impl Listed {
    /// Takes an element, unless it is of another definition.
    fn new(element: Element) -> Option<Self> {
        let reference = element.key.to_string();
        element.entry.map(|entry| Self {
            key: element.key,
            reference,
            last_validated_at: element.last_validated_at,
            entry,
        })
    }

    /// Returns when it was validated last, if that can be read.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        self.last_validated_at.time()
    }

    /// Returns its public id, if that can be read.
    pub fn public_id(&self) -> Option<&str> {
        self.entry.authorization_id().map(AuthorizationId::as_str)
    }
}

/// A complete listing, sorted out by the filter.
#[derive(Debug)]
pub struct Plan {
    /// The entries that the cycle is about, oldest validation first, those without one last.
    pub matched: Vec<Listed>,
    /// Entries before `since`: they should be in the table.
    pub earlier: Vec<Listed>,
    /// References of tracked rejections that are not listed any more.
    pub left: Vec<String>,
    /// The greatest validation time that is not later than DataPass' clock.
    pub newest: Option<DateTime<Utc>>,
    /// How many entries are dated after DataPass' clock.
    pub future: u64,
    /// Whether an entry without a validation time is kept.
    first_run: bool,
    tracked: Tracked,
}

impl Plan {
    /// Filters on instants, whatever the offset they are printed with, and puts in order.
    pub fn new(
        elements: Vec<Element>,
        since: Option<DateTime<Utc>>,
        clock: DateTime<Utc>,
        tracked: Tracked,
    ) -> Self {
        let entries: Vec<Listed> = elements.into_iter().filter_map(Listed::new).collect();
        let times = || entries.iter().filter_map(Listed::time);
        let newest = times().filter(|time| *time <= clock).max();
        let future = times().filter(|time| *time > clock).count() as u64;
        let listed: HashSet<&str> = entries.iter().map(|entry| &*entry.reference).collect();
        let left = tracked
            .iter()
            .filter(|(known, it)| !it.closed && !listed.contains(known.as_str()));
        let left = left.map(|(known, _)| known.clone()).collect();
        let is_matched = |entry: &Listed| {
            let in_time = match (entry.time(), since) {
                (Some(time), Some(since)) => time >= since,
                _ => true,
            };
            in_time
                || tracked
                    .get(&entry.reference)
                    .is_some_and(|known| known.is_open(entry))
        };
        let (mut matched, earlier): (Vec<Listed>, Vec<Listed>) =
            entries.into_iter().partition(is_matched);
        // The key last, so that equal times come in the same order every time.
        matched.sort_by(|one, other| {
            let order = |entry: &Listed| (entry.time().is_none(), entry.time());
            order(one)
                .cmp(&order(other))
                .then_with(|| one.key.cmp(&other.key))
        });
        Self {
            matched,
            earlier,
            left,
            newest,
            future,
            first_run: since.is_none(),
            tracked,
        }
    }

    /// Sorts the matched entries by what becomes of them; `exists` tells what the table has.
    pub fn sort_out(&self, exists: impl Fn(&Listed) -> bool) -> Sorted<'_> {
        let mut sorted = Sorted::default();
        for entry in &self.matched {
            let is_tracked = || {
                let known = self.tracked.get(&entry.reference);
                known.is_some_and(|known| !known.closed)
            };
            let never_validated = entry.last_validated_at == ValidatedAt::Never;
            match &entry.entry.body {
                _ if exists(entry) => sorted.existing.push(entry),
                _ if never_validated && !self.first_run && !is_tracked() => {
                    sorted.dropped.push(entry);
                }
                Ok(body) => sorted.valid.push((entry, body)),
                Err(rejected) => sorted.failed.push((entry, rejected)),
            }
        }
        sorted
    }

    /// Returns the earlier entries that should be in the table and are not; a person accepted the
    /// others as they are.
    pub fn missing(&self, exists: impl Fn(&Listed) -> bool) -> impl Iterator<Item = &Listed> {
        let is_accepted = |entry: &Listed| {
            let known = self.tracked.get(&entry.reference);
            known.is_some_and(|known| known.state(entry) == State::Accepted)
        };
        let missing = move |entry: &&Listed| !exists(entry) && !is_accepted(entry);
        self.earlier.iter().filter(missing)
    }
}

/// The matched entries, each in the order of the plan.
#[derive(Debug, Default)]
pub struct Sorted<'a> {
    /// The table has them.
    pub existing: Vec<&'a Listed>,
    /// They have no validation time, which only a first run takes.
    pub dropped: Vec<&'a Listed>,
    /// They get a row.
    pub valid: Vec<(&'a Listed, &'a Valid)>,
    /// They can have none, for what is wrong with them.
    pub failed: Vec<(&'a Listed, &'a Rejected)>,
}

impl<'a> Sorted<'a> {
    /// Returns the references of those whose rejection is over, if they had one.
    pub fn passed(&self) -> impl Iterator<Item = &'a str> {
        let valid = self.valid.iter().map(|(entry, _)| *entry);
        let passed = self.existing.iter().copied().chain(valid);
        passed.map(|entry| &*entry.reference)
    }
}
