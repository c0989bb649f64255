//! Panics, brought about from outside by an instant without end, which no program of ours writes and
//! no type of ours holds.

use super::{Scene, read};
use crate::harness::*;

#[test]
fn a_panic_is_reported_with_its_place() {
    let scene = Scene::new();
    scene.upstream.add(Demande::cnous(1));
    let run = scene.cycle().args(["--enqueue", "none"]);
    run.clone().output().success();
    let endless = "update proactivite_requests set last_validated_at = 'infinity'";
    scene.database.exec(endless);
    let outcome = run.output();
    outcome.permanent("panic");
    let events: Vec<_> = scene.ingest.events().iter().map(read).collect();
    let [(level, stage, reason, fingerprint, message)] = &events[..] else {
        panic!("one event, not {events:?}: {}", outcome.stderr)
    };
    let words = [level, stage, reason].map(String::as_str);
    assert_eq!(words, ["fatal", "create", "panic"]);
    let place = &fingerprint[2];
    assert_eq!(fingerprint[..2], ["failure", "panic"]);
    assert!(place.starts_with("src/create.rs:"), "{place}");
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
        "insert into datapass_pull_rejections (ref, last_validated_at) values ('D1', 'infinity')",
    );
    for command in [&["status"][..], &["rejected", "list"]] {
        let run = Run::new(command.iter().copied()).database(&database);
        let outcome = run.any_stderr().output();
        outcome.assert_code(1);
        let place = "A defect of this program stopped it at src/rejected.rs:";
        assert!(outcome.stderr.contains(place), "{}", outcome.stderr);
    }
}
