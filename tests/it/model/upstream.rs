//! The model of DataPass: one list, its changes, and its pages.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use datapass_pull::types::entry::{Body, Element, Entry, Fault, Key, ValidatedAt};
use datapass_pull::types::{Entity, EntityType, Invalid, Perimeter};

/// The start of each history, in seconds
const BEGIN_S: i64 = 1_700_000_000;
/// How far in the future a [`Kind::Future`] entry is dated, in seconds
const FUTURE_S: i64 = 500;

/// Returns the instant this many seconds after the start.
pub fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(BEGIN_S + seconds, 0).unwrap()
}

/// The kind of a demande at its first validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of the definition, and valid
    Valid,
    /// Of the definition, and invalid
    Invalid,
    /// Of another definition
    Foreign,
    /// Of the definition, without a `last_validated_at`
    WithoutTime,
    /// Of the definition, with a `last_validated_at` that cannot be parsed
    Unreadable,
    /// Of the definition, validated in the future
    Future,
}

/// A change upstream. A place is an index in the current listing, newest first, modulo its length. A
/// change without a matching row has no effect.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// Time passes.
    Wait { seconds: u8 },
    /// A draft of any age is validated for the first time, visible `late` seconds later.
    Submit { created: u8, kind: Kind, late: u8 },
    /// Several valid demandes enter, with the same `created_at`.
    Burst { created: u8, rows: u8 },
    /// A demande is reopened: it leaves, and may return.
    Reopen { place: u8 },
    /// A reopened demande is approved again, maybe with other data: a new validation.
    Approve { nth: u8, valid: bool, late: u8 },
    /// A reopening is cancelled or refused: the data are unchanged, but the validation time is new.
    Cancel { nth: u8, late: u8 },
    /// A demande is revoked or archived: it leaves permanently.
    Revoke { place: u8 },
    /// Several consecutive demandes are revoked.
    Drain { place: u8, rows: u8 },
    /// The data of a listed demande change without a new validation.
    Edit { place: u8, valid: bool },
    /// The rows with the same `created_at` are listed in another order from now on.
    Swap { place: u8 },
    /// The server's page size changes.
    Cap { rows: u8 },
    /// The account loses its role for the definition, or for all: their rows are hidden at once.
    LoseRole { all: bool },
    /// The role is restored: the same rows are listed, unchanged.
    RegainRole,
    /// The next responses come from a server that lists nothing.
    BadWorker { responses: u8 },
    /// A row is not listed for a while, and returns unchanged.
    Hide { place: u8 },
}

/// A demande.
#[derive(Debug, Clone)]
pub struct Demande {
    created: i64,
    of_definition: bool,
    valid: bool,
    validated: ValidatedAt,
}

impl Demande {
    /// Returns whether it is valid, so that a row is to be created for it.
    pub fn should_have_row(&self) -> bool {
        self.of_definition && self.valid && self.validated.is_ok()
    }
}

/// The view of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Every row
    All,
    /// Rows of other definitions
    Foreign,
    /// No row
    Nothing,
}

/// A validation that is not visible yet.
struct Pending {
    id: i64,
    visible: i64,
    validated: ValidatedAt,
}

/// DataPass.
pub struct Upstream {
    now: i64,
    cap: usize,
    view: View,
    /// How many responses come from a server that lists nothing
    bad_answers: u8,
    hidden: BTreeSet<i64>,
    /// By id, counted from 1
    demandes: Vec<Demande>,
    /// The listing, newest first.
    list: Vec<i64>,
    reopened: Vec<i64>,
    pending: Vec<Pending>,
    /// Whether anything changed since the start of the listing
    changed: bool,
    template: Body,
}

impl Upstream {
    /// Starts with this many valid rows, of which `ties` share each `created_at`.
    pub fn new(cap: u8, rows: u8, ties: u8) -> Self {
        let entity = Entity::new(EntityType::Commune, "69123").unwrap();
        let template = Body {
            siret: "35600000000048".parse().unwrap(),
            level: "3".parse().unwrap(),
            perimeter: Perimeter::new(Some(entity), Vec::new()).unwrap(),
            transmission_date: None,
        };
        let mut upstream = Self {
            now: 100_000,
            cap: cap.into(),
            view: View::All,
            bad_answers: 0,
            hidden: BTreeSet::new(),
            demandes: Vec::new(),
            list: Vec::new(),
            reopened: Vec::new(),
            pending: Vec::new(),
            changed: false,
            template,
        };
        for row in 0..rows {
            upstream.submit(i64::from(row / ties) * 5, Kind::Valid, 0);
            upstream.tick(1);
        }
        upstream
    }

    /// Returns the clock.
    pub fn clock(&self) -> DateTime<Utc> {
        instant(self.now)
    }

    /// Returns the demande of this id.
    pub fn demande(&self, id: i64) -> &Demande {
        &self.demandes[id as usize - 1]
    }

    /// Returns the listed ids, newest first.
    pub fn listed(&self) -> &[i64] {
        &self.list
    }

    /// Starts to record whether anything changes.
    pub fn begin_listing(&mut self) {
        self.changed = false;
    }

    /// Returns whether nothing changed since the start of the listing.
    pub fn end_listing(&mut self) -> bool {
        !self.changed && self.bad_answers == 0
    }

    /// Lists everything again, and lets time pass.
    pub fn settle(&mut self) {
        (self.view, self.bad_answers) = (View::All, 0);
        self.hidden.clear();
        self.tick(1_000);
    }

