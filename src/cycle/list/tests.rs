//! Tests of whole listings, over a model of DataPass.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use reqwest::StatusCode;

use super::fetcher::Page;
use super::*;
use crate::cycle::outcome::Outcome;
use crate::state::runs::Run;
use crate::state::summary::Summary;
use crate::types::entry::Element;

/// A list of `entries` entries and as many demandes of another definition, newest first.
fn rows(entries: i64) -> Vec<Element> {
    let row = |id: i64| Element {
        key: Key::Id(id.try_into().unwrap()),
        created_at: DateTime::from_timestamp(-id, 0),
        last_validated_at: Ok(None),
        entry: (id % 2 == 1).then(|| Entry {
            reference: format!("D{id}"),
            demande_id: None,
            authorization_id: None,
            last_validated_at: Ok(None),
            of_definition: true,
            body: Err(Vec::new()),
        }),
    };
    (1..=2 * entries).map(row).collect()
}

/// What DataPass answers, and what it was asked.
#[derive(Clone)]
struct Model(Arc<Mutex<State>>);

struct State {
    /// Returns the list that a request sees: in which reading, counted from 0, and which one there,
    /// counted from 1.
    list: Box<dyn Fn(usize, u64) -> Vec<Element> + Send>,
    /// Returns the `Date` of that response.
    date: fn(u64) -> Option<DateTime<Utc>>,
    /// Whether the account sees the definition, or why that cannot be read.
    definition: Result<bool, Reason>,
    /// How many pages this reading asked for.
    asked: u64,
    asked_definitions: u64,
    reconnections: Vec<u32>,
}

impl Model {
    fn new(list: impl Fn(usize, u64) -> Vec<Element> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State {
            list: Box::new(list),
            date: |_| None,
            definition: Ok(true),
            asked: 0,
            asked_definitions: 0,
            reconnections: Vec::new(),
        })))
    }

    fn definition(self, definition: Result<bool, Reason>) -> Self {
        self.0.lock().unwrap().definition = definition;
        self
    }

    /// Lists in pages of ten, one after the other.
    fn list(&self, history: &History) -> Result<Listing> {
        let outcome = SharedOutcome::new(Outcome::start(Run::start(Summary::default())));
        list(Arc::new(self.clone()), 10, 1, history, &outcome)
    }

    /// Returns how often the definitions were asked for, and the retries that were waited for.
    fn asked(&self) -> (u64, Vec<u32>) {
        let state = self.0.lock().unwrap();
        (state.asked_definitions, state.reconnections.clone())
    }
}

impl Source for Model {
    fn page(&self, ask: Ask, _: &AtomicBool) -> Result<Page> {
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        let number = state.asked;
        let list = (state.list)(state.reconnections.len(), number).into_iter();
        Ok(Page {
            elements: list.skip(ask.offset as usize).take(ask.limit).collect(),
            meta: Meta {
                date: (state.date)(number),
                elapsed: Duration::from_secs(5),
                status: StatusCode::OK,
            },
        })
    }

    fn lack_of_access(&self) -> Result<Option<Failure>> {
        let mut state = self.0.lock().unwrap();
        state.asked_definitions += 1;
        match state.definition {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(failure(Reason::NoDefinition))),
            Err(reason) => Err(failure(reason)),
        }
    }

    fn reconnect(&self, retry: u32, reason: Failure) -> Result<()> {
        assert_eq!(reason.reason, Reason::ViewChanged);
        let mut state = self.0.lock().unwrap();
        state.reconnections.push(retry);
        state.asked = 0;
        Ok(())
    }
}

fn after(seen: u64) -> History {
    History { last_seen: Some(seen), ..History::default() }
}

fn failure(reason: Reason) -> Failure {
    Failure::new(Stage::List, reason, "made for a test")
}

fn reason(listing: Result<Listing>) -> Reason {
    listing.unwrap_err().reason
}

