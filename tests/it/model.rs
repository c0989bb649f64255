//! Property tests: histories run the real paging, filter and watermark against a pure model of
//! DataPass and of the tables, without HTTP, database and threads.
//!
//! A history is a list of steps: changes upstream, before any response of any cycle or between
//! cycles, and what an operator does. Concurrent page requests are answered in any order, each from
//! its own snapshot. A failed history is shrunk, and can be added to [`regressions`].
//!
//! `PROPTEST_RNG_SEED=$RANDOM PROPTEST_CASES=100000 cargo test --test it model::` runs more histories.

// Prints statistics.
#![allow(clippy::print_stdout)]

mod exhaustive;
mod listings;
mod pages;
mod regressions;

mod tables;
mod upstream;

use std::cell::RefCell;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use tables::{Cycle, End, Tables};
use upstream::{Change, Kind, Upstream};

/// The number of histories when `PROPTEST_CASES` is not set
const HISTORIES: u32 = 4_000;

/// A step of a history.
#[derive(Debug, Clone)]
enum Step {
    /// Upstream changes.
    Upstream(Change),
    /// A cycle runs.
    Cycle(Cycle),
    /// An operator accepts one of the open rejections.
    Accept(u8),
    /// An operator withdraws an acceptance.
    Reopen(u8),
    /// An operator resets the watermark.
    Reset,
    /// An operator sets the watermark to this many seconds ago.
    Set(u16),
    /// The application deletes a row.
    Delete(u8),
    /// An operator deletes a handled entry that has no row.
    Forget(u8),
    /// The database is backed up, or restored from the backup.
    Backup { restore: bool },
}

/// A history from the first cycle on. At its end everything is listed, time passes, and two plain
/// cycles run without changes.
#[derive(Debug, Clone)]
struct History {
    /// The server's page size.
    cap: u8,
    /// The number of valid rows at the start.
    rows: u8,
    /// How many of these share each `created_at`.
    ties: u8,
    /// The steps, in order.
    steps: Vec<Step>,
}

/// Statistics of all histories.
#[derive(Debug, Default)]
struct Counts {
    histories: u64,
    cycles: u64,
    listings_proved: u64,
    listings_given_up: u64,
    requests: u64,
    drift_rewinds: u64,
    rows: usize,
}

impl Cycle {
    /// Describes a cycle without options and without changes meanwhile.
    fn plain() -> Self {
        Self {
            since: None,
            limit: 200,
            concurrency: 2,
            expected_rows: None,
            end: End::Commits,
            responses: Vec::new(),
            changes: Vec::new(),
        }
    }
}

/// Runs a history; the error names the violated property.
fn run_history(history: &History, counts: &mut Counts) -> Result<()> {
    let mut upstream = Upstream::new(history.cap, history.rows, history.ties);
    let mut tables = Tables::default();
    let mut saved = tables.clone();
    let mut overtaken: Option<tables::Listed> = None;
    for step in &history.steps {
        match step {
            Step::Upstream(it) => upstream.apply(*it),
            Step::Accept(nth) => tables.accept(*nth),
            Step::Reopen(nth) => tables.reopen(*nth),
            Step::Reset => tables.reset(),
            Step::Set(seconds) => {
                tables.set(upstream.clock() - TimeDelta::seconds((*seconds).into()));
            }
            Step::Delete(nth) => tables.delete(*nth),
            Step::Forget(nth) => tables.forget(*nth),
            Step::Backup { restore: false } => saved = tables.clone(),
            Step::Backup { restore: true } => tables = saved.clone(),
            Step::Cycle(cycle) => {
                counts.cycles += 1;
                let Some(listed) = tables.list(&mut upstream, cycle, counts)? else {
                    continue;
                };
                match cycle.end {
                    End::Crashes => {}
                    End::Commits => {
                        tables.commit(&listed)?;
                        overtaken.take().map_or(Ok(()), |it| tables.commit(&it))?;
                    }
                    End::Overtaken => {
                        let before = overtaken.replace(listed);
                        before.map_or(Ok(()), |it| tables.commit(&it))?;
                    }
                }
            }
        }
    }
    overtaken.map_or(Ok(()), |it| tables.commit(&it))?;
    for _ in 0..2 {
        upstream.settle();
        let last = tables.list(&mut upstream, &Cycle::plain(), counts)?;
        tables.commit(&last.context("a listing without changes was given up")?)?;
    }
    tables.check_complete(&upstream)?;
    counts.histories += 1;
    counts.rows += tables.row_count();
    Ok(())
}

