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
    /// The server serves other pages; during a listing only once.
    Cap { rows: u8 },
}

/// A demande.
#[derive(Debug, Clone)]
pub struct Demande {
    created: i64,
    ours: bool,
    valid: bool,
    validated: ValidatedAt,
    /// How long after its validation time the validation became visible, in seconds.
    pub late: i64,
}

impl Demande {
    /// Tells whether it is to have a row, by itself.
    pub fn wants_row(&self) -> bool {
        self.ours && self.valid && self.validated != ValidatedAt::Unreadable
    }

    /// Returns when it was validated.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        self.validated.time()
    }
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
    /// Whether the page size changed since the listing began.
    cap_changed: bool,
    listing: bool,
    /// By id, which counts from 1.
    demandes: Vec<Demande>,
    /// The listing, newest first.
    list: Vec<i64>,
    reopened: Vec<i64>,
    pending: Vec<Pending>,
    /// What entered, left or changed since the listing began.
    touched: BTreeSet<i64>,
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
            cap_changed: false,
            listing: false,
            demandes: Vec::new(),
            list: Vec::new(),
            reopened: Vec::new(),
            pending: Vec::new(),
            touched: BTreeSet::new(),
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
        self.touched.clear();
        self.moved = false;
        self.listing = true;
        self.cap_changed = false;
    }

    /// Returns what entered, left or changed since the listing began, and whether nothing moved.
    pub fn end_listing(&mut self) -> (BTreeSet<i64>, bool) {
        self.listing = false;
        (std::mem::take(&mut self.touched), !self.moved)
    }

    /// Lets time pass; what is under way becomes visible.
    pub fn tick(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now;
        let due = |pending: &mut Pending| pending.visible <= now;
        for Pending { id, validated, .. } in self.pending.extract_if(.., due).collect::<Vec<_>>() {
            self.demandes[id as usize - 1].validated = validated;
            let created = self.demande(id).created;
            let place = self
                .list
                .partition_point(|other| self.demande(*other).created > created);
            self.list.insert(place, id);
            self.touch(id);
        }
    }

    /// Makes a move.
    pub fn make(&mut self, step: Move) {
        match step {
            Move::Wait { seconds } => self.tick(seconds.into()),
            Move::Submit {
                created,
                kind,
                late,
            } => self.submit(created.into(), kind, late.into()),
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
                    self.touch(id);
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
                // The end of a list that ends in a tie is proved for one change.
                if !(self.listing && self.cap_changed) {
                    self.cap = rows.into();
                }
                self.cap_changed = true;
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
            late,
        });
        self.validate(self.demandes.len() as i64, validated, late);
    }

    /// The time is taken now; the commit comes later.
    fn validate(&mut self, id: i64, validated: ValidatedAt, late: i64) {
        self.demandes[id as usize - 1].late = late;
        self.pending.push(Pending {
            id,
            visible: self.now + late,
            validated,
        });
        self.tick(0);
    }

    fn leave(&mut self, place: u8) -> Option<i64> {
        let id = self.list.remove(round(place, self.list.len())?);
        self.touch(id);
        Some(id)
    }

    fn comes_back(&mut self, nth: u8) -> Option<i64> {
        Some(self.reopened.remove(round(nth, self.reopened.len())?))
    }

    fn touch(&mut self, id: i64) {
        self.touched.insert(id);
        self.moved = true;
    }

    /// Serves a page of the list as it is now.
    pub fn page(&self, offset: u64, limit: usize) -> Vec<Element> {
        let rows = self.list.iter().skip(offset as usize);
        rows.take(limit.min(self.cap))
            .map(|id| self.element(*id))
            .collect()
    }

    /// Returns a demande as a page shows it.
    pub fn element(&self, id: i64) -> Element {
        let demande = self.demande(id);
        let demande_id = id.try_into().unwrap();
        let authorization_id = format!("public-{id}").parse().unwrap();
        let entry = demande.ours.then(|| Entry {
            of_definition: true,
            body: match demande.wants_row() {
                true => Ok(Valid {
                    authorization_id,
                    demande_id,
                    ..self.template.clone()
                }),
                false => Err(Rejected {
                    authorization_id: Some(authorization_id),
                    faults: vec![Fault {
                        field: "siret",
                        rule: "checksum",
                    }],
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
