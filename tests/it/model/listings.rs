//! Single listings: the cost of an unchanged list, ties, changing page sizes, and unusual servers.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use datapass_pull::cycle::list::paging::Unproved;
use datapass_pull::types::entry::{Element, Key};

use super::pages;
use super::upstream::instant;

/// A row, with its times in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub id: i64,
    pub created: i64,
    pub validated: i64,
}

pub fn row(id: i64, created: i64) -> Row {
    Row { id, created, validated: 0 }
}

fn element(row: &Row) -> Element {
    Element {
        key: Key::Id(row.id.try_into().unwrap()),
        created_at: Some(instant(row.created)),
        last_validated_at: Ok(Some(instant(row.validated))),
        entry: None,
    }
}

pub fn page(list: &[Row], offset: u64, rows: usize) -> Vec<Element> {
    let from = list.iter().skip(offset as usize);
    from.take(rows).map(element).collect()
}

/// Makes rows with distinct `created_at`, newest first.
pub fn distinct(rows: i64) -> Vec<Row> {
    (1..=rows).map(|id| row(id, -id * 10)).collect()
}

/// Reads a list page by page.
fn read(limit: usize, mut serve: impl FnMut(u64) -> Vec<Element>) -> Result<usize, Unproved> {
    pages::read(limit, 1, None, |open| (0, serve(open[0]))).map(|proved| proved.elements.len())
}

/// Returns how many requests an unchanged list takes with a concurrency of 1, 2 and 4.
fn unchanged_list_requests(
    rows: i64,
    limit: usize,
    cap: usize,
    expected_rows: Option<u64>,
) -> [usize; 3] {
    let list = distinct(rows);
    [1, 2, 4].map(|concurrency| {
        let proved = pages::read(limit, concurrency, expected_rows, |open| {
            (0, page(&list, open[0], limit.min(cap)))
        });
        let proved = proved.unwrap();
        assert_eq!(proved.elements.len(), list.len());
        assert_eq!(proved.drift_rewinds, 0);
        proved.requests
    })
}

/// Exact counts: an unchanged list takes the pages that its rows fill and one page of the shared rows,
/// or two if the rows fill their pages exactly. If its length is unknown, it also takes the pages
/// requested in advance past its end; if pages are smaller than requested, also the pages requested
/// at the start from its length alone.
#[test]
fn an_unchanged_list_takes_one_request_more_than_it_has_pages() {
    // Rows, limit and the server's page size; requests with a concurrency of 1, 2 and 4 when the
    // length of the list is unknown, and when it is known.
    type Counts = [usize; 3];
    let table: [(i64, usize, usize, Counts, Counts); 38] = [
        (0, 1000, 1000, [1, 1, 1], [1, 1, 1]),
        (1, 1000, 1000, [1, 1, 1], [1, 1, 1]),
        (4, 1000, 1000, [1, 1, 1], [1, 1, 1]),
        (5, 1000, 1000, [2, 2, 2], [2, 2, 2]),
        (20, 1000, 1000, [2, 2, 2], [2, 2, 2]),
        (99, 1000, 1000, [2, 2, 2], [2, 2, 2]),
        (100, 1000, 1000, [2, 2, 2], [2, 2, 2]),
        (101, 1000, 1000, [2, 2, 2], [2, 2, 2]),
        (250, 1000, 1000, [2, 2, 2], [2, 2, 2]),
        (999, 1000, 1000, [2, 2, 2], [2, 2, 2]),
        (1000, 1000, 1000, [3, 4, 6], [3, 3, 3]),
        (1001, 1000, 1000, [3, 4, 6], [3, 3, 3]),
        (2500, 1000, 1000, [4, 5, 7], [4, 4, 4]),
        (0, 100, 1000, [1, 1, 1], [1, 1, 1]),
        (1, 100, 1000, [1, 1, 1], [1, 1, 1]),
        (4, 100, 1000, [1, 1, 1], [1, 1, 1]),
        (5, 100, 1000, [2, 2, 2], [2, 2, 2]),
        (20, 100, 1000, [2, 2, 2], [2, 2, 2]),
        (99, 100, 1000, [2, 2, 2], [2, 2, 2]),
        (100, 100, 1000, [3, 4, 6], [3, 3, 3]),
        (101, 100, 1000, [3, 4, 6], [3, 3, 3]),
        (250, 100, 1000, [4, 5, 7], [4, 4, 4]),
        (999, 100, 1000, [14, 15, 17], [14, 14, 14]),
        (1000, 100, 1000, [14, 15, 17], [14, 14, 14]),
        (1001, 100, 1000, [14, 15, 17], [14, 14, 14]),
        (2500, 100, 1000, [33, 34, 36], [33, 33, 33]),
        (99, 1000, 100, [2, 2, 2], [2, 2, 2]),
        (100, 1000, 100, [2, 2, 2], [2, 2, 2]),
        (101, 1000, 100, [3, 3, 3], [2, 2, 2]),
        (250, 1000, 100, [4, 5, 7], [5, 5, 5]),
        (999, 1000, 100, [14, 15, 17], [15, 15, 15]),
        (1000, 1000, 100, [14, 15, 17], [15, 16, 16]),
        (1001, 1000, 100, [14, 15, 17], [15, 16, 16]),
        (2500, 1000, 100, [32, 32, 34], [33, 34, 35]),
        (20, 1000, 20, [2, 2, 2], [2, 2, 2]),
        (99, 1000, 20, [10, 10, 12], [11, 11, 11]),
        (100, 1000, 20, [10, 10, 12], [11, 11, 11]),
        (250, 1000, 20, [25, 25, 27], [26, 26, 26]),
    ];
    for (rows, limit, cap, unknown, known) in table {
        let of = format!("{rows} rows, limit {limit}, cap {cap}");
        assert_eq!(unchanged_list_requests(rows, limit, cap, None), unknown, "{of}");
        let expected_rows = Some(rows as u64);
        assert_eq!(unchanged_list_requests(rows, limit, cap, expected_rows), known, "{of}");
    }
}

