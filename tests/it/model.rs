//! A pure model of DataPass and of the tables drives the real paging, filter and watermark through
//! histories: no HTTP, no database, no threads.
//!
//! A history is a list of steps: what happens upstream, before any answer of any cycle or between
//! cycles, and what an operator does. Pages in flight are answered in any order, each from a snapshot
//! of its own. A history that fails is shrunk to its shortest form, which [`regressions`] can keep.
//!
//! `PROPTEST_CASES=100000 cargo test --test it model::` drives more of them.

// What was tried is for a person to read.
#![allow(clippy::print_stdout)]

mod listings;
mod pages;
mod regressions;
mod small;
mod tables;
mod upstream;

use std::cell::RefCell;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use tables::{Cycle, End, Tables};
use upstream::{Kind, Move, Upstream};

/// How many histories are driven when `PROPTEST_CASES` does not say.
const HISTORIES: u32 = 4_000;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// Upstream moves.
    Upstream(Move),
    /// A cycle runs.
    Cycle(Cycle),
    /// An operator accepts one of the open rejections.
    Accept(u8),
    /// An operator withdraws an acceptance.
    Reopen(u8),
    /// An operator resets the watermark.
    Reset,
    /// An operator sets the watermark, so many seconds ago.
    Set(u16),
    /// The application deletes a row.
    Delete(u8),
    /// An operator deletes an entry without a row from the handled ones.
    Forget(u8),
    /// The database is saved, or set back to what was saved.
    Backup { restore: bool },
}

/// A history from the first cycle on. At its end everything is shown, time passes, and two quiet
/// plain cycles run.
#[derive(Debug, Clone)]
struct History {
    /// The server's page size.
    cap: u8,
    /// The valid rows that it begins with.
    rows: u8,
    /// How many of these share each `created_at`.
    ties: u8,
    /// What happens, in order.
    steps: Vec<Step>,
}

/// What the histories did together.
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
    /// A cycle without options while nothing moves.
    fn plain() -> Self {
        Self {
            since: None,
            limit: 200,
            concurrency: 2,
            expected_rows: None,
            end: End::Commits,
            answers: Vec::new(),
            moves: Vec::new(),
        }
    }
}

/// Drives a history; the error says what does not hold.
fn drive(history: &History, counts: &mut Counts) -> Result<()> {
    let mut upstream = Upstream::new(history.cap, history.rows, history.ties);
    let mut tables = Tables::default();
    let mut saved = tables.clone();
    let mut overtaken: Option<tables::Listed> = None;
    for step in &history.steps {
        match step {
            Step::Upstream(it) => upstream.make(*it),
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
                    End::Dies => {}
                    End::Commits => {
                        tables.commit(&listed)?;
                        overtaken.take().map_or(Ok(()), |it| tables.commit(&it))?;
                    }
                    End::IsOvertaken => {
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
        tables.commit(&last.context("the last cycles are quiet")?)?;
    }
    tables.check_complete(&upstream)?;
    counts.histories += 1;
    counts.rows += tables.row_count();
    Ok(())
}

/// How late a validation becomes visible: safety rests on no bound for it.
fn late() -> impl Strategy<Value = u8> {
    prop_oneof![2 => Just(0_u8), 1 => any::<u8>()]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => Just(Kind::Valid),
        3 => Just(Kind::Invalid),
        1 => Just(Kind::Foreign),
        1 => Just(Kind::Timeless),
        1 => Just(Kind::Unreadable),
        1 => Just(Kind::Future),
    ]
}

fn upstream_move() -> impl Strategy<Value = Move> {
    let (place, nth, valid) = (any::<u8>, || 0..4_u8, any::<bool>);
    prop_oneof![
        3 => any::<u8>().prop_map(|seconds| Move::Wait { seconds }),
        8 => (any::<u8>(), kind(), late())
            .prop_map(|(created, kind, late)| Move::Submit { created, kind, late }),
        1 => (any::<u8>(), 0..30_u8).prop_map(|(created, rows)| Move::Burst { created, rows }),
        4 => place().prop_map(|place| Move::Reopen { place }),
        4 => place().prop_map(|place| Move::Revoke { place }),
        4 => (place(), 0..30_u8).prop_map(|(place, rows)| Move::Drain { place, rows }),
        4 => (nth(), valid(), late())
            .prop_map(|(nth, valid, late)| Move::Approve { nth, valid, late }),
        3 => (nth(), late()).prop_map(|(nth, late)| Move::Cancel { nth, late }),
        2 => (place(), valid()).prop_map(|(place, valid)| Move::Edit { place, valid }),
        1 => place().prop_map(|place| Move::Swap { place }),
        1 => (5..30_u8).prop_map(|rows| Move::Cap { rows }),
        1 => any::<bool>().prop_map(|all| Move::LoseRole { all }),
        2 => Just(Move::RegainRole),
        1 => (1..4_u8).prop_map(|answers| Move::BadWorker { answers }),
        2 => place().prop_map(|place| Move::Hide { place }),
    ]
}

fn cycle() -> impl Strategy<Value = Cycle> {
    let since = prop_oneof![4 => Just(None), 1 => (-600..60_i16).prop_map(Some)];
    let limit = prop_oneof![1 => Just(200_u8), 4 => 1..40_u8];
    let end =
        prop_oneof![8 => Just(End::Commits), 1 => Just(End::IsOvertaken), 1 => Just(End::Dies)];
    let moves = vec((0..12_u8, upstream_move()), 0..8);
    let ahead = (1..=4_u8, proptest::option::of(0..120_u8));
    (since, limit, ahead, end, vec(0..5_u8, 0..12), moves).prop_map(
        |(since, limit, (concurrency, expected_rows), end, answers, moves)| Cycle {
            since,
            limit,
            concurrency,
            expected_rows,
            end,
            answers,
            moves,
        },
    )
}

fn history() -> impl Strategy<Value = History> {
    let step = prop_oneof![
        8 => cycle().prop_map(Step::Cycle),
        8 => upstream_move().prop_map(Step::Upstream),
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

/// Nothing is lost and nothing happens twice, whatever moves.
#[test]
fn histories() {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = HISTORIES;
    }
    let counts = RefCell::default();
    let outcome = TestRunner::new(config).run(&history(), |history| {
        drive(&history, &mut counts.borrow_mut())
            .map_err(|error| TestCaseError::fail(error.to_string()))
    });
    match outcome {
        Ok(()) => println!("{:?}", counts.into_inner()),
        Err(TestError::Fail(reason, history)) => panic!("{reason}: {history:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
