//! Small lists, and everything that may happen to them between two answers.

use std::collections::BTreeSet;

use datapass_pull::types::entry::Key;

use super::listings::{Row, distinct, page, row};
use super::pages;

/// Something that happens to a small list; a place is an index in it.
#[derive(Debug, Clone, Copy)]
enum Small {
    /// The row there leaves.
    Leave(usize),
    /// The row there leaves with as many behind it.
    LeaveWith(usize, usize),
    /// The row that left last comes back, validated anew.
    Return,
    /// A row enters there, and ties with the one that it pushes down.
    EnterTied(usize),
    /// A row enters there that ties with none.
    Enter(usize),
    /// The row there and the next one swap, if they tie.
    Swap(usize),
}

/// A small list that moves.
struct SmallList {
    rows: Vec<Row>,
    /// The rows that left, in this order.
    left: Vec<Row>,
    moves: i64,
}

impl SmallList {
    fn make(&mut self, step: Small) {
        self.moves += 1;
        let new_id = 100 + self.moves;
        let rows = &mut self.rows;
        match step {
            Small::Leave(place) if place < rows.len() => self.left.push(rows.remove(place)),
            Small::LeaveWith(place, more) if place + more < rows.len() => {
                self.left.extend(rows.drain(place..=place + more));
            }
            Small::Return => {
                if let Some(back) = self.left.pop() {
                    let place = rows.partition_point(|other| other.created > back.created);
                    let validated = self.moves;
                    rows.insert(place, Row { validated, ..back });
                }
            }
            Small::EnterTied(place) if place < rows.len() => {
                rows.insert(place, row(new_id, rows[place].created));
            }
            Small::Enter(place) if place <= rows.len() => {
                let created = match place.checked_sub(1) {
                    None => new_id,
                    Some(above) => rows[above].created - 1,
                };
                if rows.get(place).is_none_or(|below| below.created < created) {
                    rows.insert(place, row(new_id, created));
                }
            }
            Small::Swap(place) => {
                if let Some([one, other]) = rows.get_mut(place..place + 2)
                    && one.created == other.created
                {
                    std::mem::swap(one, other);
                }
            }
            _ => {}
        }
    }
}

/// Everything that may happen to a list of so many rows.
fn all_moves(rows: usize) -> Vec<Small> {
    let mut moves = Vec::new();
    for place in 0..rows {
        moves.extend([
            Small::Leave(place),
            Small::LeaveWith(place, 1),
            Small::LeaveWith(place, 2),
            Small::Enter(place),
            Small::EnterTied(place),
            Small::Swap(place),
        ]);
    }
    moves.extend([Small::Enter(rows), Small::Return]);
    moves
}

/// How a small list is read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    limit: usize,
    concurrency: usize,
    expected_rows: Option<u64>,
    /// Whether the page that was asked for last is answered first.
    last_first: bool,
}

#[derive(Debug, Default)]
struct Explored {
    proved: u64,
    given_up: u64,
    requests: u64,
}

/// Reads the list under every placement of up to `more` further moves, none before the first answer.
fn explore(
    list: &[Row],
    reading: Reading,
    moves: &mut Vec<(usize, Small)>,
    more: usize,
    explored: &mut Explored,
) {
    let mut now = SmallList { rows: list.to_vec(), left: Vec::new(), moves: 0 };
    let mut stable: BTreeSet<i64> = list.iter().map(|row| row.id).collect();
    let mut answers = 0;
    let (limit, concurrency) = (reading.limit, reading.concurrency);
    let proved = pages::read(limit, concurrency, reading.expected_rows, |open| {
        for (_, step) in moves.iter().filter(|(at, _)| *at == answers) {
            now.make(*step);
        }
        answers += 1;
        stable.retain(|id| now.rows.iter().any(|row| row.id == *id));
        let nth = if reading.last_first { open.len() - 1 } else { 0 };
        (nth, page(&now.rows, open[nth], limit))
    });
    explored.requests += answers as u64;
    match proved {
        Err(error) => {
            let few = moves.len() < 2;
            assert!(!few, "given up, {error}: {list:?}, {reading:?}, {moves:?}");
            explored.given_up += 1;
        }
        Ok(proved) => {
            explored.proved += 1;
            for id in stable {
                let key = Key::Id(id.try_into().unwrap());
                assert!(
                    proved.elements.contains_key(&key),
                    "D{id} is stable and is not listed: {list:?}, {reading:?}, {moves:?}"
                );
            }
        }
    }
    let Some(more) = more.checked_sub(1) else {
        return;
    };
    let from = moves.last().map_or(1, |(at, _)| *at);
    for at in from..answers {
        for step in all_moves(list.len()) {
            moves.push((at, step));
            explore(list, reading, moves, more, explored);
            moves.pop();
        }
    }
}