/// The server's page size changes before any response, up or down, while the rows are unchanged; also
/// to exactly the number of rows that two pages share.
#[test]
fn no_row_is_lost_when_the_page_size_changes_during_the_listing() {
    let list = distinct(250);
    for (before, after) in [
        (100, 60),
        (60, 100),
        (100, 21),
        (100, 20),
        (100, 10),
        (40, 21),
        (20, 11),
        (40, 20),
        (26, 13),
        (20, 10),
        (10, 5),
        (30, 200),
        (200, 5),
    ] {
        for concurrency in [1, 2, 4] {
            for at in 1..20 {
                let mut responses = 0;
                let proved = pages::read(1000, concurrency, None, |open| {
                    responses += 1;
                    let rows = if responses <= at { before } else { after };
                    (0, page(&list, open[0], rows))
                });
                let listed = proved.unwrap().elements.len();
                assert_eq!(listed, 250, "{before} to {after} after {at} responses, {concurrency}");
            }
        }
    }
}

/// The page size is random for each response, and rows enter and leave between responses.
#[test]
fn no_row_is_lost_with_random_page_sizes() {
    let mut proved = 0;
    for seed in 0..4000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut list = distinct(rng.i64(0..120));
        let mut stable: BTreeSet<i64> = list.iter().map(|row| row.id).collect();
        let (moves, concurrency) = (rng.usize(0..12), rng.usize(1..=4));
        let mut next_id = 1000;
        let outcome = pages::read(1000, concurrency, None, |open| {
            if !list.is_empty() && rng.usize(0..12) < moves {
                let gone = list.remove(rng.usize(0..list.len()));
                stable.remove(&gone.id);
            }
            if rng.usize(0..12) < moves {
                next_id += 1;
                list.insert(0, row(next_id, next_id));
            }
            let nth = rng.usize(0..open.len());
            (nth, page(&list, open[nth], rng.usize(5..30)))
        });
        let Ok(listing) = outcome else { continue };
        proved += 1;
        for id in stable {
            let key = Key::Id(id.try_into().unwrap());
            assert!(listing.elements.contains_key(&key), "{id}, seed {seed}");
        }
    }
    assert!(proved > 3500, "{proved}");
}

/// The order in which the server lists tied rows.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// The same in each response
    Fixed,
    /// Reversed in every second response
    Reversed,
    /// Another order at each offset
    ByOffset(u64),
    /// Another order in each response
    ByResponse(u64),
}

