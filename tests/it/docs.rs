//! The documents say what the binary does.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use datapass_pull::config::VARIABLES;
use datapass_pull::error::Reason;

fn document(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn every_reason_has_its_row_and_no_other_word_has_one() {
    let readme = document("README.md");
    let section = readme.split("### What each reason means").nth(1).unwrap();
    let section = section.split("\n##").next().unwrap();
    let rows: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let reasons: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(rows, reasons);
}

#[test]
fn the_manual_and_the_readme_name_every_variable() {
    let (manual, readme) = (document("man/datapass-pull.1"), document("README.md"));
    for variable in VARIABLES {
        assert!(
            manual.contains(variable.name),
            "{} is not in the manual",
            variable.name
        );
        assert!(
            readme.contains(variable.name),
            "{} is not in the README",
            variable.name
        );
    }
}

#[test]
fn the_manual_names_every_option_and_command() {
    fn walk(command: &clap::Command, manual: &str) {
        for argument in command.get_arguments() {
            if let Some(long) = argument.get_long() {
                assert!(
                    manual.contains(&format!("Fl -{long}")),
                    "--{long} is not in the manual"
                );
            }
        }
        for sub in command.get_subcommands() {
            assert!(
                manual.contains(sub.get_name()),
                "{} is not in the manual",
                sub.get_name()
            );
            walk(sub, manual);
        }
    }
    walk(
        &datapass_pull::cli::command(),
        &document("man/datapass-pull.1"),
    );
}

#[test]
fn the_manual_is_clean() {
    let manual = format!("{}/man/datapass-pull.1", env!("CARGO_MANIFEST_DIR"));
    let lint = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning", &manual])
        .output();
    let lint = lint.expect("mandoc is needed: apt-get install mandoc");
    assert!(
        lint.status.success(),
        "{}",
        String::from_utf8_lossy(&lint.stdout)
    );
}
