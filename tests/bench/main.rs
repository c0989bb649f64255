//! Benchmarks of time and memory: whole processes against a baseline measured in the same run.
//!
//! ```console
//! $ cargo bench                # everything, a few minutes
//! $ cargo bench -- reading     # the cases whose names contain this word
//! ```
//!
//! Each figure is the median of pairs: the baseline, then the tool, one right after the other. The
//! baselines are the least work possible: `curl` that reads the same pages, one after the other
//! over one connection, to `/dev/null`, and `psql` that copies the final rows into a table of the
//! same kind. Only ratios are worth keeping, since times depend on the machine. Memory is the
//! largest resident set of the process (`getrusage(2)`), read by GNU `time`. The benchmarks need
//! `curl`, `psql`, `time` (for `peers` also `jq` and `python3`, which fetches its packages from
//! PyPI) and an idle machine: the tool uses a second core if there is one, `curl` does not.
//!
//! # Results
//!
//! On two cores shared with the fake DataPass and PostgreSQL, with two concurrent page requests
//! unless the table says otherwise:
//!
//! | case | ratio to the baseline | limit | peak memory |
//! | --- | --- | --- | --- |
//! | 14 demandes, the whole cycle, against `curl` and `psql` | 0.49 | | 8 MB (limit 9) |
//! | 10 000 demandes, 150 ms per page | 0.55 | 0.60 | 15 MB |
//! | the same with four concurrent requests | 0.30 | 0.36 | 19 MB |
//! | 10 000 demandes, no delay, gzip | 1.1 | | 14 MB |
//! | 1 000, 10 000 and 100 000 demandes, no delay | 3.2, 3.4 and 4.2 | | 10, 16 and 44 MB |
//! | 3 000 rows and their jobs, without reading, against copying the rows | 2.8 | 3 | |
//! | a replay over 3 000 existing rows, against a plain cycle | 1.01 | 1.05 | |
//!
//! The benchmark fails when a limit is exceeded. These are the results of one run on an idle machine.
//! Other runs had 0.4 to 1.0 for 14 demandes, 1.1 to 2.0 with gzip, 2.5 to 4.2 for 100 000 demandes,
//! 2.2 to 2.8 for rows and jobs, and 0.9 to 1.08 for the replay.
//!
//! # Where the time goes
//!
//! A cycle over ten thousand demandes (89 MB) spends about half of its processor time on validating
//! and skipping JSON that no row needs, a fifth on copies in the kernel, which the baseline needs
//! too, and most of the rest on passing chunks from the HTTP client's thread to the decoder's.
//! `curl` parses nothing, so that a list that arrives without delay and uncompressed is the worst
//! case. Reading the same pages with the same client, two at a time, and discarding them takes 1.3
//! times the baseline, and 1.7 times with the start and the database. To skip a page of 9 MB,
//! `serde_json` needs 3.7 ms; alternatives that validate as much are not much faster: 2.8 ms with
//! `sonic-rs`, 2.5 ms with an index of the ends of strings in portable SIMD.
//! When the server needs some time per page, concurrent requests hide all of that: once the length
//! of the list is known, twelve overlapping pages take six round trips with two requests at a time
//! and three with four. The 25 indexes of `good_jobs` take two thirds of the time for rows and jobs.

// A benchmark may panic and print.
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

use std::process::{Command, ExitCode};
use std::time::Duration;

