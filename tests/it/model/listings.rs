//! Single listings: what an idle list costs, ties, page sizes that change, and odd servers.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use datapass_pull::cycle::list::paging::Unproved;
use datapass_pull::types::entry::{Element, Key, ValidatedAt};

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
        last_validated_at: ValidatedAt::At(instant(row.validated)),
        entry: None,
    }
}

pub fn page(list: &[Row], offset: u64, rows: usize) -> Vec<Element> {
    let from = list.iter().skip(offset as usize);
    from.take(rows).map(element).collect()
}

/// Rows that each have their own `created_at`, newest first.
pub fn distinct(rows: i64) -> Vec<Row> {
    (1..=rows).map(|id| row(id, -id * 10)).collect()
}

/// Reads a list page by page.
fn read(limit: usize, mut serve: impl FnMut(u64) -> Vec<Element>) -> Result<usize, Unproved> {
    pages::read(limit, 1, None, |open| (0, serve(open[0]))).map(|proved| proved.elements.len())
}

/// How many requests an idle list takes with 1, 2 and 4 pages in flight.
fn idle(rows: i64, limit: usize, cap: usize, expected_rows: Option<u64>) -> [usize; 3] {
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

/// Exact counts: an idle list takes the pages that its rows fill and one of the rows that pages share,
/// two of those when the rows fill their pages exactly; when its length is unknown, also those that
/// were asked for ahead of its end, and when pages are smaller than requested, those that were asked
/// for at the start with its length alone.
#[test]
fn an_idle_list_takes_the_plain_count_of_requests_and_one() {
    // Rows, limit and the server's page size; requests with 1, 2 and 4 pages in flight when nothing is
    // known of the list, and when its length is.
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
        assert_eq!(idle(rows, limit, cap, None), unknown, "{of}");
        let expected_rows = Some(rows as u64);
        assert_eq!(idle(rows, limit, cap, expected_rows), known, "{of}");
    }
}

/// The server's page size changes before any answer, up or down, while the rows are unchanged; also to
/// the very number of rows that two pages share.
#[test]
fn a_page_size_that_changes_in_mid_listing_loses_nothing() {
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
                let mut answers = 0;
                let proved = pages::read(1000, concurrency, None, |open| {
                    answers += 1;
                    let rows = if answers <= at { before } else { after };
                    (0, page(&list, open[0], rows))
                });
                let listed = proved.unwrap().elements.len();
                assert_eq!(listed, 250, "{before} to {after} after {at} answers, {concurrency}");
            }
        }
    }
}

/// The server draws its page size anew for each answer, and rows enter and leave between two of them.
#[test]
fn pages_of_any_size_lose_nothing() {
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

/// In what order the server lists the rows of a tie.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// The same in every answer.
    Fixed,
    /// The reverse in every second answer.
    Reversed,
    /// Another one at each offset.
    ByOffset(u64),
    /// Another one in each answer.
    ByAnswer(u64),
}

impl Order {
    /// Returns the list as answer number `answer`, at `offset`, shows it.
    fn list(self, list: &[Row], answer: u64, offset: u64) -> Vec<Row> {
        let mut list = list.to_vec();
        let salt = match self {
            Self::Fixed => return list,
            Self::Reversed if answer % 2 == 1 => return list,
            Self::Reversed => {
                list.reverse();
                list.sort_by_key(|row| -row.created);
                return list;
            }
            Self::ByOffset(seed) => (seed, offset),
            Self::ByAnswer(seed) => (seed, answer),
        };
        list.sort_by_cached_key(|row| {
            let mut hasher = DefaultHasher::new();
            (row.id, salt).hash(&mut hasher);
            (-row.created, hasher.finish())
        });
        list
    }
}

