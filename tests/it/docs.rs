//! The documents say what the binary does.

mod manual;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use datapass_pull::cli::variables::VARIABLES;
use datapass_pull::error::Reason;

use crate::harness::{DataPass, Database, Demande};

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
fn the_readme_names_every_variable() {
    let readme = document("README.md");
    for variable in VARIABLES {
        assert!(readme.contains(variable.name), "{}", variable.name);
    }
}

#[test]
fn the_binary_takes_every_command_of_the_readme() {
    let readme = document("README.md");
    let commands = readme.lines();
    let commands = commands.filter_map(|line| line.strip_prefix("$ datapass-pull "));
    let commands: Vec<&str> = commands.collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let script = format!("printf '%s\\0' datapass-pull {command}");
        let words = Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap()
            .stdout;
        let words = String::from_utf8(words).unwrap();
        let words = words.split_terminator('\0').map(OsString::from);
        let words: Vec<OsString> = words.collect();
        assert!(datapass_pull::cli::parse(&words).is_ok(), "{command}");
    }
}

#[test]
fn the_manual_says_what_the_binary_says() {
    let name = "man/datapass-pull.1";
    let wanted = manual::rewritten(document(name).trim_end()) + "\n";
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/datapass-pull.1");
    fs::write(file, &wanted).unwrap();
    let hint = format!("{name} is behind the binary: cp {file} {name}");
    assert!(document(name) == wanted, "{hint}");
}

/// What stands for the programs of others that the manual's examples call.
const OTHERS: &str = r#"
crontab() { [ "$1" = -l ] || cat > "$HOME/crontab"; }
kubectl() { cat > "$HOME/kubectl"; }
"#;

#[test]
fn the_examples_of_the_manual_work() {
    let (upstream, database) = (DataPass::start(), Database::empty());
    upstream.add(Demande::cnous(1));
    let folder = tempfile::tempdir().unwrap();
    let (id, secret) = upstream.credentials();
    let settings = [
        ("DATAPASS_AUTH_URL", upstream.auth_url()),
        ("DATAPASS_API_BASE_URL", upstream.api_base_url()),
        ("DATAPASS_CLIENT_ID", id),
        ("DATAPASS_CLIENT_SECRET", secret),
        ("DATABASE_URL", database.url()),
        ("DATAPASS_ENQUEUE", "none".to_owned()),
    ];
    let lines = settings.each_ref();
    let lines = lines.map(|(name, value)| format!("{name}='{value}'\n"));
    let env_file = folder.path().join("env");
    fs::write(&env_file, lines.concat()).unwrap();

    let manual = document("man/datapass-pull.1");
    let examples = manual
        .lines()
        .filter_map(|line| line.strip_prefix(".Dl $ "));
    let examples: Vec<&str> = examples.collect();
    assert!(examples.len() >= 10, "{examples:?}");
    let script = format!("set -eu\n{OTHERS}{}\n", examples.join("\n"));
    let script = script.replace("/etc/datapass-pull.env", env_file.to_str().unwrap());
    let binary = Path::new(env!("CARGO_BIN_EXE_datapass-pull"));
    let path = format!("{}:/usr/bin:/bin", binary.parent().unwrap().display());
    // Where an example names no env file, the environment has the settings.
    let output = Command::new("sh")
        .args(["-c", &script])
        .env_clear()
        .envs(settings)
        .env("PATH", path)
        .env("HOME", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.matches("outcome=success").count(), 3, "{printed}");
    assert!(
        printed.contains("# /etc/systemd/system/datapass-pull.timer\n"),
        "{printed}"
    );
    let kept = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(kept("crontab").contains("CRON_TZ=UTC\n0 1 * * * "));
    assert!(kept("kubectl").contains("schedule: \"*/30 6-20 * * *\""));
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
