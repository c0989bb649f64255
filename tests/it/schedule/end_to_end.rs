//! Each entry, printed by the binary and run as its scheduler would, with complete cycles.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::crontab::{as_vixie_cron, crontab_line};
use super::kubernetes::{JOBS, documents, job};
use super::systemd::{setting, units};
use super::{Fake, run, text};
use crate::harness::{DataPass, Database, Demande, Fault, On, Run};

/// The binary in a folder with special characters, an env file, and a folder for the secrets.
struct Installed {
    folder: TempDir,
    binary: PathBuf,
    env_file: PathBuf,
    secrets: [(&'static str, String); 2],
}

impl Installed {
    fn new(upstream: &DataPass, database: &Database) -> Self {
        // On the file system of the binary, for a hard link
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let binary = folder.path().join("data pass 5%/datapass-pull");
        fs::create_dir(binary.parent().unwrap()).expect("made");
        fs::hard_link(env!("CARGO_BIN_EXE_datapass-pull"), &binary).expect("linked");
        let (id, secret) = upstream.credentials();
        let env_file = folder.path().join("the settings");
        let installed = Self {
            secrets: [("DATAPASS_CLIENT_SECRET", secret), ("DATABASE_URL", database.url())],
            folder,
            binary,
            env_file,
        };
        let settings = format!(
            "DATAPASS_AUTH_URL={}\nDATAPASS_API_BASE_URL={}\nDATAPASS_CLIENT_ID='{id}'\n\
             DATAPASS_ENQUEUE=none\nDATAPASS_MAX_RETRIES=0\n",
            upstream.auth_url(),
            upstream.api_base_url()
        );
        write_private(&installed.env_file, &settings);
        installed
    }

    /// Writes the secrets into a folder, one file each, as schedulers do.
    fn secrets(&self) -> PathBuf {
        let folder = self.folder.path().join("secrets");
        fs::create_dir_all(&folder).expect("made");
        for (name, secret) in &self.secrets {
            write_private(&folder.join(name), &format!("{secret}\n"));
        }
        folder
    }

    /// Prints an entry.
    fn schedule(&self, arguments: &[&str]) -> String {
        let output = run(
            Command::new(&self.binary)
                .env_clear()
                .arg("schedule")
                .args(arguments)
                .arg("--env-file")
                .arg(&self.env_file),
            "made by this test",
        );
        assert_eq!(text(&output.stderr), "");
        assert!(output.status.success());
        text(&output.stdout)
    }
}

fn write_private(path: &Path, content: &str) {
    fs::write(path, content).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
}

#[test]
fn the_crontab_line_runs_a_cycle() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let installed = Installed::new(&upstream, &database);
    let mut settings = fs::read_to_string(&installed.env_file).unwrap();
    for (name, secret) in &installed.secrets {
        settings += &format!("{name}='{secret}'\n");
    }
    write_private(&installed.env_file, &settings);
    let (_, command) = crontab_line(&installed.schedule(&["crontab"]));
    let command = as_vixie_cron(&command);
    let run_command = || {
        let output = Fake::new("unused", 0).sh(&command);
        assert_eq!(text(&output.stdout), "");
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(run_command(), (Some(0), String::new()));
    assert_eq!(database.requests().len(), 1);
    upstream.fault(On::tokens(..), Fault::Status(403, &[]));
    let (code, mail) = run_command();
    assert_eq!(code, Some(1), "{mail}");
    assert!(mail.contains("reason=token_refused"), "{mail}");
}

#[test]
fn the_service_runs_a_cycle_with_its_system_call_filter() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let installed = Installed::new(&upstream, &database);
    let printed = installed.schedule(&["systemd"]);
    let units = units(&printed);
    let service = &units[0].1;
    // systemd reads `%%` as a percent sign; the rest is quoted as for sh.
    let [command, env_file] =
        ["ExecStart", "EnvironmentFile"].map(|name| setting(service, name).replace("%%", "%"));
    let secrets = installed.secrets();
    for (name, _) in &installed.secrets {
        assert!(service.contains(&format!("\nLoadCredential={name}:/")), "{name}");
    }
    let script = format!(
        "set -a; . '{env_file}'; CREDENTIALS_DIRECTORY='{}'; exec {command}",
        secrets.display()
    );
    let filters = service.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let filters: Vec<&str> = filters.collect();
    let cycle = |filters: &[&str]| {
        run(
            Command::new("python3")
                .args(["-c", include_str!("system_calls.py"), &script])
                .args(filters)
                .env_clear()
                .env("PATH", "/usr/bin:/bin"),
            "install Python 3 and libseccomp: apt-get install python3 libseccomp2",
        )
    };
    let output = cycle(&filters);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("outcome=success "));
    assert_eq!(database.requests().len(), 1);
    // The filter is effective.
    let output = cycle(&[&filters[..], &["~@network-io"]].concat());
    assert_ne!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn each_kubernetes_container_runs() {
    let (upstream, database) = (DataPass::start(), Database::empty());
    upstream.add(Demande::cnous(1));
    let installed = Installed::new(&upstream, &database);
    let secrets = installed.secrets();
    // The tables first, then the CronJob.
    for options in [JOBS[0], &[], JOBS[1]] {
        let image = ["kubernetes", "--image", "registry.example/pull:1"];
        let printed = installed.schedule(&[&image, options].concat());
        let [document] = documents(&printed).try_into().expect("one document");
        let container = &job(&document)["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().expect("a list");
        let mut run = Run::new(arguments.iter().map(|word| word.as_str().expect("a word")));
        // The variables of the config map, then those of the container
        for line in fs::read_to_string(&installed.env_file).unwrap().lines() {
            let (name, value) = line.split_once('=').unwrap();
            run = run.env(name, value.trim_matches('\''));
        }
        let mounted = &container["volumeMounts"][0]["mountPath"];
        let variable = &container["env"][0];
        assert_eq!(variable["value"], *mounted);
        let name = variable["name"].as_str().unwrap();
        run.env(name, secrets.to_str().unwrap()).output().assert_success();
    }
    assert_eq!(database.requests().len(), 1);
    let cycles = "select count(*) from datapass_pull_runs where outcome = 'success'";
    let row = database.client().query_one(cycles, &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
}
