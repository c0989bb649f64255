//! The cost of a cycle, counted instead of timed: requests, statements, and the instructions to
//! decode one page.

use std::process::Command;

use chrono::TimeDelta;

use crate::demandes::Listing;
use crate::harness::datapass::DEFINITION;
use crate::harness::*;

/// The limit of instructions per byte to decode a page; 11.8 when this was written.
///
/// The margin is for other processors, for which the libraries choose other instructions.
const INSTRUCTIONS_PER_BYTE: u64 = 12;

/// Runs a cycle with pages of 100; returns the numbers of page requests, other requests and
/// statements.
fn cost(upstream: &DataPass, database: &Database, proxy: &Proxy) -> (usize, usize, usize) {
    upstream.take_requests();
    proxy.reset();
    let url = proxy.url(database);
    Run::cycle(upstream, database)
        .env("DATABASE_URL", url)
        .args(["--page-size", "100"])
        .output()
        .success();
    let pages = upstream.requests_of(Endpoint::Listing).len();
    let others = upstream.requests().len() - pages;
    (pages, others, proxy.reset().len())
}

/// A cycle requests one token and the pages, and runs a constant number of statements whether it
/// creates thousands of rows or none.
#[test]
fn requests_grow_with_the_pages_and_statements_stay_constant() {
    // Demandes, overlapping pages of 100, other requests. For an empty list the definition is
    // requested too.
    let cases = [(0, 1, 2), (14, 2, 1), (250, 4, 1), (3_000, 39, 1)];
    let mut statements = Vec::new();
    for (count, pages, others) in cases {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        database.exec(GOOD_JOBS_4);
        let proxy = Proxy::start(&database);
        for id in 1..=count {
            let validated = at("2026-05-18T10:00:00Z") + TimeDelta::seconds(id);
            upstream.add(Demande::cnous(id).validated(validated));
        }
        let created = cost(&upstream, &database, &proxy);
        // The first cycle does not know the length of the list, and may request a page past its end.
        assert!((pages..=pages + 1).contains(&created.0), "{created:?}");
        assert_eq!(created.1, others, "{count} demandes");
        assert_eq!(database.count("good_jobs"), count);
        let repeated = cost(&upstream, &database, &proxy);
        assert_eq!((repeated.0, repeated.1), (pages, others), "{count} again");
        statements.push((created.2, repeated.2));
    }
    // New rows are inserted in batches of two thousand.
    assert_eq!(statements, [(18, 16), (24, 18), (24, 18), (25, 18)]);
}

/// One statement shows that the database can store all public ids, however many they are.
#[test]
fn statements_stay_constant_for_public_ids_beyond_ascii() {
    let mut statements = Vec::new();
    for count in [1, 40] {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        database.exec(GOOD_JOBS_4);
        let proxy = Proxy::start(&database);
        for id in 1..=count {
            upstream.add(validated(id, id).public_id(Some(&format!("é{id}"))));
        }
        statements.push(cost(&upstream, &database, &proxy).2);
        assert_eq!(database.count("good_jobs"), count);
    }
    assert_eq!(statements[0], statements[1]);
}

/// `valgrind` counts instructions, which do not depend on the load of the machine.
#[test]
fn a_page_is_decoded_within_the_limit_of_instructions() {
    let binary = release_binary();
    let program = binary.with_file_name("examples").join("page");
    let page = tempfile::NamedTempFile::new().unwrap();
    let text = format!("[{}]", Listing::new(200).rows(0, 200));
    std::fs::write(page.path(), &text).unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(&program)
        .arg(page.path())
        .arg(DEFINITION)
        .output()
        .unwrap();
    let report = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.stdout, b"200 60\n", "{report}");
    let collected = report.split("Collected : ").nth(1).unwrap();
    let instructions: u64 = collected.lines().next().unwrap().trim().parse().unwrap();
    let per_byte = instructions / text.len() as u64;
    assert!(
        (1..=INSTRUCTIONS_PER_BYTE).contains(&per_byte),
        "{instructions} instructions for {} bytes",
        text.len()
    );
}
