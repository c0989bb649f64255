//! Which entries a cycle is about, and what becomes of each: no I/O.
//!
//! Every cycle compares all that is listed with all that was ever handled, so that an entry which
//! DataPass showed late, or hid for a while, is created when it is seen, whatever its time.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::state::handled::{KnownEntries, KnownEntry};
use crate::state::rejections::{KnownRejection, KnownRejections};
use crate::types::entry::{Element, Listed, Rejected, Valid};

/// Returns the entries of a listing in the order of creation: oldest validation first, those without
/// one last.
pub fn entries(elements: Vec<Element>) -> Vec<Listed> {
    let mut entries: Vec<Listed> = elements.into_iter().filter_map(Listed::new).collect();
    // The key last, so that equal times come in the same order every time.
    entries.sort_by(|one, other| {
        let order = |entry: &Listed| (entry.time().is_none(), entry.time());
        order(one).cmp(&order(other)).then_with(|| one.key.cmp(&other.key))
    });
    entries
}

/// What decides which entries a cycle is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// `--since`: only what was validated from then on is considered, and created without a row.
    pub since: Option<DateTime<Utc>>,
    /// A plain cycle skips what was validated before and never handled.
    pub skip_before: Option<DateTime<Utc>>,
}

/// What the tables hold.
#[derive(Debug)]
pub struct Known {
    /// Entries that have a row or were handled.
    pub entries: KnownEntries,
    /// Rejections that are not closed or were accepted.
    pub rejections: KnownRejections,
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy)]
enum Class<'a> {
    Existing,
    Skipped,
    Created(&'a Valid),
    Rejected(&'a Rejected),
    Accepted(&'a Rejected),
    /// Outside `--since`, and left to the next plain cycle, which creates or rejects it.
    Postponed,
    /// Outside `--since`, and of no concern to the next plain cycle either.
    Outside,
}

/// The entries by what becomes of them, each in the order of creation.
#[derive(Debug, Default)]
pub struct Sorted<'a> {
    /// What decided which entries the cycle is about.
    pub scope: Scope,
    /// They were handled before, or another listed entry has the same public id.
    pub existing: Vec<&'a Listed>,
    /// They get a row.
    pub created: Vec<(&'a Listed, &'a Valid)>,
    /// They cannot have a row.
    pub rejected: Vec<(&'a Listed, &'a Rejected)>,
    /// They cannot have a row, and an operator accepted that.
    pub accepted: Vec<(&'a Listed, &'a Rejected)>,
    /// They are from before `skip_before`.
    pub skipped: Vec<&'a Listed>,
    /// They lie outside `--since`, and the next plain cycle creates or rejects them.
    pub postponed: Vec<&'a Listed>,
    /// They are handled and have no row.
    pub deleted: Vec<&'a Listed>,
    /// They are handled, and were validated again since they were last seen.
    pub revalidated: Vec<&'a Listed>,
    /// Those of them that have no row.
    pub revalidated_deleted: Vec<&'a Listed>,
    /// They are handled and have no row, and a replay cannot create them again.
    pub invalid_deleted: Vec<(&'a Listed, &'a Rejected)>,
    /// What to record as handled: public id, each once, and validation time.
    pub handled: Vec<(&'a str, Option<DateTime<Utc>>)>,
}

/// The entries that have one public id.
struct Namesakes<'a> {
    /// The one that gets the row: of those that could, the one validated first.
    creator: Option<&'a Listed>,
    /// The one validated last.
    latest: &'a Listed,
}

impl<'a> Sorted<'a> {
    /// Sorts the entries of a listing, which are in the order of creation.
    pub fn new(entries: &'a [Listed], scope: Scope, known: &Known) -> Self {
        let classes: Vec<Class<'a>> =
            entries.iter().map(|entry| scope.classify(entry, known)).collect();
        let mut namesakes: HashMap<&str, Namesakes<'a>> = HashMap::new();
        for (entry, class) in entries.iter().zip(&classes) {
            let Some(public_id) = entry.public_id() else { continue };
            let first = Namesakes { creator: None, latest: entry };
            let namesakes = namesakes.entry(public_id).or_insert(first);
            if let Class::Created(_) = class {
                namesakes.creator.get_or_insert(entry);
            }
            // Not simply the last one: those without a time are behind all others.
            if entry.time() > namesakes.latest.time() {
                namesakes.latest = entry;
            }
        }
        let mut sorted = Self { scope, ..Self::default() };
        for (entry, class) in entries.iter().zip(classes) {
            let public_id = entry.public_id();
            let namesakes = public_id.and_then(|public_id| namesakes.get(public_id));
            let creator = namesakes.and_then(|it| it.creator);
            match class {
                Class::Postponed => sorted.postponed.push(entry),
                Class::Outside => {}
                _ if creator.is_some_and(|it| it.key != entry.key) => sorted.existing.push(entry),
                Class::Existing => sorted.existing.push(entry),
                Class::Skipped => sorted.skipped.push(entry),
                Class::Created(body) => sorted.created.push((entry, body)),
                Class::Rejected(rejected) => sorted.rejected.push((entry, rejected)),
                Class::Accepted(rejected) => sorted.accepted.push((entry, rejected)),
            }
            if let (Some(public_id), Some(namesakes)) = (public_id, namesakes)
                && namesakes.latest.key == entry.key
            {
                sorted.compare(entry, public_id, known, creator);
            }
        }
        sorted
    }

    /// Finds out whether an entry, the latest of its public id, is deleted, revalidated or to be
    /// recorded as handled.
    fn compare(
        &mut self,
        entry: &'a Listed,
        public_id: &'a str,
        known: &Known,
        creator: Option<&Listed>,
    ) {
        let stored = known.entries.get(public_id).copied().unwrap_or_default();
        let is_created = creator.is_some();
        if stored == KnownEntry::default() && !is_created {
            return;
        }
        let is_deleted = !stored.has_row && !is_created;
        if is_deleted {
            self.deleted.push(entry);
            if let (true, Err(rejected)) = (self.scope.replays(entry), &entry.entry.body) {
                self.invalid_deleted.push((entry, rejected));
            }
        }
        if stored.last_validated_at.is_some_and(|it| entry.time() > Some(it)) {
            self.revalidated.push(entry);
            self.revalidated_deleted.extend(is_deleted.then_some(entry));
        }
        if !stored.is_handled || entry.time() > stored.last_validated_at {
            self.handled.push((public_id, entry.time()));
        }
    }

    /// Returns those of the rejections that are over: of an entry that passed, or that is not among the
    /// `entries` any more. With `--since` it may lie outside; and when nothing at all was `seen`, an
    /// account may see nothing for a while.
    pub fn over<'k>(
        &self,
        entries: &[Listed],
        seen: u64,
        rejections: &'k KnownRejections,
    ) -> Vec<(&'k str, KnownRejection)> {
        let created = self.created.iter().map(|(entry, _)| *entry);
        let passed = self.existing.iter().copied().chain(created);
        let passed: HashSet<&str> = passed.map(|it| &*it.reference).collect();
        let listed: HashSet<&str> = entries.iter().map(|it| &*it.reference).collect();
        let shows_who_left = self.scope.since.is_none() && seen > 0;
        rejections
            .iter()
            .map(|(reference, it)| (&**reference, *it))
            .filter(|(_, it)| !it.is_closed)
            .filter(|(reference, _)| {
                passed.contains(reference) || shows_who_left && !listed.contains(reference)
            })
            .collect()
    }

    /// Returns what holds the watermark: the oldest entry with a time that still waits.
    pub fn waiting(&self) -> Option<&'a Listed> {
        let rejected = self.rejected.iter().map(|(entry, _)| *entry);
        let waiting = rejected.chain(self.postponed.iter().copied());
        waiting.filter(|entry| entry.time().is_some()).min_by_key(|entry| entry.time())
    }
}