/// How late a validation becomes visible; correctness does not depend on a limit.
fn late() -> impl Strategy<Value = u8> {
    prop_oneof![2 => Just(0_u8), 1 => any::<u8>()]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => Just(Kind::Valid),
        3 => Just(Kind::Invalid),
        1 => Just(Kind::Foreign),
        1 => Just(Kind::WithoutTime),
        1 => Just(Kind::Unreadable),
        1 => Just(Kind::Future),
    ]
}

fn upstream_change() -> impl Strategy<Value = Change> {
    let (place, nth, valid) = (any::<u8>, || 0..4_u8, any::<bool>);
    prop_oneof![
        3 => any::<u8>().prop_map(|seconds| Change::Wait { seconds }),
        8 => (any::<u8>(), kind(), late())
            .prop_map(|(created, kind, late)| Change::Submit { created, kind, late }),
        1 => (any::<u8>(), 0..30_u8).prop_map(|(created, rows)| Change::Burst { created, rows }),
        4 => place().prop_map(|place| Change::Reopen { place }),
        4 => place().prop_map(|place| Change::Revoke { place }),
        4 => (place(), 0..30_u8).prop_map(|(place, rows)| Change::Drain { place, rows }),
        4 => (nth(), valid(), late())
            .prop_map(|(nth, valid, late)| Change::Approve { nth, valid, late }),
        3 => (nth(), late()).prop_map(|(nth, late)| Change::Cancel { nth, late }),
        2 => (place(), valid()).prop_map(|(place, valid)| Change::Edit { place, valid }),
        1 => place().prop_map(|place| Change::Swap { place }),
        1 => (5..30_u8).prop_map(|rows| Change::Cap { rows }),
        1 => any::<bool>().prop_map(|all| Change::LoseRole { all }),
        2 => Just(Change::RegainRole),
        1 => (1..4_u8).prop_map(|responses| Change::BadWorker { responses }),
        2 => place().prop_map(|place| Change::Hide { place }),
    ]
}

fn cycle() -> impl Strategy<Value = Cycle> {
    let since = prop_oneof![4 => Just(None), 1 => (-600..60_i16).prop_map(Some)];
    let limit = prop_oneof![1 => Just(200_u8), 4 => 1..40_u8];
    let end =
        prop_oneof![8 => Just(End::Commits), 1 => Just(End::Overtaken), 1 => Just(End::Crashes)];
    let changes = vec((0..12_u8, upstream_change()), 0..8);
    let ahead = (1..=4_u8, proptest::option::of(0..120_u8));
    (since, limit, ahead, end, vec(0..5_u8, 0..12), changes).prop_map(
        |(since, limit, (concurrency, expected_rows), end, responses, changes)| Cycle {
            since,
            limit,
            concurrency,
            expected_rows,
            end,
            responses,
            changes,
        },
    )
}

fn history() -> impl Strategy<Value = History> {
    let step = prop_oneof![
        8 => cycle().prop_map(Step::Cycle),
        8 => upstream_change().prop_map(Step::Upstream),
        2 => (0..4_u8).prop_map(Step::Accept),
        1 => (0..4_u8).prop_map(Step::Reopen),
        1 => Just(Step::Reset),
        1 => (0..600_u16).prop_map(Step::Set),
        2 => any::<u8>().prop_map(Step::Delete),
        1 => any::<u8>().prop_map(Step::Forget),
        1 => any::<bool>().prop_map(|restore| Step::Backup { restore }),
    ];
    let cap = prop_oneof![1 => Just(200_u8), 2 => 5..30_u8];
    let ties = prop_oneof![2 => Just(1_u8), 1 => 2..8_u8];
    let parts = (cap, 0..50_u8, ties, vec(step, 1..12));
    parts.prop_map(|(cap, rows, ties, steps)| History { cap, rows, ties, steps })
}

#[test]
fn no_history_loses_an_entry_or_creates_it_twice() {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = HISTORIES;
    }
    let counts = RefCell::default();
    let outcome = TestRunner::new(config).run(&history(), |history| {
        run_history(&history, &mut counts.borrow_mut())
            .map_err(|error| TestCaseError::fail(error.to_string()))
    });
    match outcome {
        Ok(()) => println!("{:?}", counts.into_inner()),
        Err(TestError::Fail(reason, history)) => panic!("{reason}: {history:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
