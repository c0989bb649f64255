//! Panics, brought about from outside by what no program of ours writes and no type of ours holds: a
//! rejection without a reference, or first seen at an instant without end.

use super::{Scene, read};
use crate::harness::*;

#[test]
fn a_panic_is_reported_with_its_place() {
    let scene = Scene::new();
    scene.upstream.add(Demande::cnous(1));
    let run = scene.cycle().args(["--enqueue", "none"]);
    scene.database.exec(
        "alter table datapass_pull_rejections alter ref drop not null;
         insert into datapass_pull_rejections (ref) values (null)",
    );
    let outcome = run.output();
    outcome.permanent("panic");
    let events: Vec<_> = scene.ingest.events().iter().map(read).collect();
    let [(level, stage, reason, fingerprint, message)] = &events[..] else {
        panic!("one event, not {events:?}: {}", outcome.stderr)
    };
    let words = [level, stage, reason].map(String::as_str);
    assert_eq!(words, ["fatal", "prepare", "panic"]);
    let place = &fingerprint[2];
    assert_eq!(fingerprint[..2], ["failure", "panic"]);
    assert!(place.starts_with("src/cycle/create.rs:"), "{place}");
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

#[test]
fn a_panic_of_any_command_is_status_1() {
    let database = Database::migrated();
    database.exec(
        "insert into datapass_pull_rejections (ref, first_seen_at) values ('D1', 'infinity')",
    );
    for command in [&["status"][..], &["rejected", "list"]] {
        let run = Run::new(command.iter().copied()).database(&database);
        let outcome = run.any_stderr().output();
        outcome.assert_code(1);
        let place = "Internal error at src/commands/rejected.rs:";
        assert!(outcome.stderr.contains(place), "{}", outcome.stderr);
    }
}
