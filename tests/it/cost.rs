//! What a cycle costs, counted and not timed: requests, statements, and the instructions of
//! decoding one page.

use std::process::Command;

use chrono::TimeDelta;

use crate::demandes::Listing;
use crate::harness::datapass::DEFINITION;
use crate::harness::*;

/// Instructions that decoding may take for each byte of a page; 11.8 when this was written.
///
/// The margin is for other processors, for which the libraries choose other instructions.
const INSTRUCTIONS_PER_BYTE: u64 = 12;

/// Runs a cycle in pages of 100, and returns what it asked DataPass and PostgreSQL for.
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

/// A cycle asks for one token and for the pages, and says the same few things to PostgreSQL
/// whether it creates thousands of rows or none.
#[test]
fn requests_follow_the_pages_and_statements_follow_nothing() {
    // Demandes, overlapping pages of 100, other requests. An empty list is asked about its
    // definition.
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
        // Not knowing how long the list is, the first one may ask for a page behind its end.
        assert!((pages..=pages + 1).contains(&created.0), "{created:?}");
        assert_eq!(created.1, others, "{count} demandes");
        assert_eq!(database.count("good_jobs"), count);
        let repeated = cost(&upstream, &database, &proxy);
        assert_eq!((repeated.0, repeated.1), (pages, others), "{count} again");
        statements.push((created.2, repeated.2));
    }
    // New rows go two thousand at a time.
    assert_eq!(statements, [(19, 17), (25, 19), (25, 19), (26, 19)]);
}

/// `valgrind` counts instructions, the same whatever else the machine does.
#[test]
fn a_page_is_decoded_within_its_budget() {
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
