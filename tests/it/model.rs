//! A pure model of DataPass and of the tables drives the real listing, filter and watermark through
//! random histories: no HTTP, no database, no threads.
//!
//! Between any two requests demandes are validated, reopened, approved again, revoked and healed,
//! one by one and in bursts, and a validation becomes visible later than the time it carries. Pages
//! in flight are answered in any order, each from a snapshot of its own.

// What was tried is for a person to read.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use datapass_pull::advance::{self, Covered};
use datapass_pull::create::{Known, Plan, Tracked};
use datapass_pull::list::decode::{Element, Entry, Fault, Key, Rejected, Valid, ValidatedAt};
use datapass_pull::list::paging::{Paging, Unproved};
use datapass_pull::types::{Entity, EntityType, Perimeter};
use proptest::prelude::*;

const LOOKBACK: Duration = Duration::from_secs(60);
/// How many histories are driven.
const HISTORIES: u32 = 1_000;

/// What the histories did together.
#[derive(Debug)]
struct Counts {
    histories: u32,
    listings_proved: u64,
    listings_given_up: u64,
    requests: u64,
    drift_rewinds: u64,
    rows: usize,
}

static COUNTS: Mutex<Counts> = Mutex::new(Counts {
    histories: 0,
    listings_proved: 0,
    listings_given_up: 0,
    requests: 0,
    drift_rewinds: 0,
    rows: 0,
});

/// How late a validation becomes visible at most, in milliseconds: less than the look-back.
const COMMIT_DELAY_MS: i64 = 20_000;

#[derive(Debug, Clone)]
struct Demande {
    created: i64,
    validated: i64,
    ours: bool,
    valid: bool,
    listed: bool,
}

struct Upstream {
    rng: fastrand::Rng,
    now: i64,
    cap: usize,
    ties: i64,
    /// Whether some entries are invalid: one that is holds the watermark, and so hides what a
    /// watermark that moves too far would lose.
    faults: bool,
    demandes: BTreeMap<i64, Demande>,
    /// Validations that are not visible yet: when they will be, of which demande, with which time.
    pending: Vec<(i64, i64, i64)>,
    /// Every demande that entered, left or changed, in order.
    changes: Vec<i64>,
    /// How often it still moves during this listing: one that moves for ever never ends.
    moves_left: u32,
}

fn instant(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000 + ms).unwrap()
}

