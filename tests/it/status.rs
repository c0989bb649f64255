//! `status`, and what a person's decisions do to the counts.

use crate::harness::*;

fn status(database: &Database, format: &str) -> Outcome {
    let run = Run::new(["status", "--format", format]).database(database);
    run.output()
}

#[test]
fn a_refused_queue_is_told_and_the_rest_too() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1).siret("1"));
    let run = Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
    run.any_stderr().output().success();
    database.exec(GOOD_JOBS_4);
    database.exec("alter table good_jobs add column tenant text not null");
    let text = status(&database, "text");
    let text = &text.assert_success().stdout;
    assert!(
        text.contains("a cycle would fail") && text.contains("tenant"),
        "{text}"
    );
    assert!(text.contains("held by       D1: siret"), "{text}");
    assert!(
        text.contains("rejected      1 open (D1), 0 accepted"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let json = status(&database, "json");
    let json: serde_json::Value = serde_json::from_str(&json.assert_success().stdout).unwrap();
    assert_eq!(
        (&json["enqueue"], &json["rejected"]),
        (&"refused".into(), &1.into())
    );
    assert_eq!(json["rejected_refs"], serde_json::json!(["D1"]));
    assert!(json["held_since"].is_string(), "{json}");
}

#[test]
fn missing_tables_are_told() {
    let database = Database::empty();
    let outcome = status(&database, "text");
    outcome.assert_code(1);
    assert!(
        outcome.stderr.contains("datapass-pull migrate"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_acceptance_outlives_an_absence_until_the_entry_is_validated_again() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let old = at("2026-05-01T10:00:00Z");
    upstream.add(Demande::cnous(1).validated(old).siret("1"));
    upstream.add(Demande::cnous(2).validated(at("2026-05-18T10:00:00Z")));
    let run = || {
        let run = Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
        run.any_stderr().output().success()
    };
    assert_eq!(run().rejected, 1);
    let accept = ["rejected", "accept", "D1", "--reason", "closed school"];
    Run::new(accept)
        .database(&database)
        .output()
        .assert_success();
    let accepted = run();
    assert_eq!(
        (accepted.accepted, accepted.watermark),
        (1, Some(at("2026-05-18T10:00:00Z")))
    );
    upstream.with(|upstream| upstream.reopen(1));
    assert_eq!(run().accepted, 0);
    upstream.with(|upstream| upstream.validate(1, old));
    let back = run();
    assert_eq!((back.accepted, back.rejected, back.matched), (1, 0, 2));
    let later = at("2026-05-19T10:00:00Z");
    upstream.with(|upstream| upstream.validate(1, later));
    assert_eq!(run().rejected, 1, "validated again, it is open anew");
}

#[test]
fn rows_of_tables_with_other_types_are_read() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let counters = [
        "created",
        "deleted",
        "duration_ms",
        "late",
        "rejected",
        "seen",
        "skipped",
    ];
    for column in counters {
        database.exec(&format!(
            "ALTER TABLE datapass_pull_runs ALTER {column} TYPE integer"
        ));
    }
    database.exec("ALTER TABLE datapass_pull_runs ALTER started_at TYPE timestamp");
    database.exec("ALTER TABLE datapass_pull_rejections ALTER demande_id TYPE integer");
    upstream.add(Demande::cnous(1).siret("1"));
    for _ in 0..2 {
        let run = Run::cycle(&upstream, &database).stderr("Rejected D1");
        run.output().success();
    }
    for form in ["text", "json"] {
        status(&database, form).assert_success();
    }
}