impl Order {
    /// Returns the list in the order of response number `response`, at `offset`.
    fn list(self, list: &[Row], response: u64, offset: u64) -> Vec<Row> {
        let mut list = list.to_vec();
        let salt = match self {
            Self::Fixed => return list,
            Self::Reversed if response % 2 == 1 => return list,
            Self::Reversed => {
                list.reverse();
                list.sort_by_key(|row| -row.created);
                return list;
            }
            Self::ByOffset(seed) => (seed, offset),
            Self::ByResponse(seed) => (seed, response),
        };
        list.sort_by_cached_key(|row| {
            let mut hasher = DefaultHasher::new();
            (row.id, salt).hash(&mut hasher);
            (-row.created, hasher.finish())
        });
        list
    }
}

/// Lists `rows` rows of which those in `tied` share one `created_at`; returns the number of requests.
fn cost_of_tie(rows: i64, tied: Range<usize>, limit: usize, order: Order) -> u64 {
    let mut list = distinct(rows);
    let created = list[tied.end - 1].created;
    list[tied].iter_mut().for_each(|row| row.created = created);
    let mut responses = 0;
    let proved = pages::read(limit, 1, None, |open| {
        responses += 1;
        (0, page(&order.list(&list, responses, open[0]), open[0], limit))
    });
    let listed = proved.map(|proved| proved.elements.len());
    assert_eq!(listed, Ok(list.len()), "{order:?}");
    responses
}

/// A last page of five tied rows is not short: a page of its last row shows the end of the list, and both
/// are read again.
#[test]
fn a_list_that_ends_in_a_tie_is_read_twice() {
    for (rows, requests) in [(5, 4), (6, 4), (50, 4), (99, 4), (100, 5), (250, 8)] {
        let tied = rows as usize - 5..rows as usize;
        let cost = cost_of_tie(rows, tied, 100, Order::Fixed);
        assert_eq!(cost, requests, "{rows} rows");
    }
    // A page of three tied rows and the row before them is short.
    assert_eq!(cost_of_tie(50, 47..50, 100, Order::Fixed), 2);
}

/// A tie longer than a page takes about two readings of an unchanged list, at any position.
#[test]
fn a_tie_longer_than_a_page_is_listed() {
    for (rows, tied, requests) in [
        (5000, 2000..5000, 14),
        (5000, 0..3000, 14),
        (5000, 1000..4000, 16),
        (5000, 0..5000, 14),
        (1500, 300..1400, 8),
        (1500, 500..1500, 6),
    ] {
        let cost = cost_of_tie(rows, tied.clone(), 1000, Order::Fixed);
        assert_eq!(cost, requests, "{tied:?} of {rows} rows");
    }
}

/// All rows are listed even if the order within a tie differs between two responses.
#[test]
fn a_tie_whose_order_changes_is_listed() {
    let orders = (0..8).flat_map(|seed| [Order::ByOffset(seed), Order::ByResponse(seed)]);
    for order in orders.chain([Order::Reversed]) {
        for (rows, tied) in [
            (500, 200..500),
            (500, 0..300),
            (500, 100..400),
            (150, 30..140),
            (150, 50..150),
            (150, 120..150),
        ] {
            cost_of_tie(rows, tied, 100, order);
        }
    }
}