impl Upstream {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let cap = if rng.bool() {
            5 + rng.usize(..30)
        } else {
            1000
        };
        let ties = [1, 1, 5, 50][rng.usize(..4)];
        let faults = rng.bool();
        let mut upstream = Self {
            rng,
            now: 10_000_000,
            cap,
            ties,
            faults,
            demandes: BTreeMap::new(),
            pending: Vec::new(),
            changes: Vec::new(),
            moves_left: 0,
        };
        for _ in 0..upstream.rng.usize(..120) {
            upstream.enter();
        }
        upstream.settle();
        upstream
    }

    /// A draft of any age is validated for the first time.
    fn enter(&mut self) {
        let id = self.demandes.len() as i64 + 1;
        let created = self.rng.i64(0..self.now) / 10_000 / self.ties * self.ties;
        let (ours, valid) = (self.rng.u8(..4) > 0, self.rng.u8(..12) > 0 || !self.faults);
        let demande = Demande {
            created,
            validated: 0,
            ours,
            valid,
            listed: false,
        };
        self.demandes.insert(id, demande);
        self.validate(id);
    }

    /// The time is taken now; the commit comes later.
    fn validate(&mut self, id: i64) {
        let visible = self.now + self.rng.i64(0..COMMIT_DELAY_MS);
        self.pending.push((visible, id, self.now));
    }

    fn tick(&mut self, ms: i64) {
        self.now += ms;
        let due: Vec<_> = self
            .pending
            .extract_if(.., |(visible, ..)| *visible <= self.now)
            .collect();
        for (_, id, validated) in due {
            let demande = self.demandes.get_mut(&id).unwrap();
            (demande.validated, demande.listed) = (validated, true);
            self.changes.push(id);
        }
    }

    /// Everything that is under way becomes visible.
    fn settle(&mut self) {
        self.tick(COMMIT_DELAY_MS + 1);
    }

    fn some_listed(&mut self) -> Option<i64> {
        let listed = self.listed();
        (!listed.is_empty()).then(|| listed[self.rng.usize(..listed.len())])
    }

    fn leave(&mut self) -> Option<i64> {
        let id = self.some_listed()?;
        self.demandes.get_mut(&id)?.listed = false;
        self.changes.push(id);
        Some(id)
    }

    fn act(&mut self) {
        let ms = self.rng.i64(1..8_000);
        self.tick(ms);
        match self.rng.u8(..10) {
            0..3 => self.enter(),
            3 => (0..self.rng.usize(..30)).for_each(|_| self.enter()),
            4 => {
                for _ in 0..self.rng.usize(..30) {
                    self.leave();
                }
            }
            5 => {
                self.leave();
            }
            6..8 => {
                // Reopened, and soon approved again or cancelled: a new time either way.
                if let Some(id) = self.leave() {
                    self.validate(id);
                }
            }
            8 => {
                if let Some(id) = self.some_listed() {
                    self.demandes.get_mut(&id).unwrap().valid = true;
                    self.changes.push(id);
                }
            }
            _ => {}
        }
    }

    fn listed(&self) -> Vec<i64> {
        self.demandes
            .iter()
            .filter(|(_, it)| it.listed)
            .map(|(id, _)| *id)
            .collect()
    }

    /// A page of the list as it is now; rows that tie swap between two requests only while it moves.
    fn page(&mut self, offset: u64, limit: usize, moving: bool) -> Vec<Element> {
        let mut listed = self.listed();
        if moving {
            self.rng.shuffle(&mut listed);
        }
        listed.sort_by_key(|id| std::cmp::Reverse(self.demandes[id].created));
        let rows = listed
            .into_iter()
            .skip(offset as usize)
            .take(limit.min(self.cap));
        rows.map(|id| self.element(id)).collect()
    }

    fn element(&self, id: i64) -> Element {
        let demande = &self.demandes[&id];
        let demande_id = format!("D{id}").parse().unwrap();
        let authorization_id: datapass_pull::types::AuthorizationId =
            format!("public-{id}").parse().unwrap();
        let entity = Entity::new(EntityType::Commune, "69123").unwrap();
        let valid = Valid {
            authorization_id: authorization_id.clone(),
            demande_id,
            siret: "21690123100011"
                .parse()
                .unwrap_or_else(|_| "35600000000048".parse().unwrap()),
            level: "3".parse().unwrap(),
            perimeter: Perimeter::new(Some(entity), Vec::new()).unwrap(),
            transmission_date: None,
        };
        let rejected = Rejected {
            authorization_id: Some(authorization_id),
            faults: vec![Fault {
                field: "siret",
                rule: "checksum",
            }],
        };
        let entry = Entry {
            of_definition: true,
            last_validated_at: ValidatedAt::At(instant(demande.validated)),
            body: if demande.valid {
                Ok(valid)
            } else {
                Err(rejected)
            },
        };
        Element {
            key: Key::Id(demande_id),
            created_at: Some(instant(demande.created)),
            entry: demande.ours.then_some(entry),
        }
    }
}

/// What a listing returned, and what it cost.
struct Listed {
    elements: HashMap<Key, Element>,
    requests: u64,
    drift_rewinds: u64,
}

/// Drives the real judgement as its driver does, with answers in any order.
fn list(
    upstream: &mut Upstream,
    limit: usize,
    concurrency: usize,
    moving: bool,
) -> Result<Listed, Unproved> {
    upstream.moves_left = 25;
    // What the list had last time may be unknown, right, or anything.
    let expected_rows = match upstream.rng.u8(..3) {
        0 => None,
        1 => Some(upstream.listed().len() as u64),
        _ => Some(upstream.rng.u64(..200)),
    };
    let mut paging = Paging::new(limit, concurrency, expected_rows);
    let mut in_flight: VecDeque<(u64, Option<Vec<Element>>)> = VecDeque::new();
    let (mut elements, mut requests) = (HashMap::new(), 0);
    while !paging.is_complete() {
        while let Some(offset) = paging.ask() {
            requests += 1;
            in_flight.push_back((offset, None));
        }
        let waiting = usize::from(expected_rows.is_some());
        assert!(in_flight.len() <= concurrency + waiting);
        while in_flight[0].1.is_none() {
            if moving && upstream.moves_left > 0 && upstream.rng.u8(..3) == 0 {
                upstream.moves_left -= 1;
                upstream.act();
            }
            let nth = upstream.rng.usize(..in_flight.len());
            let offset = in_flight[nth].0;
            let page = upstream.page(offset, limit, moving);
            in_flight[nth].1.get_or_insert(page);
        }
        let page = in_flight.pop_front().unwrap().1.unwrap();
        if paging.judge(&page)? {
            elements.extend(
                page.into_iter()
                    .map(|element| (element.key.clone(), element)),
            );
        }
        if paging.in_flight() == 0 {
            in_flight.clear();
        }
        assert!(requests < 10_000, "bounded");
    }
    let drift_rewinds = paging.drift_rewinds();
    Ok(Listed {
        elements,
        requests,
        drift_rewinds,
    })
}

