//! Log messages of a cycle about its entries: with `-v`, in warnings, and for a dry run.

use serde_json::Value;

use crate::harness::*;

fn cycle(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database).args(["--enqueue", "none"])
}

/// Returns the messages of a text log, without time, level and fields.
fn messages(outcome: &Outcome) -> Vec<String> {
    let message = |line: &str| {
        let (_, rest) = line.split_once(" datapass-pull: ").unwrap();
        let (message, _) = rest.split_once(" stage=").unwrap();
        message.to_owned()
    };
    outcome.stderr.lines().map(message).collect()
}

#[test]
fn verbose_names_each_entry_and_what_holds_the_watermark() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    upstream.add(validated(2, 20));
    cycle(&upstream, &database).output().success();
    let set = ["watermark", "set", "2026-05-18T10:15:00Z", "--yes"];
    Run::new(set).database(&database).output().assert_success();
    upstream.add(validated(3, 5));
    upstream.add(validated(4, 30));
    upstream.add(validated(5, 40).siret("1"));
    upstream.add(Demande::cnous(6).created(minute(-9)).never_validated());
    upstream.add(validated(7, 50));
    upstream.with(|upstream| upstream.validate(2, minute(60)));
    // A late entry: validated between `skip_before` and the watermark.
    database.exec("update datapass_pull_watermarks set last_validated_at = '2026-05-18T10:35:00Z'");
    let outcome = cycle(&upstream, &database).arg("-v").any_stderr().output();
    let summary = outcome.success();
    assert_eq!((summary.created, summary.late, summary.skipped), (2, 1, 2));
    let logged = messages(&outcome);
    let tail: Vec<&str> = logged.iter().map(String::as_str).collect();
    assert_eq!(
        tail[tail.len() - 8..],
        [
            "Created D4, late",
            "Created D7",
            "Validated again: D2",
            "Skipped D3: validated before skip_before",
            "Skipped D6: validated before skip_before",
            "Rejected D5: siret: not 14 digits; retried every cycle",
            "Created late, although older than the watermark: D4 (1 in all)",
            "The watermark was 2026-05-18T10:35:00.000Z and is 2026-05-18T10:40:00.123Z, held by D5",
        ]
    );
}

#[test]
fn a_warning_names_the_first_ten_and_the_count() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(100, 100));
    cycle(&upstream, &database).output().success();
    for id in 1..=12 {
        upstream.add(validated(id, id));
    }
    let names = "D1, D2, D3, D4, D5, D6, D7, D8, D9, D10 (12 in all)";
    let postponed = "Validated before --since, and left to the next plain cycle";
    let since = ["--since", "2026-05-18T11:00:00Z"];
    let run = cycle(&upstream, &database).args(since);
    run.stderr(format!("{postponed}: {names}")).output().success();
    let late = "Created late, although older than the watermark";
    let run = cycle(&upstream, &database).stderr(format!("{late}: {names}"));
    assert_eq!(run.output().success().late, 12);
    database.exec("delete from proactivite_requests where datapass_demande_id < 100");
    for id in 1..=12 {
        upstream.with(|upstream| upstream.validate(id, minute(200 + id)));
    }
    let deleted = "Validated again although their rows are deleted; --since creates them again";
    let run = cycle(&upstream, &database).stderr(format!("{deleted}: {names}"));
    assert_eq!(run.output().success().revalidated, 12);
}

#[test]
fn a_replay_names_what_it_cannot_create_again() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    upstream.add(validated(2, 20));
    cycle(&upstream, &database).output().success();
    database.exec("delete from proactivite_requests");
    upstream.with(|upstream| {
        upstream.edit(2, |shown| shown["organisation"]["siret"] = "1".into());
    });
    let replay = cycle(&upstream, &database).args(["--since", "2026-05-18"]);
    let replay = replay.stderr(
        "Not created again, since they are invalid now: D2 (siret: not 14 digits) (1 in all)",
    );
    let summary = replay.output().success();
    assert_eq!((summary.created, summary.existing, summary.deleted), (1, 1, 1));
    // A plain cycle creates neither, without a warning.
    let plain = cycle(&upstream, &database).output().success();
    assert_eq!((plain.existing, plain.deleted, plain.rejected), (2, 1, 0));
}

#[test]
fn a_dry_run_lists_what_it_would_create_at_any_log_level() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(2, 20));
    upstream.add(validated(1, 10));
    let dry_run = || cycle(&upstream, &database).arg("--dry-run");
    for run in [dry_run(), dry_run().env("RUST_LOG", "off"), dry_run().env("RUST_LOG", "error")] {
        let outcome = run.stderr("Would create").output();
        assert_eq!(outcome.success().created, 2);
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        let end = |id: i64| format!(" INFO datapass-pull: Would create D{id} reference=D{id}");
        assert!(
            lines.len() == 2 && lines[0].ends_with(&end(1)) && lines[1].ends_with(&end(2)),
            "{lines:?}"
        );
    }
    let json = dry_run().args(["--log-format", "json"]).stderr("Would create");
    let json = json.output();
    json.success();
    let references = json.stderr.lines().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["level"], "INFO");
        event["reference"].as_str().unwrap().to_owned()
    });
    assert_eq!(references.collect::<Vec<_>>(), ["D1", "D2"]);

    let (code, screen) = dry_run().on_terminal().end();
    let screen = terminal::rendered(&screen);
    let listed = "info: Would create D1\ninfo: Would create D2\noutcome=success";
    assert!(code == 0 && screen.contains(listed), "{screen}");

    let verbose = dry_run().arg("-v").any_stderr().output();
    verbose.success();
    assert_eq!(verbose.stderr.matches("Would create D1").count(), 1);
    assert!(!verbose.stderr.contains("Created D"), "{}", verbose.stderr);
    assert!(
        verbose.stderr.contains("The watermark was none and would be 2026-05-18T10:20:00.123Z")
    );

    let quiet = dry_run().arg("--quiet").output();
    assert_eq!(quiet.assert_success().stdout, "");
    assert_eq!(database.requests().len(), 0);
}