/// All lists of up to five rows, all the ways in which they tie, and every placement of a move; of two
/// moves for four rows. With `PROPTEST_CASES` set, lists of up to seven rows, and two moves for all
/// with few ties: that takes a quarter of an hour.
#[test]
fn no_move_of_a_small_list_loses_a_row() {
    let all = std::env::var_os("PROPTEST_CASES").is_some();
    let mut explored = Explored::default();
    for rows in 1..=7_u32 {
        for ties in 0..1_u32 << (rows - 1) {
            let tie_count = ties.count_ones();
            let sampled = match rows {
                7 => tie_count == 0 || tie_count == 6,
                _ => rows <= 5,
            };
            if !all && !sampled {
                continue;
            }
            let mut created = 0;
            let list: Vec<Row> = (0..rows)
                .map(|nth| {
                    let ties_with_last = nth > 0 && ties >> (nth - 1) & 1 == 1;
                    created -= i64::from(!ties_with_last) * 10;
                    row(i64::from(nth) + 1, created)
                })
                .collect();
            for limit in 1..=5 {
                for (concurrency, expected_rows) in [(1, None), (2, Some(7)), (3, None)] {
                    // Such pages are read one after the other.
                    if limit < 3 && concurrency > 1 {
                        continue;
                    }
                    let reading =
                        Reading { limit, concurrency, expected_rows, last_first: concurrency > 1 };
                    let two = limit > 2 && (tie_count == 0 && rows == 4 || all && tie_count < 3);
                    let moves = 1 + usize::from(two);
                    explore(&list, reading, &mut Vec::new(), moves, &mut explored);
                }
            }
        }
    }
    println!("{explored:?}");
}

/// Reads a small list row by row, so that it is read twice, while this happens; nothing is lost.
fn read_twice(list: &[Row], moves: &[(usize, Small)]) {
    let reading = Reading { limit: 1, concurrency: 1, expected_rows: None, last_first: false };
    let mut explored = Explored::default();
    explore(list, reading, &mut moves.to_vec(), 0, &mut explored);
    assert_eq!((explored.proved, explored.given_up), (1, 0));
}

/// A row that is away whenever the list is read to its end makes room for one that is never seen. Both
/// readings give the same rows; only its new validation shows that it was away.
#[test]
fn a_row_that_leaves_and_returns_between_two_readings_hides_none() {
    let moves = [(2, Small::Leave(0)), (4, Small::Return), (5, Small::Leave(0))];
    read_twice(&distinct(3), &moves);
}

/// Two rows that tie swap while either reading goes by: both see one of them twice, and the other not.
#[test]
fn a_row_that_is_read_twice_hides_none_that_it_swaps_with() {
    let moves = [(2, Small::Swap(0)), (6, Small::Swap(0)), (7, Small::Swap(0))];
    read_twice(&[row(1, 0), row(2, 0), row(3, 0)], &moves);
}

/// One reading that has a row twice ends too far down to show that there is no other; that the second
/// one has each row once does not make up for it.
#[test]
fn a_row_that_is_read_twice_at_first_hides_none_that_another_makes_room_for() {
    let moves = [(3, Small::Swap(1)), (7, Small::Leave(0))];
    read_twice(&[row(1, 0), row(2, 0), row(3, 0)], &moves);
}
