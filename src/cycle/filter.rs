//! Which entries a cycle is about, and what becomes of each: no I/O.
//!
//! Every cycle compares all that is listed with all that was ever handled, so that an entry which
//! DataPass showed late, or hid for a while, is created when it is seen, whatever its time. Where times
//! are compared, `None` is smaller than any.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::state::handled::{KnownEntries, KnownEntry};
use crate::state::rejections::{KnownRejection, KnownRejections};
use crate::types::entry::Entry;

/// Puts the entries of a listing in the order of creation: oldest validation first, those without one
/// last.
pub fn in_order(mut entries: Vec<Entry>) -> Vec<Arc<Entry>> {
    // By number too, so that equal times come in the same order every time.
    entries.sort_by_cached_key(|it| {
        (it.time().is_none(), it.time(), it.demande_id, it.reference.clone())
    });
    entries.into_iter().map(Arc::new).collect()
}

/// What the decisions are based on.
#[derive(Debug, Default)]
pub struct Basis {
    /// `--since`: only what was validated from then on is considered, and created without a row.
    pub since: Option<DateTime<Utc>>,
    /// A plain cycle skips what was validated before and never handled.
    pub skip_before: Option<DateTime<Utc>>,
    /// What was validated before should have been known to a plain cycle.
    pub watermark: Option<DateTime<Utc>>,
    /// Entries that have a row or were handled.
    pub entries: KnownEntries,
    /// Rejections that are not closed or were accepted.
    pub rejections: KnownRejections,
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It was handled before, or another listed entry has the same public id.
    Existing,
    /// It is from before `skip_before`.
    Skipped,
    /// It gets a row.
    Created,
    /// It cannot have a row.
    Rejected,
    /// It cannot have a row, and an operator accepted that.
    Accepted,
    /// It lies outside `--since`, and the next plain cycle creates or rejects it.
    Postponed,
    /// It lies outside `--since`, and is of no concern to the next plain cycle either.
    Outside,
}

/// An entry, and what a cycle does about it.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The entry.
    pub entry: Arc<Entry>,
    /// What becomes of it.
    pub class: Class,
    /// Whether it is created and should have been known before.
    pub is_late: bool,
    /// Whether it is handled and has no row.
    pub is_deleted: bool,
    /// Whether it has no row, and a replay cannot create it again.
    pub is_lost: bool,
    /// Whether it is handled, and was validated again since it was last seen.
    pub is_revalidated: bool,
    /// Whether to record it as handled, with its validation time.
    pub is_recorded: bool,
}

/// The decisions about all entries of a listing, in the order of creation.
#[derive(Debug, Clone, Default)]
pub struct Decisions(pub Vec<Decision>);

/// The entries that have one public id.
struct Namesakes<'a> {
    /// The one that gets the row: of those that could, the one validated first.
    creator: Option<&'a Entry>,
    /// The one validated last.
    latest: &'a Entry,
}

impl Decisions {
    /// Decides about the entries of a listing, which are in the order of creation.
    pub fn new(entries: &[Arc<Entry>], basis: &Basis) -> Self {
        let classes: Vec<Class> = entries.iter().map(|entry| basis.classify(entry)).collect();
        let mut namesakes: HashMap<&str, Namesakes<'_>> = HashMap::new();
        for (entry, class) in entries.iter().zip(&classes) {
            let Some(public_id) = entry.public_id() else { continue };
            let first = Namesakes { creator: None, latest: entry };
            let namesakes = namesakes.entry(public_id).or_insert(first);
            if *class == Class::Created {
                namesakes.creator.get_or_insert(entry);
            }
            // Not simply the last one: those without a time are behind all others.
            if entry.time() > namesakes.latest.time() {
                namesakes.latest = entry;
            }
        }
        let decide = |(entry, class): (&Arc<Entry>, Class)| {
            let namesakes = entry.public_id().and_then(|public_id| namesakes.get(public_id));
            basis.decide(entry, class, namesakes)
        };
        Self(entries.iter().zip(classes).map(decide).collect())
    }

