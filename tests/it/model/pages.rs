//! Reads a list with the real paging, as its driver does, from the answers of a test.

use std::collections::{HashMap, VecDeque};

use datapass_pull::cycle::list::paging::{Paging, Unproved};
use datapass_pull::types::entry::{Element, Key};

/// A listing that was proved.
pub struct Proved {
    /// What belongs to it.
    pub elements: HashMap<Key, Element>,
    /// How many pages were asked for, in vain too.
    pub requests: usize,
    /// How often it stepped back.
    pub drift_rewinds: u64,
}

/// Reads a list. `answer` gets the offsets that are asked for and not answered yet, and answers one
/// of them: which, and the page that is there now.
///
/// Panics when more pages are asked for than `concurrency`, and one to go on with where a length is
/// expected; when the first one is not asked for alone; when the requests have no bound.
pub fn read(
    limit: usize,
    concurrency: usize,
    expected_rows: Option<u64>,
    mut answer: impl FnMut(&[u64]) -> (usize, Vec<Element>),
) -> Result<Proved, Unproved> {
    let mut paging = Paging::new(limit, concurrency, expected_rows);
    let mut in_flight: VecDeque<(u64, Option<Vec<Element>>)> = VecDeque::new();
    let mut elements = HashMap::new();
    let (mut requests, mut largest_page) = (0, 1);
    while !paging.is_complete() {
        while let Some(offset) = paging.ask() {
            requests += 1;
            in_flight.push_back((offset, None));
        }
        let waiting = usize::from(expected_rows.is_some());
        let most = match (requests, expected_rows) {
            (1, None) => 1,
            _ => concurrency + waiting,
        };
        assert!(in_flight.len() <= most, "too many pages in flight");
        while in_flight[0].1.is_none() {
            let mut open: Vec<_> = in_flight.iter_mut().filter(|it| it.1.is_none()).collect();
            let offsets: Vec<u64> = open.iter().map(|(offset, _)| *offset).collect();
            let (nth, page) = answer(&offsets);
            open[nth].1 = Some(page);
        }
        let Some((_, Some(page))) = in_flight.pop_front() else {
            unreachable!("the first one is answered");
        };
        largest_page = page.len().max(largest_page);
        paging.receive(&page)?;
        elements.extend(page.into_iter().map(|it| (it.key.clone(), it)));
        if paging.in_flight() == 0 {
            in_flight.clear();
        }
        let plain = paging.seen() / (largest_page / 2).max(1);
        let bound = 32 + 12 * plain + concurrency;
        assert!(requests <= bound, "{requests} requests, more than {bound}");
    }
    Ok(Proved { elements, requests, drift_rewinds: paging.drift_rewinds() })
}
