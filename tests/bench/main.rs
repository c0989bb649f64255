//! How fast, how large: whole processes against a floor that is measured in the same run.
//!
//! ```console
//! $ cargo bench                # everything, a few minutes
//! $ cargo bench -- reading     # the cases whose names contain a word
//! ```
//!
//! Each figure is the median of pairs: the floor, then the tool, one right after the other. The
//! floors are what nobody can do without: `curl` that reads the same pages, one after the other
//! over one connection, to `/dev/null`, and `psql` that copies the final rows into a table of the
//! same kind. Only ratios are worth keeping; times belong to the machine. Memory is the kernel's
//! own account of a process (`getrusage(2)`, the largest resident set), read by GNU `time`. It
//! needs `curl`, `psql`, `time` (for `peers` also `jq` and `python3`, which fetches its packages
//! from PyPI) and a quiet machine: the tool uses a second core where there is one, `curl` does not.
//!
//! # What came out
//!
//! On two cores that the stand-in and PostgreSQL share, two pages at once unless told otherwise:
//!
//! | case | ratio to the floor | peak |
//! | --- | --- | --- |
//! | 14 demandes, the whole cycle, against `curl` and `psql` | 0.35 to 0.4 | 9 MB |
//! | 10 000 demandes, 150 ms a page | 0.63; four at once 0.38 | 15 MB |
//! | 10 000 demandes, no delay, gzip | 1.1 | 13 MB |
//! | 1 000, 10 000 and 100 000 demandes, no delay | 2.1, 3.0 and 3.4 | 10, 15 and 33 MB |
//! | 3 000 rows and their jobs, beyond reading, against copying the rows | 1.7 to 1.85 | |
//! | looking again at 3 000 rows that exist, against reading | 1.0 | |
//!
//! # Where the time goes
//!
//! A cycle over ten thousand demandes (89 MB) spends about half of its processor time on checking
//! and skipping JSON that no row needs, a fifth on the kernel's copies, which the floor pays too,
//! and most of the rest on handing chunks from the HTTP client's thread to the one that decodes.
//! `curl` looks at nothing, and so a list that arrives at once, uncompressed, is the worst case.
//! Reading the same pages through the same client, two at once, and throwing them away takes 1.3 times
//! the floor by itself, and 1.7 times with the start and the database. Skipping takes `serde_json`
//! 3.7 ms a page of 9 MB; what was tried instead and checks as much was no leap: 2.8 ms by `sonic-rs`,
//! 2.5 ms by an index of the strings' ends in portable SIMD.
//! Where pages take their server some time, all of that disappears behind the requests in flight:
//! twelve overlapping pages are six waits with two at once and three with four, once the length of the
//! list is known. Of the time for rows and jobs two thirds are the 25 indexes of `good_jobs`.

// A benchmark that fails may panic, and prints.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

mod demandes;
#[path = "../it/harness/mod.rs"]
mod harness;
mod measure;
mod peers;
mod server;

use std::process::Command;
use std::time::Duration;

use harness::Database;
use measure::{Pair, Upstream, pairs, peak_bytes, run};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, count, delay_ms, gzip] = &args[..]
        && serve == "serve"
    {
        let delay = Duration::from_millis(delay_ms.parse().unwrap());
        return server::serve(count.parse().unwrap(), delay, gzip == "gzip");
    }
    let word = args.into_iter().find(|arg| !arg.starts_with('-'));
    let wanted = |name: &str| word.as_deref().is_none_or(|word| name.contains(word));
    if wanted("start") {
        start();
    }
    if wanted("small") {
        small();
    }
    if wanted("reading") {
        for count in [1_000, 10_000, 100_000] {
            reading(count, Duration::ZERO, false);
        }
        reading(10_000, Duration::ZERO, true);
    }
    if wanted("slow") {
        reading(10_000, Duration::from_millis(150), false);
    }
    if wanted("replaying") {
        replaying();
    }
    if wanted("creating") {
        creating();
    }
    if wanted("peers") {
        peers::peers(14);
        peers::peers(10_000);
    }
}