    /// Lets time pass; pending validations become visible.
    pub fn tick(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now;
        let due = |pending: &mut Pending| pending.visible <= now;
        for Pending { id, validated, .. } in self.pending.extract_if(.., due).collect::<Vec<_>>() {
            self.demandes[id as usize - 1].validated = validated;
            let created = self.demande(id).created;
            let place = self.list.partition_point(|other| self.demande(*other).created > created);
            self.list.insert(place, id);
            self.changed = true;
        }
    }

    /// Applies a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Wait { seconds } => self.tick(seconds.into()),
            Change::Submit { created, kind, late } => {
                self.submit(created.into(), kind, late.into())
            }
            Change::Burst { created, rows } => {
                for _ in 0..rows {
                    self.submit(created.into(), Kind::Valid, 0);
                }
            }
            Change::Reopen { place } => {
                let left = self.leave(place);
                self.reopened.extend(left);
            }
            Change::Approve { nth, valid, late } => {
                if let Some(id) = self.take_reopened(nth) {
                    self.demandes[id as usize - 1].valid = valid;
                    self.validate(id, Ok(Some(self.clock())), late.into());
                }
            }
            Change::Cancel { nth, late } => {
                if let Some(id) = self.take_reopened(nth) {
                    self.validate(id, Ok(Some(self.clock())), late.into());
                }
            }
            Change::Revoke { place } => {
                self.leave(place);
            }
            Change::Drain { place, rows } => {
                for _ in 0..rows {
                    self.leave(place);
                }
            }
            Change::Edit { place, valid } => {
                if let Some(place) = round(place, self.list.len()) {
                    let id = self.list[place];
                    self.demandes[id as usize - 1].valid = valid;
                    self.changed = true;
                }
            }
            Change::Swap { place } => {
                if let Some(place) = round(place, self.list.len()) {
                    let created = self.demande(self.list[place]).created;
                    let newer = |id: &i64| self.demande(*id).created > created;
                    let begin = self.list.partition_point(newer);
                    let not_older = |id: &i64| self.demande(*id).created >= created;
                    let end = self.list.partition_point(not_older);
                    self.list[begin..end].rotate_left(1);
                    self.changed = true;
                }
            }
            Change::Cap { rows } => {
                self.cap = rows.into();
                self.changed = true;
            }
            Change::LoseRole { all } => {
                self.view = if all { View::Nothing } else { View::Foreign };
                self.changed = true;
            }
            Change::RegainRole => {
                self.view = View::All;
                self.hidden.clear();
                self.changed = true;
            }
            Change::BadWorker { responses } => {
                self.bad_answers = responses;
                self.changed = true;
            }
            Change::Hide { place } => {
                let id = round(place, self.list.len()).map(|place| self.list[place]);
                self.hidden.extend(id);
                self.changed = true;
            }
        }
    }

    fn submit(&mut self, created: i64, kind: Kind, late: i64) {
        let validated = match kind {
            Kind::WithoutTime => Ok(None),
            Kind::Unreadable => Err(Invalid("unreadable")),
            Kind::Future => Ok(Some(instant(self.now + FUTURE_S))),
            Kind::Valid | Kind::Invalid | Kind::Foreign => Ok(Some(self.clock())),
        };
        self.demandes.push(Demande {
            created,
            of_definition: kind != Kind::Foreign,
            valid: kind != Kind::Invalid,
            validated,
        });
        self.validate(self.demandes.len() as i64, validated, late);
    }

    /// Validates a demande: the time is that of now, the commit is later.
    fn validate(&mut self, id: i64, validated: ValidatedAt, late: i64) {
        self.pending.push(Pending { id, visible: self.now + late, validated });
        self.tick(0);
    }

    fn leave(&mut self, place: u8) -> Option<i64> {
        let id = self.list.remove(round(place, self.list.len())?);
        self.changed = true;
        Some(id)
    }

    fn take_reopened(&mut self, nth: u8) -> Option<i64> {
        Some(self.reopened.remove(round(nth, self.reopened.len())?))
    }

    /// Returns the listed ids that the account can see, newest first.
    pub fn shown(&self) -> Vec<i64> {
        let is_shown = |id: &&i64| match self.view {
            _ if self.bad_answers > 0 || self.hidden.contains(id) => false,
            View::All => true,
            View::Foreign => !self.demande(**id).of_definition,
            View::Nothing => false,
        };
        self.list.iter().filter(is_shown).copied().collect()
    }

    /// Returns a page of the current list.
    pub fn page(&mut self, offset: u64, limit: usize) -> Vec<Element> {
        let rows = self.shown().into_iter().skip(offset as usize);
        let page = rows.take(limit.min(self.cap)).map(|id| self.element(id));
        let page = page.collect();
        self.bad_answers = self.bad_answers.saturating_sub(1);
        page
    }

    /// Returns a demande as an element of a page.
    pub fn element(&self, id: i64) -> Element {
        let demande = self.demande(id);
        let demande_id = id.try_into().unwrap();
        let entry = demande.of_definition.then(|| Entry {
            reference: format!("D{id}"),
            demande_id: Some(demande_id),
            authorization_id: format!("public-{id}").parse().ok(),
            last_validated_at: demande.validated,
            of_definition: true,
            body: match demande.should_have_row() {
                true => Ok(self.template.clone()),
                false => Err(vec![Fault { field: "siret", rule: "checksum" }]),
            },
        });
        Element {
            key: Key::Id(demande_id),
            created_at: Some(instant(demande.created)),
            last_validated_at: demande.validated,
            entry,
        }
    }
}

fn round(index: u8, length: usize) -> Option<usize> {
    usize::from(index).checked_rem(length)
}