#[test]
fn an_unchanged_list_needs_no_request_for_definitions() {
    for last in [History::default(), after(30), after(0)] {
        let model = Model::new(|_, _| rows(15));
        assert_eq!(model.list(&last).unwrap().entries.len(), 15);
        assert_eq!(model.asked(), (0, vec![]));
    }
}

#[test]
fn an_empty_list_is_read_again_when_it_had_rows() {
    // Never, or not in the last success.
    for last in [History::default(), after(0)] {
        let model = Model::new(|_, _| vec![]);
        assert!(model.list(&last).unwrap().entries.is_empty());
        assert_eq!(model.asked(), (1, vec![]));
    }
    let model = Model::new(|_, _| vec![]);
    assert!(model.list(&after(30)).unwrap().entries.is_empty());
    assert_eq!(model.asked(), (1, vec![0, 1, 2]));
    for empty in 1..=3 {
        let model = Model::new(move |reading, _| rows(if reading < empty { 0 } else { 15 }));
        assert_eq!(model.list(&after(30)).unwrap().entries.len(), 15);
        assert_eq!(model.asked(), (0, (0..empty as u32).collect()));
    }
}

#[test]
fn a_list_that_shrinks_during_the_listing_is_read_again() {
    let none = &History::default();
    // All of it is gone from the second page on, and back for the second reading.
    let is_gone = |reading, number| reading == 0 && number > 1;
    let model =
        Model::new(move |reading, number| rows(if is_gone(reading, number) { 0 } else { 15 }));
    assert_eq!(model.list(none).unwrap().entries.len(), 15);
    assert_eq!(model.asked(), (1, vec![0]));

    // It stays away: the readings after the first one begin with an empty page.
    let gone =
        || Model::new(|reading, number| rows(if reading + number as usize > 1 { 0 } else { 15 }));
    let model = gone();
    assert!(model.list(none).unwrap().entries.is_empty());
    assert_eq!(model.asked(), (1, vec![0, 1, 2]));
    let model = gone().definition(Ok(false));
    assert_eq!(reason(model.list(none)), Reason::ViewChanged);
    assert_eq!(model.asked(), (1, vec![0, 1, 2]));

    // Only a part is gone, of the definition or not.
    for definition in [true, false] {
        let part = |number| {
            if number > 1 { rows(15).split_off(24) } else { rows(15) }
        };
        let model = Model::new(move |_, number| part(number)).definition(Ok(definition));
        assert_eq!(reason(model.list(none)), Reason::ViewChanged);
        assert_eq!(model.asked(), (0, vec![0, 1, 2]));
    }
}

#[test]
fn an_account_without_the_definition_is_transient_only_when_it_had_it() {
    let with_entries = History { had_entries: true, ..after(30) };
    let others = || rows(15).into_iter().filter(|row| row.entry.is_none()).collect();
    for (last, expected) in [
        (History::default(), Reason::NoDefinition),
        (after(30), Reason::NoDefinition),
        (with_entries, Reason::ViewChanged),
    ] {
        let model = Model::new(move |_, _| others()).definition(Ok(false));
        assert_eq!(reason(model.list(&last)), expected, "{last:?}");
        let model = Model::new(|_, _| vec![]).definition(Ok(false));
        assert_eq!(reason(model.list(&last)), expected, "{last:?}");
    }
    // The cycle itself listed entries: fewer demandes than before, or a step back, raise the question.
    let model = Model::new(|_, _| rows(15)).definition(Ok(false));
    assert_eq!(reason(model.list(&after(31))), Reason::ViewChanged);
    let model = Model::new(|_, number| match number {
        2 => rows(15).split_off(15),
        _ => rows(15),
    });
    let model = model.definition(Ok(false));
    assert_eq!(reason(model.list(&History::default())), Reason::ViewChanged);
    assert_eq!(model.asked(), (1, vec![]));
}

#[test]
fn a_failed_request_for_definitions_does_not_fail_the_listing() {
    let model = Model::new(|_, _| vec![]).definition(Err(Reason::ServerError));
    assert!(model.list(&History::default()).is_ok());
    for ends in [Reason::Deadline, Reason::Interrupted] {
        let model = Model::new(|_, _| vec![]).definition(Err(ends));
        assert_eq!(reason(model.list(&History::default())), ends);
    }
}

