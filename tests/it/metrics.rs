//! The metrics file, parsed by the grammar of its format.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::docs::runbook::blocks;
use crate::harness::*;

/// The metrics that a failed cycle updates; all others are those of the last success.
const UPDATED_BY_FAILURE: [&str; 3] = [
    "datapass_pull_last_run_timestamp_seconds",
    "datapass_pull_last_exit_status",
    "datapass_pull_last_duration_seconds",
];

/// The default definition
const DEFINITION: &str = "proactivite_pour_les_etudiants_boursiers_dyn";

type Samples = BTreeMap<String, f64>;

/// Parses Prometheus' text format 0.0.4, strictly: for each metric its help, its type and one
/// sample, in this order, once, every line ended, single spaces, no timestamp.
fn parse(text: &str, definition: &str) -> Samples {
    check_by_promtool(text);
    let mut samples = BTreeMap::new();
    let mut lines = text.strip_suffix('\n').expect("a line end").split('\n');
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").expect("help first");
        let (name, _) = help.split_once(' ').expect("a help text");
        assert_eq!(lines.next(), Some(&*format!("# TYPE {name} gauge")));
        let labels = match name.ends_with("build_info") {
            true => concat!(",version=\"", env!("CARGO_PKG_VERSION"), "\""),
            false => "",
        };
        let sample = lines.next().expect("a sample");
        let labelled = format!("{name}{{definition=\"{definition}\"{labels}}} ");
        let value: f64 = sample.strip_prefix(&labelled).expect(sample).parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{sample}");
        assert_eq!(samples.insert(name.to_owned(), value), None, "{name}");
    }
    samples
}

fn check_by_promtool(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: apt-get install prometheus");
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let problems = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&problems));
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
        Self { upstream, database: Database::migrated(), folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("datapass_pull.prom")
    }

    fn cycle(&self) -> Run {
        Run::cycle(&self.upstream, &self.database)
            .env("DATAPASS_METRICS_FILE", self.path())
            .any_stderr()
    }

    /// Reads the file; no temporary file may be left beside it.
    fn samples(&self) -> Samples {
        let metadata = fs::symlink_metadata(self.path()).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
        let text = fs::read_to_string(self.path()).unwrap();
        assert!(!text.to_lowercase().contains("canari"), "{text}");
        assert_eq!(self.leftovers(), 0);
        parse(&text, DEFINITION)
    }

    fn leftovers(&self) -> usize {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with('.')).count()
    }
}

fn without(samples: &Samples, names: &[&str]) -> Samples {
    let mut samples = samples.clone();
    samples.retain(|name, _| !names.contains(&name.as_str()));
    samples
}

#[test]
fn a_failure_keeps_the_metrics_of_the_last_success() {
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
    assert_eq!(value("last_success_timestamp_seconds"), value("last_run_timestamp_seconds"));

    scene.upstream.fault(On::pages(1..), Fault::Status(403, &[]));
    let away = scene.cycle().env("DATABASE_URL", "postgres://canari@127.0.0.1:1/canari");
    let away = away.env("DATAPASS_MAX_RETRIES", "0");
    let unstarted = scene.cycle().env("DATAPASS_CLIENT_SECRET", "");
    let mut before = value("last_run_timestamp_seconds");
    for (run, status) in [(scene.cycle(), 1.0), (away, 2.0), (unstarted, 1.0)] {
        run.output().assert_code(status as i32);
        let after = scene.samples();
        assert_eq!(without(&after, &UPDATED_BY_FAILURE), without(&first, &UPDATED_BY_FAILURE));
        assert_eq!(after["datapass_pull_last_exit_status"], status);
        let last_run = after["datapass_pull_last_run_timestamp_seconds"];
        assert!(last_run > before);
        before = last_run;
    }

    // Without an old file, some metrics come from the database.
    fs::remove_file(scene.path()).unwrap();
    scene.cycle().output().permanent("request_refused");
    let kept = without(&scene.samples(), &UPDATED_BY_FAILURE);
    let names: Vec<&str> = kept.keys().map(String::as_str).collect();
    let known = ["build_info", "last_success_timestamp_seconds", "watermark_timestamp_seconds"];
    assert_eq!(names, known.map(|name| format!("datapass_pull_{name}")));
    let started = kept["datapass_pull_last_success_timestamp_seconds"];
    assert!(started <= value("last_success_timestamp_seconds"));
    assert!(started > value("last_success_timestamp_seconds") - 60.0);
    assert_eq!(kept["datapass_pull_watermark_timestamp_seconds"], watermark);

    scene.upstream.clear_rules();
    scene.cycle().arg("--dry-run").output().success();
    assert_eq!(without(&scene.samples(), &UPDATED_BY_FAILURE), kept, "a dry run writes nothing");
}

