//! DataPass as the model knows it: one list, what moves it, and pages of it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use datapass_pull::types::entry::{Element, Entry, Fault, Key, Rejected, Valid, ValidatedAt};
use datapass_pull::types::{Entity, EntityType, Perimeter};

/// When a history begins, in seconds.
const BEGIN_S: i64 = 1_700_000_000;
/// How far in the future an entry is dated that is.
const FUTURE_S: i64 = 500;

/// Returns the instant so many seconds after the histories' origin.
pub fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(BEGIN_S + seconds, 0).unwrap()
}

/// What a demande is like when it is validated first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours, and valid.
    Valid,
    /// Ours, with a fault.
    Invalid,
    /// Of another definition.
    Foreign,
    /// Ours, without a `last_validated_at`.
    Timeless,
    /// Ours, with a `last_validated_at` that cannot be read.
    Unreadable,
    /// Ours, validated at a time to come.
    Future,
}

/// Something that happens upstream. A place is an index in the listing as it is then, newest first,
/// round and round; a move that finds nothing to move does nothing.
#[derive(Debug, Clone, Copy)]
pub enum Move {
    /// Time passes.
    Wait { seconds: u8 },
    /// A draft of any age is validated for the first time; `late` seconds later that is visible.
    Submit { created: u8, kind: Kind, late: u8 },
    /// Valid ones in a burst, which share one `created_at`.
    Burst { created: u8, rows: u8 },
    /// One is reopened: it leaves, and may come back.
    Reopen { place: u8 },
    /// A reopened one is approved again, with data that may have changed: a new validation.
    Approve { nth: u8, valid: bool, late: u8 },
    /// A reopening is cancelled or refused: the demande as it was, and a new validation time.
    Cancel { nth: u8, late: u8 },
    /// One is revoked or archived: it leaves for good.
    Revoke { place: u8 },
    /// Several in a row are.
    Drain { place: u8, rows: u8 },
    /// Its data change where it stands; that is no new validation.
    Edit { place: u8, valid: bool },
    /// The rows that share its `created_at` are listed in another order from now on.
    Swap { place: u8 },
    /// The server serves other pages.
    Cap { rows: u8 },
    /// The account loses its role for our definition, or for all: their rows are hidden at once.
    LoseRole { all: bool },
    /// The role is given back: the same rows are shown, as they were.
    RegainRole,
    /// The next answers come from a worker that shows nothing.
    BadWorker { answers: u8 },
    /// One row is not shown for a while, and comes back as it was.
    Hide { place: u8 },
}

/// A demande.
#[derive(Debug, Clone)]
pub struct Demande {
    created: i64,
    ours: bool,
    valid: bool,
    validated: ValidatedAt,
}

impl Demande {
    /// Tells whether it is to have a row, by itself.
    pub fn wants_row(&self) -> bool {
        self.ours && self.valid && self.validated != ValidatedAt::Unreadable
    }
}

/// What the account may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Every row.
    All,
    /// Those of other definitions.
    Foreign,
    /// Nothing.
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
    /// How many answers come from a worker that shows nothing.
    bad_answers: u8,
    hidden: BTreeSet<i64>,
    /// By id, which counts from 1.
    demandes: Vec<Demande>,
    /// The listing, newest first.
    list: Vec<i64>,
    reopened: Vec<i64>,
    pending: Vec<Pending>,
    /// Whether anything moved since then.
    moved: bool,
    template: Valid,
}

