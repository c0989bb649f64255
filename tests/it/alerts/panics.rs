//! Panics, brought about from outside by a system that grants too few threads.

use std::os::unix::fs::PermissionsExt;

use super::{Scene, Told, read};
use crate::harness::*;

/// A system that grants a run no more threads than that: its own user has no others.
struct Limited {
    folder: tempfile::TempDir,
    threads: u32,
}

impl Limited {
    fn to(threads: u32) -> Self {
        // Where every user may run it.
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
        let binary = folder.path().join("datapass-pull");
        std::fs::copy(env!("CARGO_BIN_EXE_datapass-pull"), &binary).unwrap();
        Self { folder, threads }
    }

    fn run(&self, run: Run) -> Run {
        const SCRIPT: &str = "binary=$1 user=$2 threads=$3; shift 4; exec setpriv --reuid \"$user\" \
                              --clear-groups prlimit --nproc=\"$threads\" \"$binary\" \"$@\"";
        let binary = self.folder.path().join("datapass-pull");
        let user = 20_000 + (std::process::id() * 2 + self.threads % 2) % 40_000;
        let words = [
            binary.display().to_string(),
            user.to_string(),
            self.threads.to_string(),
        ];
        let shell = ["sh", "-c", SCRIPT, "sh"].map(str::to_owned);
        run.through(shell.into_iter().chain(words))
    }
}

/// A panic from outside: three of four fetchers of a listing are granted.
#[test]
fn a_panic_is_reported_with_its_place() {
    let limited = Limited::to(7);
    // A thread that is about to end may still be counted, and the panic then comes elsewhere.
    let mut tried = (0..10).map(|_| {
        let scene = Scene::new();
        let run = scene.cycle().args(["--concurrency", "4"]);
        let outcome = limited.run(run).output();
        let events: Vec<Told> = scene.ingest.events().iter().map(read).collect();
        (outcome, events)
    });
    let (outcome, events) = tried
        .find(|(_, events)| events.iter().any(|(_, stage, ..)| stage != "prepare"))
        .expect("a panic in the listing");
    outcome.permanent("panic");
    let [(level, stage, reason, fingerprint, message)] = &events[..] else {
        panic!("one event, not {events:?}: {}", outcome.stderr)
    };
    assert_eq!((level.as_str(), reason.as_str()), ("fatal", "panic"));
    assert_ne!(stage, "prepare", "it had come further");
    let place = &fingerprint[2];
    assert_eq!(fingerprint[..2], ["failure", "panic"]);
    assert!(place.contains(".rs:"), "{place}");
    assert_eq!(
        message,
        &format!("The pull has a defect and stopped at {place}")
    );
    assert!(
        outcome.stderr.contains(place.as_str()),
        "{}",
        outcome.stderr
    );
}

/// One before or after the run itself has no summary, and still no status of its own: here the
/// thread that the progress line wants is not granted.
#[test]
fn a_panic_anywhere_is_status_1() {
    let (scene, limited) = (Scene::new(), Limited::to(1));
    let run = limited.run(scene.cycle().env("TERM", "xterm"));
    let (code, screen) = run.on_terminal().end();
    assert_eq!(code, 1, "{screen}");
    assert!(
        screen.contains("A defect of this program stopped it at "),
        "{screen}"
    );
}
