//! README, manuals and runbook agree with the binary.

mod manual;
pub(crate) mod runbook;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use datapass_pull::cli::variables::VARIABLES;
use datapass_pull::error::{Exit, Reason};
use serde_json::Value;

use crate::harness::{DataPass, Database, Demande, Run, Summary};

fn document(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_runbook_explains_every_reason_and_no_other() {
    for (title, exit) in [("Permanent", Exit::Permanent), ("Transient", Exit::Transient)] {
        let items = runbook::section(title).lines();
        let items: Vec<&str> = items.filter_map(|it| it.strip_prefix(".It Sy ")).collect();
        let reasons = Reason::ALL.iter().filter(|reason| reason.exit() == exit);
        let reasons: BTreeSet<&str> = reasons.map(|reason| reason.as_str()).collect();
        assert_eq!(items.len(), reasons.len(), "{title}");
        assert_eq!(BTreeSet::from_iter(items), reasons, "{title}");
    }
}

#[test]
fn the_readme_names_what_a_first_cycle_needs_and_every_command() {
    let readme = document("README.md");
    for variable in VARIABLES.iter().filter(|variable| variable.required) {
        assert!(readme.contains(variable.name), "{}", variable.name);
    }
    let commands = datapass_pull::cli::command();
    let commands = commands.get_subcommands().map(|command| command.get_name());
    for command in commands.filter(|name| *name != "help") {
        let is_named = |line: &str| line.starts_with("| `") && line.contains(command);
        assert!(readme.lines().any(is_named), "{command}");
    }
    for module in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let module = module.unwrap();
        let name = module.file_name().into_string().unwrap() + "/";
        let is_folder = module.file_type().unwrap().is_dir();
        assert!(!is_folder || readme.contains(&name), "{name}");
    }
}

#[test]
fn the_readme_shows_the_summary_of_a_first_cycle() {
    let readme = document("README.md");
    let line = readme.lines().find(|line| line.starts_with("outcome="));
    let shown = Summary::from_text(line.unwrap()).unwrap();
    assert_eq!((shown.matched, shown.created, shown.enqueued), (7, 7, 7));
}

#[test]
fn the_binary_accepts_every_documented_command() {
    let documents = document("README.md") + runbook::RUNBOOK;
    let commands = documents.lines();
    let commands = commands.filter_map(|line| line.strip_prefix("$ datapass-pull "));
    let commands: Vec<&str> = commands.collect();
    assert!(commands.len() > 12, "{commands:?}");
    for command in commands {
        let script = format!("printf '%s\\0' datapass-pull {command}");
        let words = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
        let words = String::from_utf8(words).unwrap();
        let words = words.split_terminator('\0').map(OsString::from);
        let words: Vec<OsString> = words.collect();
        assert!(datapass_pull::cli::parse(&words).is_ok(), "{command}");
    }
}

#[test]
fn the_generated_parts_of_the_manual_are_up_to_date() {
    let name = "man/datapass-pull.1";
    let wanted = manual::rewritten(document(name).trim_end()) + "\n";
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/datapass-pull.1");
    fs::write(file, &wanted).unwrap();
    let hint = format!("{name} is out of date: cp {file} {name}");
    assert!(document(name) == wanted, "{hint}");
}

/// Shell functions that replace other programs in the manual's examples.
const OTHER_PROGRAMS: &str = r#"
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
    let examples = manual.lines().filter_map(|line| line.strip_prefix(".Dl $ "));
    let examples: Vec<&str> = examples.collect();
    assert!(examples.len() >= 10, "{examples:?}");
    let script = format!("set -eu\n{OTHER_PROGRAMS}{}\n", examples.join("\n"));
    let script = script.replace("/etc/datapass-pull.env", env_file.to_str().unwrap());
    let binary = Path::new(env!("CARGO_BIN_EXE_datapass-pull"));
    let path = format!("{}:/usr/bin:/bin", binary.parent().unwrap().display());
    // For the examples without an env file, the settings are in the environment.
    let output = Command::new("sh")
        .args(["-c", &script])
        .env_clear()
        .envs(settings)
        .env("PATH", path)
        .env("HOME", folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.matches("outcome=success").count(), 3, "{printed}");
    assert!(printed.contains("# /etc/systemd/system/datapass-pull.timer\n"), "{printed}");
    let kept = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(kept("crontab").contains("CRON_TZ=UTC\n0 1 * * * "));
    assert!(kept("kubectl").contains("schedule: \"*/30 6-20 * * *\""));
}