fn print(name: &str, pair: Pair) {
    println!(
        "{name:<44} {:>6.2} x   floor {:>8.1} ms  tool {:>8.1} ms",
        pair.ratio,
        pair.floor.as_secs_f64() * 1e3,
        pair.tool.as_secs_f64() * 1e3
    );
}

fn start() {
    let program = env!("CARGO_BIN_EXE_datapass-pull");
    let pair =
        pairs(|| run(&mut Command::new("true")), || run(Command::new(program).arg("--version")));
    print("start: --version against true", pair);
}

fn small() {
    let upstream = Upstream::start(14, Duration::ZERO, false);
    let database = Database::migrated();
    let offsets = upstream.offsets(&database);
    let peak = peak_bytes(&upstream.cycle(&database));
    let url = database.url();
    let pair = pairs(
        || {
            run(&mut upstream.curl(&offsets))
                + run(Command::new("psql").args(["-Xqc", "select 1", &url]))
        },
        || run(&mut upstream.cycle(&database)),
    );
    print("small: 14 demandes against curl and psql", pair);
    println!("    peak {:.1} MB", peak as f64 / 1e6);
}

fn reading(count: usize, delay: Duration, gzip: bool) {
    let upstream = Upstream::start(count, delay, gzip);
    let database = Database::migrated();
    // The first cycle creates the rows; what follows is about reading.
    run(&mut upstream.cycle(&database));
    let offsets = upstream.offsets(&database);
    for concurrency in ["1", "2", "4"] {
        let cycle = || {
            let mut command = upstream.cycle(&database);
            command.args(["--concurrency", concurrency]);
            command
        };
        let peak = peak_bytes(&cycle());
        let pair = pairs(|| run(&mut upstream.curl(&offsets)), || run(&mut cycle()));
        let gzip = if gzip { " gzip" } else { "" };
        print(
            &format!("reading {count}{gzip}, {} ms, {concurrency} at once", delay.as_millis()),
            pair,
        );
        println!("    peak {:.1} MB", peak as f64 / 1e6);
    }
}

/// Looks at all 3000 entries again, against a cycle that only reads.
fn replaying() {
    let upstream = Upstream::start(10_000, Duration::ZERO, false);
    let database = Database::migrated();
    run(&mut upstream.cycle(&database));
    let pair = pairs(
        || run(&mut upstream.cycle(&database)),
        || run(upstream.cycle(&database).args(["--since", "2020-01-01"])),
    );
    print("replaying: 3000 that exist, against reading", pair);
}

fn creating() {
    let upstream = Upstream::start(10_000, Duration::ZERO, false);
    let database = Database::migrated();
    database.exec(harness::GOOD_JOBS_4);
    run(&mut upstream.cycle(&database));
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    let url = database.url();
    let psql = |sql: &str| run(Command::new("psql").args(["-Xqc", sql, &url]));
    psql(&format!("\\copy proactivite_requests to {path}"));
    database.exec("create table copied (like proactivite_requests including all)");
    let floor = || {
        database.exec("truncate copied");
        psql(&format!("\\copy copied from {path}"))
    };
    let replay = pairs(floor, || run(&mut upstream.cycle(&database)));
    let create = pairs(floor, || {
        database.exec(
            "truncate proactivite_requests, good_jobs;
             update datapass_pull_watermarks set last_validated_at = null",
        );
        run(&mut upstream.cycle(&database))
    });
    print("creating: none of 3000, the pages alone", replay);
    print("creating: 3000 rows and jobs, with the pages", create);
    let more = create.tool.saturating_sub(replay.tool);
    println!(
        "    rows and jobs without the pages: {:.2} x",
        more.as_secs_f64() / create.floor.as_secs_f64()
    );
}
