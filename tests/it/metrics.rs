//! The metrics file, read by the format's grammar.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::*;

/// Parses Prometheus' text format 0.0.4, strictly: help and type before each sample, once.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut announced = Vec::new();
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help text");
            assert!(
                !words.is_empty() && !announced.contains(&name.to_owned()),
                "{line}"
            );
            announced.push(name.to_owned());
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(
                kind,
                format!("{} gauge", announced.last().expect("help first"))
            );
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample");
        let name = series.split('{').next().unwrap();
        assert_eq!(Some(name), announced.last().map(String::as_str), "{line}");
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit()));
        assert!(
            samples
                .insert(series.to_owned(), value.parse().unwrap())
                .is_none(),
            "{line}"
        );
    }
    samples
}

#[test]
fn the_last_success_outlives_a_failure() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    upstream.add(Demande::cnous(2).siret("1"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("datapass_pull.prom");
    fs::write(&path, "foreign {{{ nonsense\n# HELP\n").unwrap();
    let run = || {
        Run::cycle(&upstream, &database)
            .env("DATAPASS_METRICS_FILE", &path)
            .any_stderr()
            .output()
    };
    run().success();
    let first = parse(&fs::read_to_string(&path).unwrap());
    assert_eq!(first["datapass_pull_last_exit_status"], 0.0);
    assert_eq!(first["datapass_pull_created"], 1.0);
    assert_eq!(first["datapass_pull_rejected"], 1.0);
    let expected = database.watermark().unwrap().timestamp_millis() as f64 / 1000.0;
    assert_eq!(first["datapass_pull_watermark_timestamp_seconds"], expected);
    assert!(first.contains_key("datapass_pull_oldest_rejected_timestamp_seconds"));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o644
    );

    upstream.fault(On::pages(1..), Fault::Status(403, &[]));
    run().permanent("request_refused");
    let text = fs::read_to_string(&path).unwrap();
    let second = parse(&text);
    assert_eq!(second["datapass_pull_last_exit_status"], 1.0);
    let success = "datapass_pull_last_success_timestamp_seconds";
    assert_eq!(second[success], first[success]);
    assert!(!text.to_lowercase().contains("canari"));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn a_file_that_cannot_be_written_changes_no_exit_code() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let run = Run::cycle(&upstream, &database).args(["--metrics-file", "/nowhere/it.prom"]);
    run.any_stderr().output().success();
}