impl Upstream {
    /// Starts with as many valid rows, of which so many share each `created_at`.
    pub fn new(cap: u8, rows: u8, ties: u8) -> Self {
        let entity = Entity::new(EntityType::Commune, "69123").unwrap();
        let template = Valid {
            authorization_id: "public".parse().unwrap(),
            demande_id: "1".parse().unwrap(),
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
            moved: false,
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

    /// Notes from here on what moves.
    pub fn begin_listing(&mut self) {
        self.moved = false;
    }

    /// Returns whether nothing moved since the listing began.
    pub fn end_listing(&mut self) -> bool {
        !self.moved && self.bad_answers == 0
    }

    /// Shows everything again, and lets time pass.
    pub fn settle(&mut self) {
        (self.view, self.bad_answers) = (View::All, 0);
        self.hidden.clear();
        self.tick(1_000);
    }

    /// Lets time pass; what is under way becomes visible.
    pub fn tick(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now;
        let due = |pending: &mut Pending| pending.visible <= now;
        for Pending { id, validated, .. } in self.pending.extract_if(.., due).collect::<Vec<_>>() {
            self.demandes[id as usize - 1].validated = validated;
            let created = self.demande(id).created;
            let place = self.list.partition_point(|other| self.demande(*other).created > created);
            self.list.insert(place, id);
            self.moved = true;
        }
    }

    /// Makes a move.
    pub fn make(&mut self, step: Move) {
        match step {
            Move::Wait { seconds } => self.tick(seconds.into()),
            Move::Submit { created, kind, late } => self.submit(created.into(), kind, late.into()),
            Move::Burst { created, rows } => {
                for _ in 0..rows {
                    self.submit(created.into(), Kind::Valid, 0);
                }
            }
            Move::Reopen { place } => {
                let left = self.leave(place);
                self.reopened.extend(left);
            }
            Move::Approve { nth, valid, late } => {
                if let Some(id) = self.comes_back(nth) {
                    self.demandes[id as usize - 1].valid = valid;
                    self.validate(id, ValidatedAt::At(self.clock()), late.into());
                }
            }
            Move::Cancel { nth, late } => {
                if let Some(id) = self.comes_back(nth) {
                    self.validate(id, ValidatedAt::At(self.clock()), late.into());
                }
            }
            Move::Revoke { place } => {
                self.leave(place);
            }
            Move::Drain { place, rows } => {
                for _ in 0..rows {
                    self.leave(place);
                }
            }
            Move::Edit { place, valid } => {
                if let Some(place) = round(place, self.list.len()) {
                    let id = self.list[place];
                    self.demandes[id as usize - 1].valid = valid;
                    self.moved = true;
                }
            }
            Move::Swap { place } => {
                if let Some(place) = round(place, self.list.len()) {
                    let created = self.demande(self.list[place]).created;
                    let newer = |id: &i64| self.demande(*id).created > created;
                    let begin = self.list.partition_point(newer);
                    let not_older = |id: &i64| self.demande(*id).created >= created;
                    let end = self.list.partition_point(not_older);
                    self.list[begin..end].rotate_left(1);
                    self.moved = true;
                }
            }
            Move::Cap { rows } => {
                self.cap = rows.into();
                self.moved = true;
            }
            Move::LoseRole { all } => {
                self.view = if all { View::Nothing } else { View::Foreign };
                self.moved = true;
            }
            Move::RegainRole => {
                self.view = View::All;
                self.hidden.clear();
                self.moved = true;
            }
            Move::BadWorker { answers } => {
                self.bad_answers = answers;
                self.moved = true;
            }
            Move::Hide { place } => {
                let id = round(place, self.list.len()).map(|place| self.list[place]);
                self.hidden.extend(id);
                self.moved = true;
            }
        }
    }

    fn submit(&mut self, created: i64, kind: Kind, late: i64) {
        let validated = match kind {
            Kind::Timeless => ValidatedAt::Never,
            Kind::Unreadable => ValidatedAt::Unreadable,
            Kind::Future => ValidatedAt::At(instant(self.now + FUTURE_S)),
            Kind::Valid | Kind::Invalid | Kind::Foreign => ValidatedAt::At(self.clock()),
        };
        self.demandes.push(Demande {
            created,
            ours: kind != Kind::Foreign,
            valid: kind != Kind::Invalid,
            validated,
        });
        self.validate(self.demandes.len() as i64, validated, late);
    }

    /// The time is taken now; the commit comes later.
    fn validate(&mut self, id: i64, validated: ValidatedAt, late: i64) {
        self.pending.push(Pending { id, visible: self.now + late, validated });
        self.tick(0);
    }

    fn leave(&mut self, place: u8) -> Option<i64> {
        let id = self.list.remove(round(place, self.list.len())?);
        self.moved = true;
        Some(id)
    }

    fn comes_back(&mut self, nth: u8) -> Option<i64> {
        Some(self.reopened.remove(round(nth, self.reopened.len())?))
    }

    /// Returns the listed ids that the account is shown now, newest first.
    pub fn shown(&self) -> Vec<i64> {
        let is_shown = |id: &&i64| match self.view {
            _ if self.bad_answers > 0 || self.hidden.contains(id) => false,
            View::All => true,
            View::Foreign => !self.demande(**id).ours,
            View::Nothing => false,
        };
        self.list.iter().filter(is_shown).copied().collect()
    }

    /// Serves a page of the list as it is now.
    pub fn page(&mut self, offset: u64, limit: usize) -> Vec<Element> {
        let rows = self.shown().into_iter().skip(offset as usize);
        let page = rows.take(limit.min(self.cap)).map(|id| self.element(id));
        let page = page.collect();
        self.bad_answers = self.bad_answers.saturating_sub(1);
        page
    }

    /// Returns a demande as a page shows it.
    pub fn element(&self, id: i64) -> Element {
        let demande = self.demande(id);
        let demande_id = id.try_into().unwrap();
        let authorization_id = format!("public-{id}").parse().unwrap();
        let entry = demande.ours.then(|| Entry {
            of_definition: true,
            body: match demande.wants_row() {
                true => Ok(Valid { authorization_id, demande_id, ..self.template.clone() }),
                false => Err(Rejected {
                    authorization_id: Some(authorization_id),
                    faults: vec![Fault { field: "siret", rule: "checksum" }],
                }),
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
