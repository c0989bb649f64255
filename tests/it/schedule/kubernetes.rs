//! The manifest: `kubernetes-validate` for the fields, own checks for what crosses them.

use std::fs;
use std::path::Path;
use std::process::Command;

use datapass_pull::config::Scheduler;
use serde_json::Value;

use super::{TIMEOUT, config, entry, run, text};
use crate::harness::pypi::programs;

const VALIDATOR: &str = "kubernetes-validate==1.37.0";

/// The oldest version that the entry is for, the one where its failure policy is stable, the newest.
const KUBERNETES_VERSIONS: [&str; 3] = ["1.29", "1.31", "1.37"];

const IMAGE: &str = "registry.example:5000/etalab/datapass-pull:1.0@sha256:0123";

fn kubernetes() -> Scheduler {
    Scheduler::Kubernetes {
        image: IMAGE.to_owned(),
        name: "datapass-pull".to_owned(),
        job: None,
    }
}

/// Returns whether the validator accepts the manifest, with what it said.
fn validate(manifest: &str, version: &str) -> (bool, String) {
    let file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .expect("a file");
    fs::write(file.path(), manifest).expect("written");
    let output = run(
        Command::new(programs(VALIDATOR).join("kubernetes-validate"))
            .args(["-k", version, "--strict"])
            .arg(file.path()),
        "made by this test",
    );
    let said = text(&output.stdout) + &text(&output.stderr);
    (output.status.success(), said)
}

/// Reads every document of a manifest.
pub(super) fn documents(manifest: &str) -> Vec<Value> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), manifest).expect("written");
    let program = "import json, sys, yaml\n\
                   json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let output = run(
        Command::new(programs(VALIDATOR).join("python"))
            .args(["-c", program])
            .arg(file.path()),
        "made by this test",
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn manifest() -> String {
    entry(&config(kubernetes()), Path::new("/unused"))
}

pub(super) fn uncommented(manifest: &str) -> String {
    manifest
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line)))
        .collect()
}

#[test]
fn the_manifest_is_valid_as_printed_and_uncommented() {
    let printed = manifest();
    let whole = uncommented(&printed);
    for version in KUBERNETES_VERSIONS {
        let (valid, said) = validate(&printed, version);
        assert!(valid, "{version}: {said}");
        let (valid, said) = validate(&whole, version);
        assert!(valid, "{version}: {said}");
        assert_eq!(
            said.matches("passed for resource").count(),
            3,
            "{version}: {said}"
        );
    }
    // The validator does read: a field that does not exist is refused.
    let (valid, _) = validate(
        &printed.replace("\n      backoffLimit", "\n      backOffLimit"),
        "1.31",
    );
    assert!(!valid);
    let (valid, _) = validate(
        &whole.replace("\n  backoffLimit", "\n  backOffLimit"),
        "1.31",
    );
    assert!(!valid);
}

#[test]
fn the_manifest_holds_the_job_and_two_more_once_uncommented() {
    let printed = documents(&manifest());
    assert_eq!(printed.len(), 1);
    let whole = documents(&uncommented(&manifest()));
    let kinds: Vec<_> = whole
        .iter()
        .map(|document| document["kind"].as_str())
        .collect();
    assert_eq!(kinds, [Some("CronJob"), Some("Job"), Some("Job")]);
    assert_eq!(whole[0], printed[0]);

    let arguments: Vec<_> = whole
        .iter()
        .map(|document| &job(document)["template"]["spec"]["containers"][0]["args"])
        .collect();
    assert_eq!(*arguments[0], serde_json::json!(["pull"]));
    assert_eq!(*arguments[1], serde_json::json!(["migrate"]));
    assert_eq!(*arguments[2], serde_json::json!(["pull", "--since", "7d"]));
    for document in &whole {
        assert_eq!(document["apiVersion"], "batch/v1");
        let name = document["metadata"]["name"].as_str().expect("a name");
        assert!(name.len() <= 52, "{name}");
    }
}

/// Returns the Job's own specification.
pub(super) fn job(document: &Value) -> &Value {
    match document["kind"].as_str() {
        Some("CronJob") => &document["spec"]["jobTemplate"]["spec"],
        _ => &document["spec"],
    }
}

