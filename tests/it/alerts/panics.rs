//! Panics, caused by a clock that cannot be read.

use std::fs;

use super::{Scene, read};
use crate::harness::*;

#[test]
fn a_panic_is_reported_with_its_location() {
    let scene = Scene::new();
    scene.upstream.add(Demande::cnous(1));
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let run = scene
        .cycle()
        .args(["--enqueue", "none", "--retry-for", "1h"])
        .env("LD_PRELOAD", clock_library(folder.path()))
        .env("CLOCK_BROKEN", &broken);
    scene.upstream.before(On::token(1), move |_| fs::write(&broken, "").unwrap());
    let outcome = run.output();
    outcome.permanent("panic");
    let events: Vec<_> = scene.ingest.events().iter().map(read).collect();
    let [(level, stage, reason, fingerprint, message)] = &events[..] else {
        panic!("one event, not {events:?}: {}", outcome.stderr)
    };
    let words = [level, stage, reason].map(String::as_str);
    assert_eq!(words, ["fatal", "authenticate", "panic"]);
    let location = &fingerprint[2];
    assert_eq!(fingerprint[..2], ["failure", "panic"]);
    assert!(location.contains("time.rs:"), "{location}");
    assert_eq!(message, &format!("Internal error at {location}"));
    assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
}

#[test]
fn a_panic_of_any_command_is_status_1() {
    let database = Database::migrated();
    let folder = tempfile::tempdir().unwrap();
    let library = clock_library(folder.path());
    for command in [&["status"][..], &["rejected", "list"]] {
        let run = Run::new(command.iter().copied()).database(&database);
        let run = run.env("LD_PRELOAD", &library).env("CLOCK_BROKEN", &library);
        let outcome = run.any_stderr().output();
        outcome.assert_code(1);
        let location = "Internal error at ";
        assert!(outcome.stderr.contains(location), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("reason=panic"), "{}", outcome.stderr);
    }
}