use harness::Database;
use measure::{Limits, Pair, Upstream, pairs, peak_bytes, run};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, count, delay_ms, gzip] = &args[..]
        && serve == "serve"
    {
        let delay = Duration::from_millis(delay_ms.parse().unwrap());
        server::serve(count.parse().unwrap(), delay, gzip == "gzip");
        return ExitCode::SUCCESS;
    }
    let mut limits = Limits::default();
    let word = args.into_iter().find(|arg| !arg.starts_with('-'));
    let wanted = |name: &str| word.as_deref().is_none_or(|word| name.contains(word));
    if wanted("start") {
        start();
    }
    if wanted("small") {
        small(&mut limits);
    }
    if wanted("reading") {
        for count in [1_000, 10_000, 100_000] {
            reading(count, Duration::ZERO, false);
        }
        reading(10_000, Duration::ZERO, true);
    }
    if wanted("slow") {
        let ratios = reading(10_000, Duration::from_millis(150), false);
        limits.hold("150 ms per page, concurrency 2: ratio", ratios[1], 0.60);
        limits.hold("150 ms per page, concurrency 4: ratio", ratios[2], 0.36);
    }
    if wanted("replaying") {
        replaying(&mut limits);
    }
    if wanted("creating") {
        creating(&mut limits);
    }
    if wanted("peers") {
        peers::peers(14);
        peers::peers(10_000);
    }
    limits.conclude()
}

fn print(name: &str, pair: Pair) {
    println!(
        "{name:<44} {:>6.2} x   baseline {:>8.1} ms  tool {:>8.1} ms",
        pair.ratio,
        pair.baseline.as_secs_f64() * 1e3,
        pair.tool.as_secs_f64() * 1e3
    );
}

fn start() {
    let program = env!("CARGO_BIN_EXE_datapass-pull");
    let pair =
        pairs(|| run(&mut Command::new("true")), || run(Command::new(program).arg("--version")));
    print("start: --version against true", pair);
}

fn small(limits: &mut Limits) {
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
    limits.hold("14 demandes: peak in MB", peak as f64 / 1e6, 9.0);
}

/// Returns the ratios with one, two and four concurrent page requests.
fn reading(count: usize, delay: Duration, gzip: bool) -> [f64; 3] {
    let upstream = Upstream::start(count, delay, gzip);
    let database = Database::migrated();
    // The first cycle creates the rows, so that the measured ones only read.
    run(&mut upstream.cycle(&database));
    let offsets = upstream.offsets(&database);
    ["1", "2", "4"].map(|concurrency| {
        let cycle = || {
            let mut command = upstream.cycle(&database);
            command.args(["--concurrency", concurrency]);
            command
        };
        let peak = peak_bytes(&cycle());
        let pair = pairs(|| run(&mut upstream.curl(&offsets)), || run(&mut cycle()));
        let gzip = if gzip { " gzip" } else { "" };
        print(
            &format!("reading {count}{gzip}, {} ms, concurrency {concurrency}", delay.as_millis()),
            pair,
        );
        println!("    peak {:.1} MB", peak as f64 / 1e6);
        pair.ratio
    })
}

/// Runs a replay over 3000 existing entries, against a plain cycle.
fn replaying(limits: &mut Limits) {
    let upstream = Upstream::start(10_000, Duration::ZERO, false);
    let database = Database::migrated();
    run(&mut upstream.cycle(&database));
    let pair = pairs(
        || run(&mut upstream.cycle(&database)),
        || run(upstream.cycle(&database).args(["--since", "2020-01-01"])),
    );
    print("replaying: 3000 existing, against a plain cycle", pair);
    limits.hold("replay: ratio to a plain cycle", pair.ratio, 1.05);
}

fn creating(limits: &mut Limits) {
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
    let copy = || {
        database.exec("truncate copied");
        psql(&format!("\\copy copied from {path}"))
    };
    // A cycle that creates everything, less the cycle before it that only reads
    let create = || {
        let reading = run(&mut upstream.cycle(&database));
        database.exec(
            "truncate proactivite_requests, good_jobs, datapass_pull_handled;
             update datapass_pull_watermarks set last_validated_at = null",
        );
        run(&mut upstream.cycle(&database)).saturating_sub(reading)
    };
    let pair = pairs(copy, create);
    print("creating: 3000 rows and jobs, without pages", pair);
    limits.hold("rows and jobs: ratio to copying the rows", pair.ratio, 3.0);
}
