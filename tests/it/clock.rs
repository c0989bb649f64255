//! Clocks: DataPass' clock bounds the watermark, and this machine's clock may be wrong or jump.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};

use crate::harness::datapass::Clock;
use crate::harness::*;

/// DataPass' time during the listing
fn now() -> DateTime<Utc> {
    at("2026-05-18T10:00:00Z")
}

/// The newest validation that is not later
fn watermark() -> DateTime<Utc> {
    now() - TimeDelta::seconds(30)
}

/// Makes seventy demandes, one validated each minute; the last ten are dated after DataPass' clock.
fn upstream() -> DataPass {
    let upstream = DataPass::start();
    upstream.with(|upstream| upstream.clock = Clock::Fixed(now()));
    for id in 1..=70 {
        let time = watermark() + TimeDelta::minutes(id - 60);
        let demande = Demande::cnous(id).created(time - TimeDelta::days(1));
        upstream.add(demande.validated(time));
    }
    upstream
}

/// Returns the path of libfaketime, which depends on the architecture.
fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let libraries = folders.map(|it| it.path().join("faketime/libfaketime.so.1"));
    let library = libraries.into_iter().find(|library| library.exists());
    library.expect("libfaketime is needed: apt-get install faketime")
}

/// Describes a cycle on a machine whose wall clock follows this file, for instance `+365d`.
fn run_by(shift: &Path, upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database)
        .args(["--page-size", "30", "--timeout", "60s"])
        .env("DATAPASS_ENQUEUE", "none")
        .env("LD_PRELOAD", faketime())
        .env("TZ", "UTC")
        .env("FAKETIME_TIMESTAMP_FILE", shift)
        .env("FAKETIME_NO_CACHE", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .stderr("10 entries are dated after DataPass' own clock")
}

#[test]
fn a_wall_clock_that_is_wrong_by_a_year_or_jumps_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (before, after) in [("+0", "+365d"), ("+0", "-365d"), ("+365d", "+365d"), ("-365d", "+0")] {
        let (upstream, database) = (upstream(), Database::migrated());
        let shift = folder.path().join("shift");
        fs::write(&shift, before).unwrap();
        let run = run_by(&shift, &upstream, &database);
        let next = folder.path().join("next");
        fs::write(&next, after).unwrap();
        upstream.before(On::page(2), move |_| fs::rename(&next, &shift).unwrap());
        let summary = run.output().success();
        assert_eq!(summary.created, 70, "{before} {after}");
        assert_eq!(summary.watermark, Some(watermark()), "{before} {after}");
        assert!(summary.duration_ms < 60_000, "{before} {after}");
    }
}

#[test]
fn without_a_date_header_this_machines_clock_bounds_the_watermark_with_a_warning() {
    let (upstream, database) = (upstream(), Database::migrated());
    let no_date = Fault::edit(|response| response.remove_header("Date"));
    upstream.fault(On::everything(), no_date);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, now().format("@%F %T").to_string()).unwrap();
    let run = run_by(file.path(), &upstream, &database);
    let run = run.stderr("DataPass sends no Date; this machine's clock");
    let summary = run.output().success();
    assert_eq!(summary.created, 70);
    assert_eq!(summary.watermark, Some(watermark()));
}
