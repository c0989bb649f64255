//! The manifests: `kubernetes-validate` checks their fields, own checks the relations between fields.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use datapass_pull::cli::{Job, KubernetesArgs, Scheduler};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{TIMEOUT, config, entry, run, text};
use crate::harness::pypi::programs;
use crate::harness::{Outcome, Run};

/// From the oldest supported version to the newest
const KUBERNETES_VERSIONS: [&str; 5] = ["1.29", "1.31", "1.33", "1.35", "1.37"];

const IMAGE: &str = "registry.example:5000/etalab/datapass-pull:1.0@sha256:\
                     0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A name that is a number in YAML unless it is quoted
const NAME: &str = "1e5";

/// The options that print a Job: to migrate, and to replay.
pub(super) const JOBS: [&[&str]; 2] =
    [&["--job", "migrate"], &["--job", "replay", "--since", "7d"]];

fn kubernetes(job: Option<Job>) -> Scheduler {
    let since = (job == Some(Job::Replay)).then(|| "7d".to_owned());
    let (image, name) = (IMAGE.to_owned(), NAME.to_owned());
    Scheduler::Kubernetes(KubernetesArgs { image, name, job, since })
}

/// Returns the CronJob and both Jobs.
fn manifests() -> [String; 3] {
    let jobs = [None, Some(Job::Migrate), Some(Job::Replay)];
    jobs.map(|job| entry(&config(kubernetes(job)), Path::new("/unused")))
}

/// Writes all manifests into one file.
fn yaml_file(manifests: &[String]) -> NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    fs::write(file.path(), manifests.join("---\n")).expect("written");
    file
}

/// Returns whether the validator accepts the manifests, with what it reports.
fn validate(manifests: &[String], version: &str) -> (bool, String) {
    let file = yaml_file(manifests);
    let output = run(
        Command::new(programs().join("kubernetes-validate"))
            .args(["-k", version, "--strict"])
            .arg(file.path()),
        "made by this test",
    );
    let reported = text(&output.stdout) + &text(&output.stderr);
    (output.status.success(), reported)
}

/// Reads every document of a manifest.
pub(super) fn documents(manifest: &str) -> Vec<Value> {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), manifest).expect("written");
    let program = "import json, sys, yaml\n\
                   json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let output = run(
        Command::new(programs().join("python")).args(["-c", program]).arg(file.path()),
        "made by this test",
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Returns the policies that manifests break, as `checkov` finds them.
fn broken_policies(manifests: &[String]) -> BTreeSet<String> {
    let file = yaml_file(manifests);
    let output = run(
        Command::new(programs().join("checkov"))
            .args(["--framework", "kubernetes", "--skip-download", "--quiet"])
            .args(["--output", "json", "--file"])
            .arg(file.path()),
        "made by this test",
    );
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["summary"]["parsing_errors"], 0, "{found}");
    let failed = found["results"]["failed_checks"].as_array().expect("checks");
    let ids = failed.iter().filter_map(|check| check["check_id"].as_str());
    ids.map(str::to_owned).collect()
}

fn document(manifest: &str) -> Value {
    let [document] = documents(manifest).try_into().expect("one document");
    document
}

/// Returns the Job's own specification.
pub(super) fn job(document: &Value) -> &Value {
    match document["kind"].as_str() {
        Some("CronJob") => &document["spec"]["jobTemplate"]["spec"],
        _ => &document["spec"],
    }
}

#[test]
fn the_manifests_are_valid() {
    let manifests = manifests();
    for version in KUBERNETES_VERSIONS {
        let (valid, output) = validate(&manifests, version);
        assert!(valid, "{version}: {output}");
        let passed = output.matches("passed for resource").count();
        assert_eq!(passed, 3, "{version}: {output}");
    }
    // The validator is effective: a field that does not exist is refused.
    for manifest in manifests {
        let wrong = manifest.replace(" backoffLimit", " backOffLimit");
        assert_ne!(wrong, manifest);
        let (valid, _) = validate(&[wrong], "1.31");
        assert!(!valid);
    }
}

