//! The metrics file: Prometheus' text format 0.0.4, for a textfile collector.
//!
//! It is written beside and renamed, so that a collector never reads half of it. A failed cycle
//! keeps what only a successful one knows. No line carries a timestamp, as the collector demands.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chrono::Utc;

use crate::cycle::Account;
use crate::exit::Exit;

/// What a failed cycle keeps of the file before it, with its help.
const KEPT: [(&str, &str); 1] = [(
    "last_success_timestamp_seconds",
    "When a cycle last succeeded, in Unix seconds.",
)];

/// Writes the metrics of a cycle that ended.
pub fn write(path: &Path, account: &Account, exit: Exit) -> io::Result<()> {
    let before = fs::read_to_string(path)
        .map(|text| parse(&text))
        .unwrap_or_default();
    let text = render(account, exit, Utc::now().timestamp(), &before);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = path.with_file_name(format!(".{}.{}", name.display(), std::process::id()));
    let written = write_beside(&beside, &text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // A leftover would be the only harm, and the failure is told.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write_beside(beside: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(beside)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn render(account: &Account, exit: Exit, now: i64, before: &BTreeMap<String, f64>) -> String {
    let summary = &account.summary;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut gauge = |name: &str, help: &str, value: f64| {
        let _ = writeln!(text, "# HELP datapass_pull_{name} {help}");
        let _ = writeln!(text, "# TYPE datapass_pull_{name} gauge");
        let _ = writeln!(text, "datapass_pull_{name} {value}");
    };
    gauge(
        "last_run_timestamp_seconds",
        "When a cycle last ended, in Unix seconds.",
        now as f64,
    );
    for (name, help) in KEPT {
        let kept = before.get(&format!("datapass_pull_{name}")).copied();
        if let Some(value) = if exit == Exit::Success {
            Some(now as f64)
        } else {
            kept
        } {
            gauge(name, help, value);
        }
    }
    gauge(
        "last_exit_status",
        "The exit status of the last cycle.",
        f64::from(exit.code()),
    );
    let duration = summary.duration_ms as f64 / 1000.0;
    gauge(
        "last_duration_seconds",
        "How long the last cycle took.",
        duration,
    );
    for (name, count) in summary.counters() {
        gauge(
            name,
            &format!("The counter {name} of the last cycle's summary."),
            count as f64,
        );
    }
    if let Some(watermark) = summary.watermark {
        let seconds = watermark.timestamp_millis() as f64 / 1000.0;
        gauge(
            "watermark_timestamp_seconds",
            "The watermark, in Unix seconds.",
            seconds,
        );
    }
    if let Some(oldest) = account.findings.oldest_rejected {
        let seconds = oldest.timestamp_millis() as f64 / 1000.0;
        let help = "The validation time of the oldest rejected entry, in Unix seconds.";
        gauge("oldest_rejected_timestamp_seconds", help, seconds);
    }
    let _ = writeln!(
        text,
        "# HELP datapass_pull_build_info The version of the program."
    );
    let _ = writeln!(text, "# TYPE datapass_pull_build_info gauge");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(text, "datapass_pull_build_info{{version=\"{version}\"}} 1");
    text
}

/// Reads back the plain samples; anything else is passed over.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .filter(|(_, value): &(String, f64)| value.is_finite())
        .collect()
}