/// Lists `rows` rows of which those from `tied` on share one `created_at`; returns the requests.
fn cost_of_tie(rows: i64, tied: Range<usize>, limit: usize, order: Order) -> u64 {
    let mut list = distinct(rows);
    let created = list[tied.end - 1].created;
    list[tied].iter_mut().for_each(|row| row.created = created);
    let mut answers = 0;
    let proved = pages::read(limit, 1, None, |open| {
        answers += 1;
        (0, page(&order.list(&list, answers, open[0]), open[0], limit))
    });
    let listed = proved.map(|proved| proved.elements.len());
    assert_eq!(listed, Ok(list.len()), "{order:?}");
    answers
}

/// A page that ends the list in a tie of five rows is not short: behind it, the list is seen to end
/// there, and its rows are read once more.
#[test]
fn a_list_that_ends_in_a_tie_is_read_twice() {
    for (rows, requests) in [(5, 3), (6, 3), (50, 3), (99, 3), (100, 4), (250, 7)] {
        let tied = rows as usize - 5..rows as usize;
        let cost = cost_of_tie(rows, tied, 100, Order::Fixed);
        assert_eq!(cost, requests, "{rows} rows");
    }
    // Three of them and the row before them are a short page.
    assert_eq!(cost_of_tie(50, 47..50, 100, Order::Fixed), 2);
}

/// A tie that is longer than a page takes about two readings of an idle list, wherever it is.
#[test]
fn a_tie_longer_than_a_page_is_listed() {
    for (rows, tied, requests) in [
        (5000, 2000..5000, 14),
        (5000, 0..3000, 13),
        (5000, 1000..4000, 15),
        (5000, 0..5000, 13),
        (1500, 300..1400, 7),
        (1500, 500..1500, 6),
    ] {
        let cost = cost_of_tie(rows, tied.clone(), 1000, Order::Fixed);
        assert_eq!(cost, requests, "{tied:?} of {rows} rows");
    }
}