#[test]
fn the_clocks_are_the_earliest_and_the_latest_of_all_pages() {
    let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
    let model = Model::new(|_, _| rows(15));
    // A cache has stored the second page.
    model.0.lock().unwrap().date = |number| match number {
        2 => DateTime::from_timestamp(100, 0),
        3 => None,
        _ => DateTime::from_timestamp(7200 + number as i64, 0),
    };
    let listing = model.list(&History::default()).unwrap();
    assert_eq!(model.0.lock().unwrap().asked, 7);
    assert_eq!((listing.clocks.begin, listing.clocks.end), (at(95), at(7208)));

    let before = Utc::now();
    let clocks = Model::new(|_, _| rows(15)).list(&History::default()).unwrap().clocks;
    assert!(before <= clocks.begin && clocks.begin <= clocks.end);
    assert!(clocks.end <= Utc::now());
}

#[test]
fn clocks_are_compared_with_the_middle_of_the_second() {
    let offset = |milliseconds| {
        let date = Some(Utc::now() - TimeDelta::milliseconds(milliseconds));
        let meta = Meta { date, elapsed: Duration::ZERO, status: StatusCode::OK };
        clock_offset(meta).unwrap().num_seconds()
    };
    // A second that is nearly over, and a response that was slow to be read.
    assert_eq!([offset(1_100), offset(-400)], [0, 0]);
    assert_eq!([offset(2_600), offset(-1_900)], [2, -2]);
}

/// A source of which one page is not answered.
struct Stuck {
    is_asked: mpsc::Sender<()>,
    until: Mutex<Receiver<()>>,
    is_abandoned: mpsc::Sender<bool>,
}

impl Source for Stuck {
    fn page(&self, ask: Ask, is_abandoned: &AtomicBool) -> Result<Page> {
        if ask.offset > 0 {
            self.is_asked.send(()).unwrap();
            let _ = self.until.lock().unwrap().recv();
            let _ = self.is_abandoned.send(is_abandoned.load(Ordering::Relaxed));
        }
        Model::new(|_, _| rows(5)).page(ask, is_abandoned)
    }

    fn lack_of_access(&self) -> Result<Option<Failure>> {
        Ok(None)
    }

    fn reconnect(&self, _: u32, reason: Failure) -> Result<()> {
        Err(reason)
    }
}

#[test]
fn a_discarded_page_does_not_delay_the_others() {
    let (is_asked, asked) = mpsc::channel();
    let (end, until) = mpsc::channel();
    let (is_abandoned, abandoned) = mpsc::channel();
    let source = Arc::new(Stuck { is_asked, until: Mutex::new(until), is_abandoned });
    let ask = |offset| Ask { number: 1, offset, limit: 10 };
    let mut fetcher = Fetcher::start(source, 1).unwrap();
    fetcher.ask(ask(10));
    asked.recv().unwrap();
    fetcher.abandon().unwrap();
    fetcher.ask(ask(0));
    assert_eq!(fetcher.next().unwrap().elements.len(), 10);
    drop(end);
    assert_eq!(abandoned.recv(), Ok(true));
}

#[test]
fn elements_without_ids_are_not_merged() {
    let element = |text: u8, reference: &str| {
        let template = rows(1).remove(0);
        let entry = template.entry.map(|entry| Entry { reference: reference.to_owned(), ..entry });
        Element { key: Key::Text([text; 16]), entry, ..template }
    };
    let elements = vec![element(1, "09"), element(2, "09"), element(3, "08")];
    let model = Model::new(move |_, _| elements.clone());
    let listing = model.list(&History::default()).unwrap();
    let mut references: Vec<String> =
        listing.entries.into_iter().map(|entry| entry.reference).collect();
    references.sort();
    assert_eq!(references, ["01".repeat(16), "02".repeat(16), "08".to_owned()]);
}