/// Returns the fields that a section of the manual lists.
fn documented_fields(title: &str) -> Vec<String> {
    let manual = document("man/datapass-pull.1");
    let section = runbook::section_of(&manual, title);
    let items = section.lines().filter_map(|it| it.strip_prefix(".It Va "));
    let fields = items.flat_map(|item| item.split(" , "));
    fields.map(str::to_owned).collect()
}

/// Returns the fields of a JSON document. Those of an array's elements are named by their paths,
/// unless the array itself is `documented`.
fn fields(value: &Value, documented: &[String]) -> Vec<String> {
    let of = |(name, value): (&String, &Value)| match value {
        Value::Array(elements)
            if elements.iter().any(Value::is_object) && !documented.contains(name) =>
        {
            let elements = elements[0].as_object().unwrap();
            elements.keys().map(|it| format!("{name}[].{it}")).collect()
        }
        _ => vec![name.clone()],
    };
    value.as_object().unwrap().iter().flat_map(of).collect()
}

#[test]
fn the_manual_names_every_field_of_the_json_documents() {
    let (upstream, database, empty) = (DataPass::start(), Database::migrated(), Database::empty());
    upstream.add(Demande::cnous(1).siret("1"));
    let run = |args: &[&str]| {
        let run = Run::cycle(&upstream, &database).args(args.to_vec());
        run.env("DATAPASS_FORMAT", "json").any_stderr()
    };
    run(&["pull"]).output().success();
    let failed = run(&["pull"]).env("DATABASE_URL", empty.url());
    for (title, run) in [
        ("SUMMARY", failed),
        ("A command that failed", run(&["status"]).database(&empty)),
        ("check", run(&["check"])),
        ("rejected", run(&["rejected", "list"])),
        ("rejected", run(&["rejected", "accept", "1", "--reason", "known"])),
        ("rejected", run(&["rejected", "reopen", "1"])),
        ("watermark", run(&["watermark", "reset", "--yes"])),
        ("status", run(&["status"])),
        ("migrate", run(&["migrate"])),
    ] {
        let stdout = run.output().stdout;
        let document: Value = serde_json::from_str(&stdout).unwrap();
        let document = document.get(0).unwrap_or(&document);
        let documented = documented_fields(title);
        assert_eq!(documented, fields(document, &documented), "{title}");
    }
}

#[test]
fn the_manuals_pass_mandoc_lint() {
    for name in ["datapass-pull.1", "datapass-pull-operations.7"] {
        let manual = format!("{}/man/{name}", env!("CARGO_MANIFEST_DIR"));
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning", &manual]).output();
        let lint = lint.expect("mandoc is needed: apt-get install mandoc");
        let problems = String::from_utf8_lossy(&lint.stdout);
        assert!(lint.status.success(), "{problems}");
    }
}

#[test]
fn prometheus_accepts_the_documented_rules() {
    let folder = tempfile::tempdir().unwrap();
    for title in ["Prometheus", "Kubernetes"] {
        let file = folder.path().join(title);
        fs::write(&file, &runbook::blocks(title)[0]).unwrap();
        let mut promtool = Command::new("promtool");
        let checked = promtool.args(["check", "rules"]).arg(file).output();
        let checked = checked.expect("promtool is needed: apt-get install prometheus");
        let problems = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{title}: {problems}");
    }
}