/// Page size and order within ties are random for each response, and rows enter, leave and return, one
/// or several at a time, between responses.
#[test]
fn no_row_is_lost_with_ties_and_random_page_sizes() {
    let cases = std::env::var("PROPTEST_CASES").ok();
    let lists = cases.map_or(1000, |cases| cases.parse().unwrap());
    let mut proved = 0;
    for seed in 0..lists {
        let mut rng = fastrand::Rng::with_seed(seed);
        let ties = rng.i64(1..40);
        let mut list: Vec<Row> =
            (0..rng.i64(0..100)).map(|id| row(id + 1, -(id / ties) * 10)).collect();
        let mut stable: BTreeSet<i64> = list.iter().map(|row| row.id).collect();
        let mut left = Vec::new();
        let limit = *rng.choice(&[3, 7, 25, 1000]).unwrap();
        let changes = rng.usize(0..10);
        let mut changes_left = changes;
        let expected_rows = rng.bool().then(|| rng.u64(0..150));
        let mut responses = 0;
        let outcome = pages::read(limit, rng.usize(1..=4), expected_rows, |open| {
            responses += 1;
            if changes_left > 0 && responses > 1 && rng.usize(0..5) == 0 {
                changes_left -= 1;
                change(&mut list, &mut left, responses, &mut rng);
                stable.retain(|id| list.iter().any(|row| row.id == *id));
            }
            let nth = rng.usize(0..open.len());
            let now = Order::ByResponse(seed).list(&list, responses as u64, open[nth]);
            (nth, page(&now, open[nth], limit.min(rng.usize(5..30))))
        });
        let Ok(listing) = outcome else {
            assert!(changes > 0, "an unchanged list is given up, seed {seed}");
            continue;
        };
        proved += 1;
        for id in stable {
            let key = Key::Id(id.try_into().unwrap());
            assert!(listing.elements.contains_key(&key), "{id}, seed {seed}");
        }
    }
    assert!(proved > lists * 19 / 20, "{proved} of {lists} are proved");
}

/// A page requested in advance shows the end of the list, but in an older snapshot than that of the
/// rows to count: the tie has a row that is in neither.
#[test]
fn a_short_page_requested_in_advance_does_not_prove_the_row_count() {
    let mut before = distinct(50);
    let tied = before[45].created;
    before[45..].iter_mut().for_each(|row| row.created = tied);
    let entered = [&[row(51, 0)], &before[..]].concat();
    let mut responses = 0;
    let proved = pages::read(100, 2, Some(53), |open| {
        responses += 1;
        match responses {
            1 => (1, page(&before[45..], 0, 1)),
            // The server's pages are smaller now.
            _ => (0, page(&entered, open[0], 50)),
        }
    });
    assert_eq!(proved.unwrap().elements.len(), 51);
}