    /// Returns the decisions that fulfill a condition.
    pub fn those(&self, holds: impl Fn(&Decision) -> bool) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |it| holds(it)).map(|it| &*it.entry)
    }

    /// Returns the entries of a class.
    pub fn of(&self, class: Class) -> impl Iterator<Item = &Entry> {
        self.those(move |it| it.class == class)
    }

    /// Returns those of the rejections that are over: of an entry that passed, or that is not listed any
    /// more, if a listing that `is_whole` shows who left: with `--since` it may lie outside; and when
    /// nothing at all was seen, an account may see nothing for a while.
    pub fn over<'k>(
        &self,
        is_whole: bool,
        rejections: &'k KnownRejections,
    ) -> Vec<(&'k str, KnownRejection)> {
        let classes: HashMap<&str, Class> =
            self.0.iter().map(|it| (&*it.entry.reference, it.class)).collect();
        let is_over = |reference: &str| match classes.get(reference) {
            Some(class) => matches!(class, Class::Existing | Class::Created),
            None => is_whole,
        };
        let open = rejections.iter().filter(|(_, it)| !it.is_closed);
        let open = open.map(|(reference, it)| (reference.as_str(), *it));
        open.filter(|(reference, _)| is_over(reference)).collect()
    }

    /// Returns what holds the watermark: the oldest entry with a time that still waits.
    pub fn waiting(&self) -> Option<&Entry> {
        let mut waiting = self.those(|it| matches!(it.class, Class::Rejected | Class::Postponed));
        waiting.find(|entry| entry.time().is_some())
    }
}

impl Basis {
    /// Returns the class that an entry has if no other one has its public id.
    fn classify(&self, entry: &Entry) -> Class {
        let stored = self.stored(entry);
        let rejection = self.rejections.get(&entry.reference);
        let is_accepted = rejection.is_some_and(|it| it.accepts(entry.time()));
        let is_open = rejection.is_some_and(|it| !it.is_closed) && !is_accepted;
        let is_replayed = self.replays(entry);
        // An entry without a time counts as older than any; one whose time cannot be read does not.
        let is_before = entry.last_validated_at.is_ok_and(|time| time < self.skip_before);
        let class = match &entry.body {
            _ if stored.has_row => Class::Existing,
            Ok(_) if is_replayed => Class::Created,
            _ if stored.is_handled => Class::Existing,
            _ if is_before && !is_replayed && !is_open => Class::Skipped,
            Ok(_) => Class::Created,
            Err(_) if is_accepted => Class::Accepted,
            Err(_) => Class::Rejected,
        };
        match class {
            _ if self.since.is_none() || is_replayed => class,
            Class::Created | Class::Rejected => Class::Postponed,
            _ => Class::Outside,
        }
    }

    /// Decides about an entry, given the class that it would have alone, and those that have its
    /// public id.
    fn decide(
        &self,
        entry: &Arc<Entry>,
        class: Class,
        namesakes: Option<&Namesakes<'_>>,
    ) -> Decision {
        let creator = namesakes.and_then(|it| it.creator);
        let class = match class {
            Class::Postponed | Class::Outside => class,
            _ if creator.is_some_and(|it| it.reference != entry.reference) => Class::Existing,
            _ => class,
        };
        let is_new = class == Class::Created && self.since.is_none();
        // The rest is about the public id, and so about the latest of its entries.
        let is_latest = namesakes.is_some_and(|it| it.latest.reference == entry.reference);
        let stored = self.stored(entry);
        let is_handled = is_latest && (stored != KnownEntry::default() || creator.is_some());
        let is_deleted = is_handled && !stored.has_row && creator.is_none();
        let is_newer = entry.time() > stored.last_validated_at;
        Decision {
            entry: Arc::clone(entry),
            class,
            is_late: is_new && entry.time() < self.watermark,
            is_deleted,
            is_lost: is_deleted && self.replays(entry) && entry.body.is_err(),
            is_revalidated: is_handled && is_newer && stored.last_validated_at.is_some(),
            is_recorded: is_handled && (is_newer || !stored.is_handled),
        }
    }

    /// Returns what is stored of an entry.
    fn stored(&self, entry: &Entry) -> KnownEntry {
        let stored = entry.public_id().and_then(|id| self.entries.get(id));
        stored.copied().unwrap_or_default()
    }

    /// Returns whether the entry lies within `--since`, if that is given.
    fn replays(&self, entry: &Entry) -> bool {
        self.since.is_some() && entry.time() >= self.since
    }
}

/// Returns the greatest validation time of an entry that is not later than `clock`.
pub fn newest(entries: &[Arc<Entry>], clock: DateTime<Utc>) -> Option<DateTime<Utc>> {
    entries.iter().filter_map(|entry| entry.time()).filter(|time| *time <= clock).max()
}