impl Scope {
    fn classify<'a>(self, entry: &'a Listed, known: &Known) -> Class<'a> {
        let stored = entry.public_id().and_then(|id| known.entries.get(id));
        let stored = stored.copied().unwrap_or_default();
        let rejection = known.rejections.get(&entry.reference);
        let is_accepted = rejection.is_some_and(|it| it.accepts(entry.time()));
        let is_open = rejection.is_some_and(|it| !it.is_closed) && !is_accepted;
        let is_replayed = self.replays(entry);
        let class = match &entry.entry.body {
            _ if stored.has_row => Class::Existing,
            Ok(body) if is_replayed => Class::Created(body),
            _ if stored.is_handled => Class::Existing,
            _ if !is_replayed && self.skips(entry) && !is_open => Class::Skipped,
            Ok(body) => Class::Created(body),
            Err(rejected) if is_accepted => Class::Accepted(rejected),
            Err(rejected) => Class::Rejected(rejected),
        };
        match class {
            _ if self.since.is_none() || is_replayed => class,
            Class::Created(_) | Class::Rejected(_) => Class::Postponed,
            _ => Class::Outside,
        }
    }

    /// Returns whether the entry lies within `--since`, if that is given.
    fn replays(self, entry: &Listed) -> bool {
        // `None` is smaller than any time.
        self.since.is_some_and(|since| entry.time() >= Some(since))
    }

    /// An entry without a time counts as older than any; one whose time cannot be read does not.
    fn skips(self, entry: &Listed) -> bool {
        self.skip_before.is_some_and(|skip_before| match entry.last_validated_at {
            Ok(Some(time)) => time < skip_before,
            Ok(None) => true,
            Err(_) => false,
        })
    }
}

/// Returns the greatest validation time of an entry that is not later than `clock`.
pub fn newest(entries: &[Listed], clock: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let times = entries.iter().filter_map(Listed::time);
    times.filter(|time| *time <= clock).max()
}

/// Returns how many entries were validated later than `clock`.
pub fn future(entries: &[Listed], clock: DateTime<Utc>) -> usize {
    let times = entries.iter().filter_map(Listed::time);
    times.filter(|time| *time > clock).count()
}