/// A row is not listed for a while, and another one enters; a page that is not short ends where the
/// list ended before.
#[test]
fn a_page_that_is_not_short_does_not_prove_the_row_count() {
    let tied = |ids: &[i64]| ids.iter().map(|id| row(*id, 0)).collect::<Vec<_>>();
    let all = tied(&[13, 12, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let mut responses = 0;
    let listed = read(10, |offset| {
        responses += 1;
        let rows = match (responses, offset) {
            // Of twelve rows, no page has 11 and 12; then 13 enters.
            (1, 0) => tied(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            (2, 9) => tied(&[3, 4, 5]),
            (3, 3) => tied(&[13, 11, 1, 2, 3, 4, 5, 6, 7]),
            (_, 0) => tied(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            (_, 9) => tied(&[11, 13, 1, 2]),
            _ => return page(&all, offset, 10),
        };
        page(&rows, 0, 10)
    });
    assert_eq!(listed, Ok(13));
}

/// Changes a list at one position: consecutive rows leave, or a row returns, or rows enter.
fn change(list: &mut Vec<Row>, left: &mut Vec<Row>, nth: i64, rng: &mut fastrand::Rng) {
    let place = rng.usize(0..=list.len());
    let many = *rng.choice(&[1, 1, 2, 30]).unwrap();
    match rng.usize(0..3) {
        0 => left.extend(list.drain(place..list.len().min(place + many))),
        1 => {
            if let Some(back) = left.pop() {
                list.push(Row { validated: nth, ..back });
            }
        }
        _ => {
            let created = list.get(place).map_or(nth, |row| row.created + rng.i64(0..2));
            let new = |id| row(id, created);
            list.extend((1000 * nth..).take(many).map(new));
        }
    }
    list.sort_by_key(|row| -row.created);
}

/// New rows, or a step back, make two pages share far more rows than the overlap. If the page size
/// becomes smaller than that, a page has only known rows, is short, and is not the last one.
#[test]
fn a_short_page_that_ends_among_known_rows_is_not_the_last_one() {
    let list = distinct(250);
    let mut burst: Vec<Row> = (1..=70).map(|id| row(1000 - id, 1000 - id)).collect();
    burst.extend(&list);
    let drained = &list[45..];
    for (list, small_from) in [(&burst[..], 2), (drained, 3)] {
        for cap in 5..100 {
            let mut responses = 0;
            let proved = pages::read(1000, 1, None, |open| {
                responses += 1;
                let rows = if responses < small_from { 100 } else { cap };
                let list = if responses == 1 { &distinct(250) } else { list };
                (0, page(list, open[0], rows))
            });
            let keys = match proved {
                Ok(proved) => proved.elements,
                Err(error) => {
                    assert!(cap < 20, "pages of {cap}: {error}");
                    continue;
                }
            };
            let stable = list.iter().filter(|row| row.id <= 250);
            let lost: Vec<_> = stable.filter(|row| !keys.contains_key(&element(row).key)).collect();
            assert!(lost.is_empty(), "pages of {cap}: {lost:?}");
        }
    }
}

/// The page size falls repeatedly while known rows are read again: the furthest page decides how far
/// the list is read, not the last one.
#[test]
fn a_page_size_that_falls_among_known_rows_is_not_the_end() {
    let list = distinct(250);
    let burst: Vec<Row> = (1..=70).map(|id| row(1000 - id, 1000 - id)).collect();
    let longer = [&burst[..], &list].concat();
    let mut responses = 0;
    let proved = pages::read(1000, 1, None, |open| {
        responses += 1;
        let (list, rows) = match responses {
            1 => (&list, 100),
            2 => (&longer, 60),
            _ => (&longer, 40),
        };
        (0, page(list, open[0], rows))
    });
    let listed = proved.unwrap().elements;
    let lost = list.iter().filter(|row| !listed.contains_key(&element(row).key));
    assert_eq!(lost.count(), 0);
}

/// No page except the first one joins.
#[test]
fn a_constantly_changing_list_is_given_up_within_a_limit_of_requests() {
    for (rows, bound) in [(5, 44), (100, 44), (1000, 44)] {
        for concurrency in [1, 2, 4] {
            let mut responses = 0;
            let outcome = pages::read(rows, concurrency, None, |open| {
                responses += 1;
                let older = if open[0] == 0 { 0 } else { 1_000_000 };
                let list: Vec<Row> = (1..=rows as i64).map(|id| row(id, -id - older)).collect();
                (0, page(&list, 0, rows))
            });
            assert_eq!(outcome.err(), Some(Unproved::Changing));
            assert!(responses <= bound, "{responses} requests for pages of {rows}");
        }
    }
}

#[test]
fn a_server_without_paging_is_an_error_unless_its_list_is_shorter_than_requested() {
    let list = distinct(10);
    let serve = |_| page(&list, 0, 10);
    assert_eq!(read(20, serve), Ok(10));
    assert_eq!(read(10, serve), Err(Unproved::NoPaging));
}

#[test]
fn rows_without_order_or_time_are_read_twice() {
    let mut list = distinct(25);
    list.reverse();
    let read = |change: fn(&mut Element)| {
        let mut responses = 0;
        let listed = read(10, |offset| {
            responses += 1;
            let mut rows = page(&list, offset, 10);
            rows.iter_mut().for_each(change);
            rows
        });
        (listed, responses)
    };
    assert_eq!(read(|_| ()), (Ok(25), 8));
    assert_eq!(read(|row| row.created_at = None), (Ok(25), 8));
    assert_eq!(read(|row| row.created_at = Some(instant(0))), (Ok(25), 8));
}

/// The first row of an unordered page proves nothing about the rows before it.
#[test]
fn a_page_of_an_unordered_list_does_not_join_by_chance() {
    let list: Vec<Row> = (1..=30).map(|id| row(id, -id % 7)).collect();
    let mut responses = 0;
    let listed = read(10, |offset| {
        responses += 1;
        let left = if responses < 2 { 0 } else { 9 };
        page(&list[left..], offset, 10)
    });
    assert_eq!(listed, Ok(30));
}

/// Two rows of a long tie alternately leave and return, validated again.
#[test]
fn a_tie_that_keeps_changing_is_not_proved() {
    let mut responses = 0;
    let outcome = read(10, |offset| {
        responses += 1;
        let mut tied: Vec<Row> = (1..=25).map(|id| row(id, 0)).collect();
        tied[(responses % 2) as usize].validated = responses;
        tied.remove(1 - (responses % 2) as usize);
        page(&tied, offset, 10)
    });
    assert_eq!(outcome, Err(Unproved::Changing));
}
