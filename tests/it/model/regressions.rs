//! Histories that once went wrong, or would if one guard were gone: each name says which.

use super::upstream::Move;
use super::{Counts, Cycle, History, Step, drive};

fn holds(cap: u8, rows: u8, steps: Vec<Step>) {
    let history = History { cap, rows, steps };
    drive(&history, &mut Counts::default()).unwrap();
}

#[test]
fn a_page_answered_before_the_page_size_grew_is_not_the_end() {
    let cycle = Cycle {
        concurrency: 4,
        answers: vec![0, 0, 0, 1],
        moves: vec![(4, Move::Cap { rows: 14 })],
        ..Cycle::plain()
    };
    holds(9, 36, vec![Step::Cycle(cycle)]);
}

#[test]
fn pages_of_three_rows_share_enough_to_join() {
    let cycle = Cycle {
        limit: 3,
        concurrency: 4,
        expected_rows: Some(47),
        ..Cycle::plain()
    };
    holds(200, 43, vec![Step::Cycle(cycle)]);
}