#[test]
fn a_foreign_or_invalid_file_is_replaced_or_kept_without_a_failure() {
    let scene = Scene::new();
    scene.upstream.fault(On::pages(1..), Fault::Status(403, &[]));
    let elsewhere = scene.folder.path().join("elsewhere");
    fs::write(&elsewhere, "theirs").unwrap();
    let garbage = "foreign {{{ nonsense\n# HELP\ndatapass_pull_created{LABEL} NaN\n\
                   datapass_pull_seen{LABEL}\ndatapass_pull_rejected{LABEL} 1 1\n\
                   datapass_pull_pages{LABEL} 7\r\ndatapass_pull_existing 4\n\
                   datapass_pull_accepted{definition=\"other\"} 5\ndatapass_pull_late{LABEL} 3";
    let garbage = garbage.replace("LABEL", &format!("definition=\"{DEFINITION}\""));
    type Maker<'a> = &'a dyn Fn(&Path);
    let makers: [(&str, Maker<'_>); 6] = [
        ("garbage", &|path| fs::write(path, &garbage).unwrap()),
        ("binary", &|path| fs::write(path, [0, 159, 146, 150, 10]).unwrap()),
        ("empty", &|path| fs::write(path, "").unwrap()),
        ("huge", &|path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
        ("link", &|path| symlink(&elsewhere, path).unwrap()),
        ("dangling link", &|path| symlink("/nowhere/at/all", path).unwrap()),
    ];
    for (name, make) in makers {
        make(&scene.path());
        scene.cycle().output().permanent("request_refused");
        let samples = scene.samples();
        let late = samples.get("datapass_pull_late").copied();
        assert_eq!(late, (name == "garbage").then_some(3.0), "{name}");
        for lost in ["created", "seen", "rejected", "existing", "accepted"] {
            let lost = format!("datapass_pull_{lost}");
            assert!(!samples.contains_key(&lost), "{name}: {lost}");
        }
        assert_eq!(samples["datapass_pull_last_exit_status"], 1.0, "{name}");
        fs::remove_file(scene.path()).unwrap();
    }
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");

    // Only a regular file is replaced.
    assert!(Command::new("mkfifo").arg(scene.path()).status().unwrap().success());
    let outcome = scene.cycle().output();
    outcome.permanent("request_refused");
    assert!(outcome.stderr.contains("datapass_pull.prom: it is not a regular file"));
    let kind = fs::symlink_metadata(scene.path()).unwrap().file_type();
    assert!(kind.is_fifo());
}

#[test]
fn a_file_that_cannot_be_written_is_a_warning() {
    let scene = Scene::new();
    let run = |path: &str| {
        Run::cycle(&scene.upstream, &scene.database)
            .args(["--enqueue", "none", "--metrics-file", path])
            .stderr(format!("WARN datapass-pull: Cannot write the metrics file {path}: "))
            .stderr("Rejected D2")
    };
    run("/nowhere/it.prom").output().success();
    // Not even root can create a file there.
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

/// A failed cycle keeps the metrics of the last success of its own definition only.
#[test]
fn each_definition_has_its_own_samples() {
    let scene = Scene::new();
    scene.cycle().output().success();
    let first = fs::read_to_string(scene.path()).unwrap();
    let other = scene.cycle().env("DATAPASS_DEFINITION_ID", "a\"b\\");
    other.clone().output().permanent("definition_changed");
    let text = fs::read_to_string(scene.path()).unwrap();
    let samples = parse(&text, r#"a\"b\\"#);
    let names: Vec<&String> = samples.keys().collect();
    let mut expected = UPDATED_BY_FAILURE.to_vec();
    expected.push("datapass_pull_build_info");
    expected.sort_unstable();
    assert_eq!(names, expected);

    // A collector that reads both files requires the same help text.
    let (_, help_of_first) =
        first.split_once("# HELP datapass_pull_last_duration_seconds").unwrap();
    let (_, help_of_other) = text.split_once("# HELP datapass_pull_last_duration_seconds").unwrap();
    assert_eq!(help_of_first.lines().next(), help_of_other.lines().next());

    // Without a valid definition there is no label, and no file is written.
    let nameless = scene.cycle().env("DATAPASS_DEFINITION_ID", "a\tb");
    nameless.output().permanent("configuration");
    assert_eq!(fs::read_to_string(scene.path()).unwrap(), text);
}

#[test]
fn the_documented_rules_are_valid_and_use_existing_metrics() {
    let rules = blocks("Prometheus").remove(0);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &rules).unwrap();
    let checked =
        Command::new("promtool").args(["check", "rules"]).arg(file.path()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let is_name = |word: &&str| word.starts_with("datapass_pull_");
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: Vec<&str> = words.filter(is_name).collect();
    assert!(named.len() >= 6, "{rules}");
    let scene = Scene::new();
    scene.cycle().output().success();
    let samples = scene.samples();
    for name in named {
        assert!(samples.contains_key(name), "{name}");
    }
}
