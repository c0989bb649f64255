//! The metrics file, read by the format's grammar.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docs::runbook::blocks;
use crate::harness::*;

/// What a failed cycle tells anew; all the rest is of the last success.
const OF_ANY_END: [&str; 3] = [
    "datapass_pull_last_run_timestamp_seconds",
    "datapass_pull_last_exit_status",
    "datapass_pull_last_duration_seconds",
];

type Samples = BTreeMap<String, f64>;

/// Parses Prometheus' text format 0.0.4, strictly: for each metric its help, its type and one
/// sample, in this order, once, every line ended, single spaces, no timestamp.
fn parse(text: &str) -> Samples {
    let mut samples = BTreeMap::new();
    let mut lines = text.strip_suffix('\n').expect("a line end").split('\n');
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").expect("help first");
        let (name, words) = help.split_once(' ').expect("a help text");
        assert!(is_name(name), "{line}");
        let escapes = words.replace("\\\\", "").replace("\\n", "");
        assert!(!words.is_empty() && !escapes.contains('\\'), "{line}");
        assert_eq!(lines.next(), Some(&*format!("# TYPE {name} gauge")));
        let sample = lines.next().expect("a sample").strip_prefix(name).unwrap();
        let (labels, value) = sample.rsplit_once(' ').expect("a value");
        assert!(labels.is_empty() || are_labels(labels), "{sample}");
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{sample}");
        assert_eq!(samples.insert(name.to_owned(), value), None, "{name}");
    }
    samples
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
fn is_name(text: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

/// `{name="value"}`, the value without what would need an escape.
fn are_labels(text: &str) -> bool {
    let inner = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix("\"}"));
    let pair = inner.and_then(|text| text.split_once("=\""));
    pair.is_some_and(|(name, value)| {
        is_name(name) && !name.contains(':') && !value.contains(['"', '\\', '\n', ','])
    })
}

struct Scene {
    upstream: DataPass,
    database: Database,
    folder: tempfile::TempDir,
}

