//! The metrics file: Prometheus' text format 0.0.4, for a textfile collector.
//!
//! It is written beside and renamed, so that a collector never reads half of it. A failed cycle
//! says when and how it ended and leaves the rest as the last success told it: an alert on the
//! state must not end because a cycle failed. No line carries a timestamp, as the collector
//! demands.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::cycle::outcome::Outcome;
use crate::exit::Exit;
use crate::process::run_id;

/// What every name begins with.
const PREFIX: &str = "datapass_pull_";
/// How much of an existing file is read: far more than we ever write.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Writes the metrics of a cycle that ended.
///
/// # Errors
///
/// What is not a regular file, such as a pipe or a device, is left alone; a symbolic link to one is
/// replaced, and what it points at is not touched.
pub fn write(path: &Path, outcome: &Outcome, exit: Exit) -> io::Result<()> {
    require_regular(path)?;
    let before = match exit {
        Exit::Success => BTreeMap::new(),
        // What cannot be read is as good as absent.
        _ => read(path).unwrap_or_default(),
    };
    let text = render(outcome, exit, Utc::now(), &before);
    let beside = beside(path);
    let written = write_new(&beside, &text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // A leftover would be the only harm, and the failure is told.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Does what [`write`] does, but leaves the metrics alone: a new file is renamed beside them, then
/// removed.
pub fn probe(path: &Path) -> io::Result<()> {
    require_regular(path)?;
    let beside = beside(path);
    let renamed = beside.with_extension("probe");
    let written = write_new(&beside, "").and_then(|()| fs::rename(&beside, &renamed));
    let leftover = if written.is_ok() { renamed } else { beside };
    let removed = fs::remove_file(leftover);
    written.and(removed)
}

fn require_regular(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(())
}

/// Returns a name that is this run's alone, whoever else writes there; collectors only read
/// `*.prom`.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".datapass_pull.{}", run_id::current()))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Reads back the plain samples of a file; anything else in it is passed over.
fn read(path: &Path) -> io::Result<BTreeMap<String, f64>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let samples = text
        .lines()
        .filter_map(|line| line.strip_prefix(PREFIX)?.split_once(' '));
    Ok(samples
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .filter(|(_, value): &(String, f64)| value.is_finite())
        .collect())
}

fn render(
    outcome: &Outcome,
    exit: Exit,
    now: DateTime<Utc>,
    before: &BTreeMap<String, f64>,
) -> String {
    let summary = &outcome.run.summary;
    let history = outcome.history.as_ref();
    let succeeded = exit == Exit::Success;
    let seconds = |time: DateTime<Utc>| time.timestamp_millis() as f64 / 1000.0;
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} gauge\n{PREFIX}{name} {value}\n"
            );
        }
    };
    gauge(
        "last_run_timestamp_seconds",
        "When a cycle last ended, in Unix seconds.",
        Some(seconds(now)),
    );
    gauge(
        "last_exit_status",
        "The exit status of the last cycle.",
        Some(f64::from(exit.code())),
    );
    gauge(
        "last_duration_seconds",
        "How long the last cycle took.",
        Some(summary.duration_ms as f64 / 1000.0),
    );
    // From here on, a failed cycle keeps what was there.
    let kept = |name: &str, fresh: Option<f64>| match succeeded {
        true => fresh,
        false => before.get(name).copied(),
    };
    let last_success = history.and_then(|history| history.last_success);
    let name = "last_success_timestamp_seconds";
    gauge(
        name,
        "When a cycle last succeeded, in Unix seconds.",
        // Without a file before, the database may know.
        kept(name, Some(seconds(now))).or(last_success.map(|last| seconds(last.started_at))),
    );
    let name = "watermark_timestamp_seconds";
    gauge(
        name,
        "The watermark, in Unix seconds.",
        match history {
            Some(_) => summary.watermark.map(seconds),
            None => kept(name, None),
        },
    );
    let name = "oldest_rejected_timestamp_seconds";
    gauge(
        name,
        "The validation time of the oldest rejected entry, in Unix seconds.",
        kept(name, outcome.findings.oldest_rejected.map(seconds)),
    );
    for (name, count) in summary.counters() {
        let help = format!("The counter {name} of the last cycle that succeeded.");
        gauge(name, &help, kept(name, Some(count as f64)));
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        text,
        "# HELP {PREFIX}build_info The version of the program.\n\
         # TYPE {PREFIX}build_info gauge\n{PREFIX}build_info{{version=\"{version}\"}} 1\n"
    );
    text
}