/// The order within a tie may differ between two answers; all rows are found all the same.
#[test]
fn a_tie_whose_order_changes_is_listed() {
    let orders = (0..8).flat_map(|seed| [Order::ByOffset(seed), Order::ByAnswer(seed)]);
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

/// The server draws its page size and the order within ties anew for each answer, and rows enter, leave
/// and return, one or many at once, between two of them.
#[test]
fn ties_and_pages_of_any_size_lose_nothing() {
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
        let mut answers = 0;
        let outcome = pages::read(limit, rng.usize(1..=4), expected_rows, |open| {
            answers += 1;
            if changes_left > 0 && answers > 1 && rng.usize(0..5) == 0 {
                changes_left -= 1;
                change(&mut list, &mut left, answers, &mut rng);
                stable.retain(|id| list.iter().any(|row| row.id == *id));
            }
            let nth = rng.usize(0..open.len());
            let now = Order::ByAnswer(seed).list(&list, answers as u64, open[nth]);
            (nth, page(&now, open[nth], limit.min(rng.usize(5..30))))
        });
        let Ok(listing) = outcome else {
            assert!(changes > 0, "an idle list is given up, seed {seed}");
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

/// A page that was asked for ahead shows where the list ends, but its snapshot is older than the one
/// that it would count: the tie has a row that neither shows.
#[test]
fn a_short_page_that_was_asked_for_ahead_counts_no_rows() {
    let mut before = distinct(50);
    let tied = before[45].created;
    before[45..].iter_mut().for_each(|row| row.created = tied);
    let entered = [&[row(51, 0)], &before[..]].concat();
    let mut answers = 0;
    let proved = pages::read(100, 2, Some(53), |open| {
        answers += 1;
        match answers {
            1 => (1, page(&before[45..], 0, 1)),
            // The server's pages are smaller now.
            _ => (0, page(&entered, open[0], 50)),
        }
    });
    assert_eq!(proved.unwrap().elements.len(), 51);
}

/// While a row is missing, another one enters; a page that is not short ends where the list ended
/// before.
#[test]
fn a_page_that_is_not_short_counts_no_rows() {
    let tied = |ids: &[i64]| ids.iter().map(|id| row(*id, 0)).collect::<Vec<_>>();
    let all = tied(&[13, 12, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let mut answers = 0;
    let listed = read(10, |offset| {
        answers += 1;
        let rows = match (answers, offset) {
            // Of twelve rows, none shows 11 and 12; then 13 enters.
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

/// Changes a list at one place: a run of rows leaves, or one that left returns, or rows enter.
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

/// A burst ahead, or a step back, makes two pages share far more than the overlap; when the page size
/// falls below that, the page adds nothing, is shorter, and is still not the end.
#[test]
fn a_short_page_that_stops_before_what_was_seen_is_not_the_end() {
    let list = distinct(250);
    let mut burst: Vec<Row> = (1..=70).map(|id| row(1000 - id, 1000 - id)).collect();
    burst.extend(&list);
    let drained = &list[45..];
    for (list, small_from) in [(&burst[..], 2), (drained, 3)] {
        for cap in 5..100 {
            let mut answers = 0;
            let proved = pages::read(1000, 1, None, |open| {
                answers += 1;
                let rows = if answers < small_from { 100 } else { cap };
                let list = if answers == 1 { &distinct(250) } else { list };
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

/// The page size falls again and again while rows are read that were seen: how far the list was read
/// is what the furthest page says, not the last one.
#[test]
fn a_page_size_that_falls_among_rows_that_were_seen_is_not_the_end() {
    let list = distinct(250);
    let burst: Vec<Row> = (1..=70).map(|id| row(1000 - id, 1000 - id)).collect();
    let longer = [&burst[..], &list].concat();
    let mut answers = 0;
    let proved = pages::read(1000, 1, None, |open| {
        answers += 1;
        let (list, rows) = match answers {
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

/// No page but the first ever joins: that ends, and says that nothing was proved.
#[test]
fn a_list_that_moves_without_end_is_given_up_within_its_bound() {
    for (rows, bound) in [(5, 44), (100, 44), (1000, 44)] {
        for concurrency in [1, 2, 4] {
            let mut answers = 0;
            let outcome = pages::read(rows, concurrency, None, |open| {
                answers += 1;
                let older = if open[0] == 0 { 0 } else { 1_000_000 };
                let list: Vec<Row> = (1..=rows as i64).map(|id| row(id, -id - older)).collect();
                (0, page(&list, 0, rows))
            });
            assert_eq!(outcome.err(), Some(Unproved::Changing));
            assert!(answers <= bound, "{answers} requests for pages of {rows}");
        }
    }
}

#[test]
fn a_server_that_does_not_page_gives_the_whole_list_or_an_error() {
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
        let mut answers = 0;
        let listed = read(10, |offset| {
            answers += 1;
            let mut rows = page(&list, offset, 10);
            rows.iter_mut().for_each(change);
            rows
        });
        (listed, answers)
    };
    assert_eq!(read(|_| ()), (Ok(25), 7));
    assert_eq!(read(|row| row.created_at = None), (Ok(25), 7));
    assert_eq!(read(|row| row.created_at = Some(instant(0))), (Ok(25), 7));
}

/// Where a page is not in order, its first row says nothing about what lies before it.
#[test]
fn a_page_of_a_list_without_order_does_not_join_by_chance() {
    let list: Vec<Row> = (1..=30).map(|id| row(id, -id % 7)).collect();
    let mut answers = 0;
    let listed = read(10, |offset| {
        answers += 1;
        let left = if answers < 2 { 0 } else { 9 };
        page(&list[left..], offset, 10)
    });
    assert_eq!(listed, Ok(30));
}

/// Two rows of a long tie take turns in leaving and returning, validated anew.
#[test]
fn a_tie_that_keeps_changing_is_not_proved() {
    let mut answers = 0;
    let outcome = read(10, |offset| {
        answers += 1;
        let mut tied: Vec<Row> = (1..=25).map(|id| row(id, 0)).collect();
        tied[(answers % 2) as usize].validated = answers;
        tied.remove(1 - (answers % 2) as usize);
        page(&tied, offset, 10)
    });
    assert_eq!(outcome, Err(Unproved::Changing));
}