impl Scene {
    /// Makes a scene with one entry to create and one to reject.
    fn new() -> Self {
        let upstream = DataPass::start();
        upstream.add(Demande::cnous(1));
        upstream.add(Demande::cnous(2).siret("1"));
        Self {
            upstream,
            database: Database::migrated(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("datapass_pull.prom")
    }

    fn cycle(&self) -> Run {
        Run::cycle(&self.upstream, &self.database)
            .env("DATAPASS_METRICS_FILE", self.path())
            .any_stderr()
    }

    /// Reads the file, which nothing may be left beside.
    fn samples(&self) -> Samples {
        let metadata = fs::symlink_metadata(self.path()).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
        let text = fs::read_to_string(self.path()).unwrap();
        assert!(!text.to_lowercase().contains("canari"), "{text}");
        assert_eq!(self.leftovers(), 0);
        parse(&text)
    }

    fn leftovers(&self) -> usize {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with('.'))
            .count()
    }
}

fn without(samples: &Samples, names: &[&str]) -> Samples {
    let mut samples = samples.clone();
    samples.retain(|name, _| !names.contains(&name.as_str()));
    samples
}

#[test]
fn a_failure_keeps_what_the_last_success_told() {
    let scene = Scene::new();
    scene.cycle().output().success();
    let first = scene.samples();
    let value = |name: &str| first[&format!("datapass_pull_{name}")];
    let counts = (value("created"), value("rejected"), value("seen"));
    assert_eq!(counts, (1.0, 1.0, 2.0));
    assert_eq!(value("last_exit_status"), 0.0);
    let seconds = |time: chrono::DateTime<chrono::Utc>| time.timestamp_millis() as f64 / 1000.0;
    let watermark = seconds(scene.database.watermark().unwrap());
    assert_eq!(value("watermark_timestamp_seconds"), watermark);
    let rejected = seconds(Demande::cnous(2).last_validated_at.unwrap());
    assert_eq!(value("oldest_rejected_timestamp_seconds"), rejected);
    assert_eq!(
        value("last_success_timestamp_seconds"),
        value("last_run_timestamp_seconds")
    );

    scene
        .upstream
        .fault(On::pages(1..), Fault::Status(403, &[]));
    let away = scene
        .cycle()
        .env("DATABASE_URL", "postgres://canari@127.0.0.1:1/canari");
    let unstarted = scene.cycle().env("DATAPASS_CLIENT_SECRET", "");
    let mut before = value("last_run_timestamp_seconds");
    for (run, status) in [(scene.cycle(), 1.0), (away, 2.0), (unstarted, 1.0)] {
        run.output().assert_code(status as i32);
        let after = scene.samples();
        assert_eq!(without(&after, &OF_ANY_END), without(&first, &OF_ANY_END));
        assert_eq!(after["datapass_pull_last_exit_status"], status);
        let last_run = after["datapass_pull_last_run_timestamp_seconds"];
        assert!(last_run > before);
        before = last_run;
    }

    // Where the file is new each time, the database knows some of it.
    fs::remove_file(scene.path()).unwrap();
    scene.cycle().output().permanent("request_refused");
    let told = without(&scene.samples(), &OF_ANY_END);
    let names: Vec<&str> = told.keys().map(String::as_str).collect();
    let known = [
        "build_info",
        "last_success_timestamp_seconds",
        "watermark_timestamp_seconds",
    ];
    assert_eq!(names, known.map(|name| format!("datapass_pull_{name}")));
    let started = told["datapass_pull_last_success_timestamp_seconds"];
    assert!(started <= value("last_success_timestamp_seconds"));
    assert!(started > value("last_success_timestamp_seconds") - 60.0);
    assert_eq!(told["datapass_pull_watermark_timestamp_seconds"], watermark);

    scene.upstream.behave();
    scene.cycle().arg("--dry-run").output().success();
    assert_eq!(
        without(&scene.samples(), &OF_ANY_END),
        told,
        "a dry run writes nothing"
    );
}

#[test]
fn a_file_of_others_breaks_nothing() {
    let scene = Scene::new();
    scene
        .upstream
        .fault(On::pages(1..), Fault::Status(403, &[]));
    let elsewhere = scene.folder.path().join("elsewhere");
    fs::write(&elsewhere, "theirs").unwrap();
    let garbage = "foreign {{{ nonsense\n# HELP\ndatapass_pull_created NaN\ndatapass_pull_seen\n\
                   datapass_pull_rejected 1 1\ndatapass_pull_pages 7\r\ndatapass_pull_late 3";
    type Maker<'a> = &'a dyn Fn(&Path);
    let makers: [(&str, Maker<'_>); 6] = [
        ("garbage", &|path| fs::write(path, garbage).unwrap()),
        ("binary", &|path| {
            fs::write(path, [0, 159, 146, 150, 10]).unwrap()
        }),
        ("empty", &|path| fs::write(path, "").unwrap()),
        ("huge", &|path| {
            fs::File::create(path).unwrap().set_len(1 << 40).unwrap()
        }),
        ("link", &|path| symlink(&elsewhere, path).unwrap()),
        ("dangling link", &|path| {
            symlink("/nowhere/at/all", path).unwrap()
        }),
    ];
    for (name, make) in makers {
        make(&scene.path());
        scene.cycle().output().permanent("request_refused");
        let samples = scene.samples();
        let late = samples.get("datapass_pull_late").copied();
        assert_eq!(late, (name == "garbage").then_some(3.0), "{name}");
        assert_eq!(samples["datapass_pull_last_exit_status"], 1.0, "{name}");
        fs::remove_file(scene.path()).unwrap();
    }
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");

    // What is no file is not replaced by one.
    assert!(
        Command::new("mkfifo")
            .arg(scene.path())
            .status()
            .unwrap()
            .success()
    );
    let outcome = scene.cycle().output();
    outcome.permanent("request_refused");
    assert!(
        outcome
            .stderr
            .contains("cannot be written: it is not a regular file")
    );
    let kind = fs::symlink_metadata(scene.path()).unwrap().file_type();
    assert!(kind.is_fifo());
}

#[test]
fn a_file_that_cannot_be_written_is_a_warning() {
    let scene = Scene::new();
    let run = |path: &str| {
        Run::cycle(&scene.upstream, &scene.database)
            .args(["--enqueue", "none", "--metrics-file", path])
            .stderr(format!(
                "WARN datapass-pull: The metrics file {path} cannot be written: "
            ))
            .stderr("Rejected D2")
    };
    run("/nowhere/it.prom").output().success();
    // Not even root makes a file there.
    run("/proc/it.prom").output().success();
    let folder = scene.folder.path().to_str().unwrap();
    let file = format!("{folder}/it.prom");
    const FULL: &str = "mount -t tmpfs -o size=4k none \"$0\" && head -c 4096 /dev/zero >\"$0\"/fill \
                        && { \"$@\"; code=$?; ls -A \"$0\" >&2; exit $code; }";
    if isolation() != Isolation::Namespaces {
        return;
    }
    let full = run(&file).through(["unshare", "--mount", "sh", "-c", FULL, folder]);
    full.stderr("fill").output().success();
}

#[test]
fn the_documented_rules_are_about_what_is_written() {
    let rules = blocks("Prometheus").remove(0);
    let is_name = |word: &&str| word.starts_with("datapass_pull_");
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: Vec<&str> = words.filter(is_name).collect();
    assert!(named.len() >= 3, "{rules}");
    let scene = Scene::new();
    scene.cycle().output().success();
    let samples = scene.samples();
    for name in named {
        assert!(samples.contains_key(name), "{name}");
    }
}