#[test]
fn the_manifests_follow_every_policy_except_three() {
    // A limit on the CPU would only slow a cycle down; namespace and network policy are up to the
    // operator.
    let accepted = ["CKV2_K8S_6", "CKV_K8S_11", "CKV_K8S_21"];
    assert_eq!(broken_policies(&manifests()), accepted.map(str::to_owned).into());
    let wrong = manifests()[0].replace("readOnlyRootFilesystem: true", "");
    assert!(broken_policies(&[wrong]).contains("CKV_K8S_22"));
}

#[test]
fn each_manifest_has_its_own_command_names_and_secret() {
    let timeout = ["--timeout", "15m"];
    let own_secret = NAME;
    let owners_secret = format!("{NAME}-owner");
    for ((manifest, kind, suffix), (arguments, secret)) in manifests()
        .iter()
        .zip(["CronJob", "Job", "Job"])
        .zip(["", "-migrate", "-replay"])
        .map(|((manifest, kind), suffix)| (manifest, kind, suffix))
        .zip([
            (json!(["pull", timeout[0], timeout[1]]), own_secret),
            (json!(["migrate"]), &*owners_secret),
            (json!(["pull", "--since", "7d", timeout[0], timeout[1]]), own_secret),
        ])
    {
        let document = document(manifest);
        assert_eq!(document["apiVersion"], "batch/v1");
        assert_eq!(document["kind"], kind);
        assert_eq!(document["metadata"]["name"], format!("{NAME}{suffix}"));
        let labels = json!({
            "app.kubernetes.io/name": "datapass-pull",
            "app.kubernetes.io/instance": NAME,
            "app.kubernetes.io/version": env!("CARGO_PKG_VERSION"),
        });
        assert_eq!(document["metadata"]["labels"], labels);
        let template = &job(&document)["template"];
        assert_eq!(template["metadata"]["labels"], labels);
        let pod = &template["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["args"], arguments);
        assert_eq!(container["envFrom"], json!([{"configMapRef": {"name": NAME}}]));
        assert_eq!(pod["volumes"][0]["secret"]["secretName"], secret);
        // The comments name the objects to create first.
        let comments: Vec<&str> =
            manifest.lines().take_while(|line| line.starts_with('#')).collect();
        let comments = comments.join("\n");
        assert!(comments.contains(&format!("configmap {NAME} ")), "{comments}");
        assert!(comments.contains(secret), "{comments}");
    }
}

#[test]
fn the_longest_name_leaves_space_for_the_suffixes() {
    let name = "x".repeat(52);
    for kind in [Job::Migrate, Job::Replay] {
        let mut config = config(kubernetes(Some(kind)));
        if let Scheduler::Kubernetes(args) = &mut config.scheduler {
            args.name.clone_from(&name);
        }
        let document = document(&entry(&config, Path::new("/unused")));
        let name = document["metadata"]["name"].as_str().expect("a name");
        assert!(name.len() <= 63, "{name}");
    }
}

/// Prints the CronJob for an image.
fn printed(image: &str) -> Outcome {
    let run = Run::new(["schedule", "kubernetes", "--image", image]);
    run.any_stderr().output()
}

#[test]
fn an_image_without_a_version_is_printed_with_a_warning() {
    for (image, is_warned) in [
        ("datapass-pull", true),
        ("registry.example:5000/datapass-pull", true),
        ("datapass-pull:latest", true),
        ("registry.example:5000/datapass-pull:1.0", false),
        ("datapass-pull@sha256:01", false),
        (IMAGE, false),
    ] {
        let outcome = printed(image);
        outcome.assert_success();
        assert!(outcome.stdout.contains(&format!("image: \"{image}\"\n")));
        let warned = outcome.stderr.contains("WARN") && outcome.stderr.contains("tag or a digest");
        assert_eq!(warned, is_warned, "{image}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), usize::from(is_warned));
    }
}

#[test]
fn the_cron_job_is_not_concurrent_and_starts_on_time() {
    let mut config = config(kubernetes(None));
    config.cron = "*/20 8-18 * JAN-MAR 5-7".parse().unwrap();
    let document = document(&entry(&config, Path::new("/unused")));
    let cron_job = &document["spec"];
    assert_eq!(cron_job["schedule"], "*/20 8-18 * 1-3 0,5,6");
    assert_eq!(cron_job["timeZone"], "Etc/UTC");
    assert_eq!(cron_job["concurrencyPolicy"], "Forbid");
    // With less than ten seconds it may never start; after 100 missed starts it never starts again.
    let window = cron_job["startingDeadlineSeconds"].as_u64().expect("seconds");
    assert!((10..6000).contains(&window), "{window}");
}

#[test]
fn retries_deadlines_and_security_of_each_job_are_consistent() {
    for manifest in manifests() {
        let document = document(&manifest);
        let job = job(&document);
        let pod = &job["template"]["spec"];
        let [container] = pod["containers"].as_array().expect("containers").as_slice() else {
            panic!("not one container");
        };

        // A podFailurePolicy requires both.
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(job["podReplacementPolicy"], "Failed");
        let rules = job["podFailurePolicy"]["rules"].as_array().expect("rules");
        let actions: Vec<_> = rules.iter().map(|rule| rule["action"].as_str()).collect();
        assert_eq!(actions, [Some("Ignore"), Some("FailJob")]);
        let condition = &rules[0]["onPodConditions"][0];
        assert_eq!(condition["type"], "DisruptionTarget");
        assert_eq!(condition["status"], "True");
        // Other statuses count towards the limit: 2, and 126 to 128, which an unreachable registry
        // can cause.
        let expected = json!({
            "containerName": container["name"],
            "operator": "In",
            "values": [1],
        });
        assert_eq!(rules[1]["onExitCodes"], expected);

        let starts = job["backoffLimit"].as_u64().expect("a limit") + 1;
        assert_eq!(starts, 6);
        let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
        assert!(grace > 2, "{grace}");
        let waits: u64 = (0..starts - 1).map(|n| 10 << n).sum();
        let deadline = job["activeDeadlineSeconds"].as_u64().expect("seconds");
        let least = starts * (TIMEOUT.as_secs() + grace) + waits;
        assert!(deadline > least, "{deadline} is below {least}");

        assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError");
        assert_eq!(container["image"], IMAGE);
        check_restricted(pod, container);
        check_secrets(pod, container);
    }
}

/// Checks the restricted Pod Security Standard and the read-only root file system.
fn check_restricted(pod: &Value, container: &Value) {
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert!(pod["securityContext"]["runAsUser"].as_u64().is_some_and(|user| user > 0));
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    for volume in pod["volumes"].as_array().expect("volumes") {
        assert!(volume["secret"].is_object(), "{volume}");
    }
    for (kind, names) in [
        ("requests", &["cpu", "memory", "ephemeral-storage"][..]),
        ("limits", &["memory", "ephemeral-storage"]),
    ] {
        let resources = container["resources"][kind].as_object().expect("resources");
        assert!(names.iter().all(|name| resources.contains_key(*name)));
    }
}

/// Checks that the secrets are files of the mounted volume, readable only by owner and group.
fn check_secrets(pod: &Value, container: &Value) {
    let mount = &container["volumeMounts"][0];
    assert_eq!(mount["readOnly"], true);
    let folder = mount["mountPath"].as_str().expect("a path");
    let volume = &pod["volumes"][0];
    assert_eq!(volume["name"], mount["name"]);
    assert_eq!(volume["secret"]["defaultMode"], 0o440);
    assert!(pod["securityContext"]["fsGroup"].is_u64());

    let variable = json!([{"name": "CREDENTIALS_DIRECTORY", "value": folder}]);
    assert_eq!(container["env"], variable);
}
