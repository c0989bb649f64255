//! The view of the account changes during the listing: its access is removed and restored, or one of
//! several servers always answers `[]`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::datapass::{DEFINITION, Endpoint, Request};
use crate::harness::*;

/// Starts a fake DataPass with this many demandes of the definition.
fn datapass(demandes: i64) -> DataPass {
    let upstream = DataPass::start();
    (1..=demandes).for_each(|id| upstream.add(validated(id, id)));
    upstream
}

fn cycle(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database).env("DATAPASS_ENQUEUE", "none").args([
        "--page-size",
        "25",
        "--concurrency",
        "1",
    ])
}

/// Sends random responses from a server that has neither demandes nor the definition.
fn balance(upstream: &DataPass, seed: u64) {
    let rng = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
    let bad = |body: &'static str| {
        let rng = Arc::clone(&rng);
        Fault::edit(move |response| {
            if rng.lock().unwrap().bool() {
                response.body = body.into();
            }
        })
    };
    upstream.fault(On::pages(..), bad("[]"));
    upstream.fault(On::definitions(..), bad(r#"[{"id":"api_particulier"}]"#));
}

/// Expects a row for each demande, and that the next cycle creates nothing.
fn expect_all(upstream: &DataPass, database: &Database, demandes: i64) {
    upstream.clear_rules();
    let summary = cycle(upstream, database).any_stderr().output().success();
    assert_eq!(summary.seen, demandes as u64);
    let ids = "select count(distinct datapass_authorization_id) from proactivite_requests";
    let distinct: i64 = database.client().query_one(ids, &[]).unwrap().get(0);
    assert_eq!((database.count("proactivite_requests"), distinct), (demandes, demandes));
    assert_eq!(cycle(upstream, database).output().success().created, 0);
}

#[test]
fn no_row_is_lost_when_access_is_removed_and_restored_during_the_listing() {
    let (upstream, database) = (datapass(203), Database::migrated());
    // The fourth to the sixth page are empty; the sixth has offset 0.
    upstream.before(On::page(4), |upstream| upstream.definitions.clear());
    upstream.before(On::page(7), |upstream| {
        let definition = DEFINITION.to_owned();
        upstream.definitions.insert(definition.clone(), definition);
    });
    let run = cycle(&upstream, &database);
    let run = run.stderr("The list shrank while it was read");
    let summary = run.output().success();
    assert_eq!((summary.seen, summary.created), (203, 203));
    assert!(summary.drift_rewinds > 0);
    let pages = upstream.requests_of(Endpoint::Listing);
    let of_first_reading = |page: &&Request| page.connection == pages[0].connection;
    assert_eq!(pages.iter().filter(of_first_reading).count(), 6);
    assert_eq!(pages[6].number("offset"), Some(0));
    assert_eq!(upstream.requests_of(Endpoint::Definitions).len(), 1);
    expect_all(&upstream, &database, 203);
}

#[test]
fn lost_access_is_transient_soon_after_a_success_with_entries() {
    let (upstream, database) = (datapass(30), Database::migrated());
    // An earlier cycle listed entries, this one lists none.
    cycle(&upstream, &database).output().success();
    let before = database.snapshot();
    upstream.with(|upstream| upstream.definitions.clear());
    upstream.take_requests();
    let run = cycle(&upstream, &database).stderr("The list is empty, and was not before");
    let summary = run.output().transient("view_changed");
    assert_eq!((summary.seen, summary.created), (0, 0));
    let firsts = upstream.requests_of(Endpoint::Listing);
    let firsts = firsts.iter().filter(|page| page.number("offset") == Some(0));
    let connections: BTreeSet<u64> = firsts.map(|page| page.connection).collect();
    assert_eq!(connections.len(), 4);
    assert_eq!(database.snapshot(), before);
}

#[test]
fn an_empty_first_page_is_requested_again_after_a_success_with_rows() {
    let (upstream, database) = (datapass(30), Database::migrated());
    // Before the first success an empty list is accepted; the next cycle lists everything.
    upstream.fault(On::page(1), Fault::json("[]"));
    assert_eq!(cycle(&upstream, &database).output().success().seen, 0);
    expect_all(&upstream, &database, 30);
    upstream.fault(On::page(1), Fault::json("[]"));
    let run = cycle(&upstream, &database).stderr("The list is empty, and was not before");
    let summary = run.output().success();
    assert_eq!((summary.seen, summary.existing), (30, 30));
}

/// Two servers behind a load balancer, of which one never lists anything.
#[test]
fn no_row_is_lost_when_one_of_two_servers_lists_nothing() {
    let histories = (0..8).map(|seed| {
        thread::spawn(move || {
            let (upstream, database) = (datapass(264), Database::migrated());
            balance(&upstream, seed);
            let outcome = cycle(&upstream, &database).any_stderr().output();
            match outcome.code() {
                0 => assert!([0, 264].contains(&outcome.success().seen), "seed {seed}"),
                1 => assert_eq!(outcome.permanent("no_definition").seen, 0, "seed {seed}"),
                _ => assert_eq!(outcome.transient("view_changed").created, 0, "seed {seed}"),
            }
            expect_all(&upstream, &database, 264);
        })
    });
    let histories: Vec<_> = histories.collect();
    histories.into_iter().for_each(|it| it.join().unwrap());
}
