//! The metrics file: Prometheus' text format 0.0.4, for a textfile collector.
//!
//! It is written beside and renamed, so that a collector never reads half of it. Every sample has
//! the definition as a label, so that several definitions can share a collector. A failed cycle
//! reports when and how it ended and keeps the rest of the last success of its definition: an alert
//! on the state must not end because a cycle failed. No line has a timestamp, as the collector
//! demands.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::cycle::filter::Class;
use crate::cycle::outcome::Outcome;
use crate::error::{Exit, Reason};
use crate::process::run_id;
use crate::types::entry::Entry;

/// What every name begins with.
const PREFIX: &str = "datapass_pull_";
const LAST_SUCCESS: &str = "last_success_timestamp_seconds";
const WATERMARK: &str = "watermark_timestamp_seconds";
const OLDEST: &str = "oldest_rejected_timestamp_seconds";
/// How much of an existing file is read: far more than we ever write.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Writes the metrics of a cycle that ended.
///
/// # Errors
///
/// What is not a regular file, such as a pipe or a device, is left alone; a symbolic link to one is
/// replaced, and what it points at is not touched.
pub fn write(path: &Path, definition: &str, outcome: &Outcome, exit: Exit) -> io::Result<()> {
    let beside = beside(path)?;
    // What cannot be read is as good as absent.
    let before = read(path).unwrap_or_default();
    write_and_rename(&beside, path, &render(&label(definition), outcome, exit, &before))
}

/// Does what [`write`] does, but leaves the metrics alone: a new file is renamed beside them,
/// then removed.
pub fn probe(path: &Path) -> io::Result<()> {
    let beside = beside(path)?;
    let renamed = beside.with_extension("probe");
    write_and_rename(&beside, &renamed, "")?;
    fs::remove_file(renamed)
}

/// Returns a name beside a regular file that is this run's alone, whoever else writes there;
/// collectors only read `*.prom`.
fn beside(path: &Path) -> io::Result<PathBuf> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(path.with_file_name(format!(".datapass_pull.{}", run_id::current())))
}

fn write_and_rename(new: &Path, target: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(new)?;
    let written = file
        .set_permissions(fs::Permissions::from_mode(0o644))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(new, target));
    if written.is_err() {
        // The failure is reported; a leftover would be the only harm.
        let _ = fs::remove_file(new);
    }
    written
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds a sample of a definition; anything else in a file is passed over.
fn sample(text: &str, labels: &str, name: &str) -> Option<f64> {
    let start = format!("{PREFIX}{name}{{{labels}}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok());
    value.filter(|value: &f64| value.is_finite())
}

/// Returns the label of a definition; quotes, backslashes and line ends are escaped.
fn label(definition: &str) -> String {
    let escaped = definition.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("definition=\"{escaped}\"")
}

/// Writes a metric with its help and type, which are the same for every definition.
fn metric(labels: &str, name: &str, help: &str, value: f64) -> String {
    format!(
        "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} gauge\n\
         {PREFIX}{name}{{{labels}}} {value}\n"
    )
}

/// Writes the metrics of a cycle; a failed one keeps those from `before` where it has none.
fn render(labels: &str, outcome: &Outcome, exit: Exit, before: &str) -> String {
    let summary = &outcome.run.summary;
    // The history is of the definition that the watermark belongs to.
    let is_ours = summary.reason != Some(Reason::DefinitionChanged);
    let history = outcome.history.as_ref().filter(|_| is_ours);
    let seconds = |time: DateTime<Utc>| time.timestamp_millis() as f64 / 1000.0;
    let kept = |name: &str, fresh: Option<f64>| match exit {
        Exit::Success => fresh,
        _ => sample(before, labels, name),
    };
    let now = Some(seconds(Utc::now()));
    let (status, duration) = (f64::from(exit.code()), summary.duration_ms as f64 / 1000.0);
    // Without a file before, the database may know.
    let last_success = history.and_then(|history| history.last_success);
    let success = kept(LAST_SUCCESS, now).or(last_success.map(seconds));
    let watermark = match history {
        Some(_) => summary.watermark.map(seconds),
        None => kept(WATERMARK, None),
    };
    let oldest = outcome.decisions.of(Class::Rejected).find_map(Entry::time);
    let oldest = kept(OLDEST, oldest.map(seconds));
    let mut text = String::new();
    for (name, help, value) in [
        ("last_run_timestamp_seconds", "When a cycle last ended, in Unix seconds.", now),
        ("last_exit_status", "The exit status of the last cycle.", Some(status)),
        ("last_duration_seconds", "How long the last cycle took.", Some(duration)),
        (LAST_SUCCESS, "When a cycle last succeeded, in Unix seconds.", success),
        (WATERMARK, "The watermark, in Unix seconds.", watermark),
        (OLDEST, "The validation time of the oldest rejected entry, in Unix seconds.", oldest),
    ] {
        text.extend(value.map(|value| metric(labels, name, help, value)));
    }
    for (name, count) in summary.counters() {
        let help = format!("The counter {name} of the last cycle that succeeded.");
        let value = kept(&name, Some(count as f64));
        text.extend(value.map(|value| metric(labels, &name, &help, value)));
    }
    let build = format!("{labels},version=\"{}\"", env!("CARGO_PKG_VERSION"));
    text + &metric(&build, "build_info", "The version of the program.", 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_samples_of_the_definition_are_read_back() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let names = [r#"a"b\c"#, "a\nb", "a", r#"a" "#, "a,version=\"1"];
        let samples = |name: &str, value| metric(&label(name), "created", "Help.", value);
        let all: Vec<String> =
            (1..).zip(names).map(|(value, name)| samples(name, f64::from(value))).collect();
        assert!(all[0].contains(r#"datapass_pull_created{definition="a\"b\\c"} 1"#), "{}", all[0]);
        assert!(all[1].contains(r#"{definition="a\nb"} 2"#), "{}", all[1]);
        fs::write(file.path(), all.concat()).unwrap();
        for (value, name) in (1..).zip(names) {
            let read = sample(&read(file.path()).unwrap(), &label(name), "created");
            assert_eq!(read, Some(f64::from(value)), "{name}");
        }
    }
}