#[derive(Default)]
struct Tables {
    rows: BTreeMap<String, u32>,
    open: BTreeSet<String>,
    watermark: Option<DateTime<Utc>>,
}

/// One cycle; another one may commit between its listing and its own transaction.
fn cycle(upstream: &mut Upstream, tables: &mut Tables, moving: bool, nested: bool) -> bool {
    let (limit, concurrency) = (1 + upstream.rng.usize(..50), 1 + upstream.rng.usize(..4));
    let since = tables
        .watermark
        .map(|watermark| advance::since(watermark, LOOKBACK));
    let tracked: Tracked = tables
        .open
        .iter()
        .map(|it| (it.clone(), Known::default()))
        .collect();
    let clock = instant(upstream.now / 1000 * 1000);
    let (before, from) = (upstream.listed(), upstream.changes.len());
    let Ok(listed) = list(upstream, limit, concurrency, moving) else {
        assert!(
            moving,
            "a list that stands still is always proved ({limit}, {concurrency})"
        );
        COUNTS.lock().unwrap().listings_given_up += 1;
        return false;
    };
    {
        let mut counts = COUNTS.lock().unwrap();
        counts.listings_proved += 1;
        counts.requests += listed.requests;
        counts.drift_rewinds += listed.drift_rewinds;
    }
    let changed: BTreeSet<i64> = upstream.changes[from..].iter().copied().collect();
    // As they were when the listing ended: another cycle may take its time from here on.
    let still: Vec<(i64, Demande)> = before
        .into_iter()
        .filter(|id| !changed.contains(id))
        .map(|id| (id, upstream.demandes[&id].clone()))
        .collect();
    for (id, _) in &still {
        let key = upstream.element(*id).key;
        assert!(
            listed.elements.contains_key(&key),
            "D{id} stood still and was lost"
        );
    }
    if nested {
        cycle(upstream, tables, moving, false);
    }
    if upstream.rng.u8(..10) == 0 {
        return false; // It died before the commit.
    }
    let plan = Plan::new(
        listed.elements.into_values().collect(),
        since,
        clock,
        tracked,
    );
    let mut oldest_rejected = None;
    for entry in &plan.matched {
        let public_id = entry.entry.authorization_id().unwrap().as_str().to_owned();
        let time = entry.entry.last_validated_at.time();
        if tables.rows.contains_key(&public_id) {
            tables.open.remove(&entry.reference);
        } else if entry.entry.body.is_ok() {
            *tables.rows.entry(public_id).or_default() += 1;
            tables.open.remove(&entry.reference);
        } else {
            tables.open.insert(entry.reference.clone());
            oldest_rejected = [oldest_rejected, time].into_iter().flatten().min();
        }
    }
    for reference in &plan.left {
        tables.open.remove(reference);
    }
    let covered = Covered {
        since,
        lookback: LOOKBACK,
        newest: plan.newest,
        oldest_rejected,
    };
    let next = advance::watermark(tables.watermark, covered);
    assert!(next >= tables.watermark, "the watermark went back");
    tables.watermark = next;
    for (id, demande) in still {
        let in_time = since.is_none_or(|since| instant(demande.validated) >= since);
        if demande.ours && demande.valid && in_time {
            assert!(
                tables.rows.contains_key(&format!("public-{id}")),
                "D{id} has no row"
            );
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: HISTORIES, ..ProptestConfig::default() })]

    /// Nothing is lost and nothing happens twice, whatever moves.
    #[test]
    fn histories(seed in any::<u64>()) {
        let mut upstream = Upstream::new(seed);
        let mut tables = Tables::default();
        for _ in 0..4 {
            let nested = upstream.rng.u8(..4) == 0;
            cycle(&mut upstream, &mut tables, true, nested);
            let idle = upstream.rng.i64(1..200_000);
            upstream.tick(idle);
        }
        upstream.settle();
        while !cycle(&mut upstream, &mut tables, false, false) {}
        for id in upstream.listed() {
            let demande = &upstream.demandes[&id];
            let public_id = format!("public-{id}");
            if demande.ours && demande.valid {
                prop_assert!(tables.rows.contains_key(&public_id), "{} is lost", public_id);
            }
        }
        prop_assert!(tables.rows.values().all(|rows| *rows == 1));
        let mut counts = COUNTS.lock().unwrap();
        counts.histories += 1;
        counts.rows += tables.rows.len();
        if counts.histories == HISTORIES {
            println!("{counts:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A list that stands still is always proved, at near the plain count of requests.
    #[test]
    fn quiet_lists(seed in any::<u64>(), rows in 0_usize..300, limit in 1_usize..60, at_once in 1_usize..5) {
        let mut upstream = Upstream::new(seed);
        upstream.demandes.clear();
        upstream.pending.clear();
        (0..rows).for_each(|_| upstream.enter());
        upstream.settle();
        let listed = list(&mut upstream, limit, at_once, false);
        let listed = listed.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(listed.elements.len(), rows);
        let page = limit.min(upstream.cap);
        if page >= 5 && upstream.ties == 1 && rows < page {
            prop_assert!(listed.requests <= 6, "{} requests for one page", listed.requests);
        }
    }
}

/// Reads a list whose server does as told.
fn read(limit: usize, mut serve: impl FnMut(u64) -> Vec<Element>) -> Result<usize, Unproved> {
    let mut paging = Paging::new(limit, 1, None);
    while let Some(offset) = paging.ask() {
        paging.judge(&serve(offset))?;
    }
    Ok(paging.seen())
}

fn rows(upstream: &Upstream, ids: impl Iterator<Item = i64>) -> Vec<Element> {
    ids.map(|id| Element {
        created_at: Some(instant(-id)),
        ..upstream.element(id)
    })
    .collect()
}

fn ten() -> Upstream {
    let mut upstream = Upstream::new(7);
    (0..30).for_each(|_| upstream.enter());
    upstream
}

#[test]
fn a_server_that_does_not_page_gives_the_whole_list_or_an_error() {
    let upstream = ten();
    assert_eq!(read(20, |_| rows(&upstream, 1..=10)), Ok(10));
    assert_eq!(
        read(10, |_| rows(&upstream, 1..=10)),
        Err(Unproved::NoPaging)
    );
}

#[test]
fn rows_without_order_or_time_are_read_twice() {
    let upstream = ten();
    let page = |offset: u64, change: fn(&mut Element)| {
        let mut all = rows(&upstream, (1..=25).rev());
        all.iter_mut().for_each(change);
        all.into_iter().skip(offset as usize).take(10).collect()
    };
    assert_eq!(read(10, |offset| page(offset, |_| ())), Ok(25));
    assert_eq!(
        read(10, |offset| page(offset, |row| row.created_at = None)),
        Ok(25)
    );
    assert_eq!(
        read(10, |offset| page(offset, |row| row.created_at =
            Some(instant(0)))),
        Ok(25)
    );
}

#[test]
fn a_tie_that_never_stands_still_is_not_proved() {
    let upstream = ten();
    let mut shift = 0;
    let serve = |offset: u64| {
        shift += 1;
        let tied = rows(&upstream, 1..=25).into_iter();
        let tied = tied.map(|row| Element {
            created_at: Some(instant(0)),
            ..row
        });
        let mut tied: Vec<Element> = tied.collect();
        tied.rotate_left(shift % 25);
        tied.into_iter().skip(offset as usize).take(10).collect()
    };
    assert_eq!(read(10, serve), Err(Unproved::Tie));
}