#[test]
fn the_cron_job_starts_once_and_at_the_right_time() {
    let mut config = config(kubernetes());
    config.cron = "*/20 8-18 * JAN-MAR 5-7".parse().unwrap();
    let manifest = entry(&config, Path::new("/unused"));
    let cron_job = &documents(&manifest)[0]["spec"];
    assert_eq!(cron_job["schedule"], "*/20 8-18 * 1-3 0,5,6");
    assert_eq!(cron_job["timeZone"], "Etc/UTC");
    assert_eq!(cron_job["concurrencyPolicy"], "Forbid");
    // Below ten seconds it may never start; with over 100 starts missed in it, never again.
    let window = cron_job["startingDeadlineSeconds"]
        .as_u64()
        .expect("seconds");
    assert!((10..6000).contains(&window), "{window}");
}

#[test]
fn the_rules_of_every_job_fit_together() {
    for document in documents(&uncommented(&manifest())) {
        let job = job(&document);
        let pod = &job["template"]["spec"];
        let containers = pod["containers"].as_array().expect("containers");
        assert_eq!(containers.len(), 1);
        let container = &containers[0];

        // A podFailurePolicy demands both.
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(job["podReplacementPolicy"], "Failed");
        let rules = job["podFailurePolicy"]["rules"].as_array().expect("rules");
        let actions: Vec<_> = rules.iter().map(|rule| rule["action"].as_str()).collect();
        assert_eq!(actions, [Some("Ignore"), Some("FailJob"), Some("Count")]);
        let condition = &rules[0]["onPodConditions"][0];
        assert_eq!(condition["type"], "DisruptionTarget");
        assert_eq!(condition["status"], "True");
        let codes = |rule: &Value| -> Vec<u64> {
            assert_eq!(rule["onExitCodes"]["operator"], "In");
            assert_eq!(rule["onExitCodes"]["containerName"], container["name"]);
            let values = rule["onExitCodes"]["values"].as_array().expect("values");
            values.iter().filter_map(Value::as_u64).collect()
        };
        assert_eq!(codes(&rules[1]), [1, 126, 127, 128]);
        assert_eq!(codes(&rules[2]), [2]);

        let tries = job["backoffLimit"].as_u64().expect("a limit") + 1;
        assert_eq!(tries, 6);
        let grace = pod["terminationGracePeriodSeconds"]
            .as_u64()
            .expect("seconds");
        assert!(grace > 2, "{grace}");
        let waits: u64 = (0..tries - 1).map(|n| 10 << n).sum();
        let deadline = job["activeDeadlineSeconds"].as_u64().expect("seconds");
        let least = tries * (TIMEOUT.as_secs() + grace) + waits;
        assert!(deadline > least, "{deadline} is no room for {least}");

        assert_eq!(
            container["terminationMessagePolicy"],
            "FallbackToLogsOnError"
        );
        assert_eq!(container["image"], IMAGE);
        check_restricted(pod, container);
        check_secrets(pod, container);
    }
}

/// Checks the restricted Pod Security Standard, and the read-only root that we add.
fn check_restricted(pod: &Value, container: &Value) {
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert!(
        pod["securityContext"]["runAsUser"]
            .as_u64()
            .is_some_and(|user| user > 0)
    );
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(
        context["capabilities"],
        serde_json::json!({"drop": ["ALL"]})
    );
    for volume in pod["volumes"].as_array().expect("volumes") {
        assert!(volume["secret"].is_object(), "{volume}");
    }
    assert!(container["resources"]["requests"]["memory"].is_string());
    assert!(container["resources"]["limits"]["memory"].is_string());
}

/// Checks that the secrets come as files from the mounted volume, readable by the group alone.
fn check_secrets(pod: &Value, container: &Value) {
    let mount = &container["volumeMounts"][0];
    assert_eq!(mount["readOnly"], true);
    let folder = mount["mountPath"].as_str().expect("a path");
    let volume = &pod["volumes"][0];
    assert_eq!(volume["name"], mount["name"]);
    assert_eq!(volume["secret"]["defaultMode"], 0o440);
    assert!(pod["securityContext"]["fsGroup"].is_u64());

    let variables = container["env"].as_array().expect("variables");
    let value = |name: &str| {
        let found = variables.iter().find(|variable| variable["name"] == name);
        found.map(|variable| variable["value"].as_str().expect("a value"))
    };
    for name in ["DATAPASS_CLIENT_SECRET", "DATABASE_URL"] {
        assert_eq!(value(name), None);
        let file = format!("{folder}/{name}");
        assert_eq!(value(&format!("{name}_FILE")), Some(file.as_str()));
    }
    assert_eq!(value("DATAPASS_TIMEOUT"), Some("15m"));
}
