//! `status`: its content as text and as JSON, and the effect of an operator's decisions on its counts.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::*;

fn status(database: &Database, format: &str) -> Outcome {
    let run = Run::new(["status", "--format", format]).database(database);
    run.output()
}

fn status_json(database: &Database) -> Value {
    let outcome = status(database, "json");
    serde_json::from_str(&outcome.assert_success().stdout).unwrap()
}

fn status_text(database: &Database) -> String {
    let text = status(database, "text").assert_success().stdout.clone();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text
}

/// Replaces what depends on the clock: ages, today's times, ids and durations.
fn without_times(text: &str, ids: &[String]) -> String {
    // The day may have changed since.
    let now = Utc::now();
    let days = [now, now - TimeDelta::days(1)].map(|time| time.format("%F").to_string());
    let line = |line: &str| {
        let mut line = line.to_owned();
        if let (Some(start), Some(end)) = (line.find(" ("), line.find(" ago)")) {
            line.replace_range(start + 2..end, "…");
        }
        if let Some(start) = days.iter().find_map(|day| line.find(day)) {
            let end = line[start..].find('Z').map_or(17, |end| end + 1);
            line.replace_range(start..start + end, "…");
        }
        for id in ids {
            if line.contains(id) {
                line.truncate(line.trim_end_matches(|c: char| c.is_ascii_digit()).len());
                line = line.trim_end().replace(id, "........");
            }
        }
        line + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn new_tables_are_empty() {
    let database = Database::migrated();
    let schema = "public.proactivite_requests";
    assert_eq!(
        status_text(&database),
        format!(
            "definition    none\nwatermark     none\nskip before   none\nlast success  none\n\
             deleted       0 handled entries have no row\nrows go to    {schema}\n\
             jobs go to    nowhere, there is no good_jobs in the search path: rows wait as\n              \
             pending\nrejected      0 open, 0 accepted\n"
        )
    );
    let status = status_json(&database);
    assert_eq!(
        status,
        json!({
            "definition_id": null, "watermark": null, "watermark_age_seconds": null,
            "held_by": null, "held_since": null, "skip_before": null, "last_success": null,
            "deleted": 0, "rejected": 0, "accepted": 0, "rejections": [], "table": schema,
            "enqueue": "none", "enqueue_detail": status["enqueue_detail"], "runs": [],
        })
    );
}

#[test]
fn all_fields_are_shown_and_runs_are_in_the_order_recorded() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let cycle = || Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
    let by_hand = |args: &[&str]| {
        let run = Run::new(args.to_vec()).database(&database);
        run.output().assert_success();
    };
    by_hand(&["watermark", "reset", "--yes"]);
    upstream.add(validated(1, 10));
    upstream.add(validated(2, 20).siret("1"));
    upstream.add(validated(3, 30));
    upstream.add(validated(4, 40).siret("1"));
    cycle().any_stderr().output().success();
    by_hand(&["watermark", "set", "2026-05-18T10:15:00Z", "--yes"]);
    by_hand(&["rejected", "accept", "D4", "--reason", "closed school"]);
    database.exec("delete from proactivite_requests where datapass_demande_id = 3");
    upstream.add(validated(5, 18));
    upstream.add(validated(6, 5));
    cycle().any_stderr().output().success();
    upstream.add(validated(7, 19));
    cycle().any_stderr().output().success();
    upstream.fault(On::everything(), Fault::Status(403, &[]));
    cycle().output().permanent("token_refused");
    // The order does not depend on the clock.
    database.exec("update datapass_pull_runs set started_at = '2020-01-01T00:00Z' where id = 6");

    let runs = database.runs();
    let ids: Vec<String> =
        runs.iter().map(|run| run["run_id"].as_str().unwrap()[..8].to_owned()).collect();
    let text = status_text(&database);
    let fields = "definition    proactivite_pour_les_etudiants_boursiers_dyn
watermark     2026-05-18T10:20:00.123Z (… ago)
held by       D2
held since    … (… ago)
skip before   2026-05-18T10:15:00.000Z (… ago)
last success  … (… ago)
deleted       1 handled entries have no row
rows go to    public.proactivite_requests
jobs go to    nowhere, there is no good_jobs in the search path: rows wait as
              pending
rejected      1 open, 1 accepted

open rejections
  D2: siret: not 14 digits
  Have them corrected in DataPass, or accept one as it is:
  datapass-pull rejected accept D2 --reason TEXT

started (UTC)     run       outcome         created late rejected deleted     ms
2020-01-01 00:00  ........  permanent             0    0        0       0
                            token_refused (stage authenticate)
… ........  success               1    1        1       1
… ........  success               1    0        1       1
… ........  watermark set         0    0        0       0
… ........  success               2    0        2       0
… ........  watermark reset       0    0        0       0
";
    assert_eq!(without_times(&text, &ids), fields);

    let status = status_json(&database);
    let recent: Vec<_> = status["runs"].as_array().unwrap().iter().collect();
    for (shown, stored) in recent.iter().zip(runs.iter().rev()) {
        let fields: Vec<&String> = shown.as_object().unwrap().keys().collect();
        assert_eq!(
            fields,
            [
                "run_id",
                "kind",
                "started_at",
                "outcome",
                "reason",
                "stage",
                "created",
                "late",
                "rejected",
                "skipped",
                "deleted",
                "duration_ms"
            ]
        );
        for (name, value) in shown.as_object().unwrap() {
            assert!(name == "started_at" || *value == stored[name], "{name}: {shown}");
        }
    }
    assert_eq!(recent.len(), 6);
    let [rejected, accepted] = &status["rejections"].as_array().unwrap()[..] else {
        panic!("not two rejections: {status}")
    };
    assert_eq!((&rejected["ref"], &rejected["state"]), (&json!("D2"), &json!("open")));
    assert_eq!((&accepted["ref"], &accepted["state"]), (&json!("D4"), &json!("accepted")));
    assert!(status["watermark_age_seconds"].is_u64());
    assert!(status["held_since"].is_string() && status["last_success"].is_string());
    for (name, value) in [
        ("definition_id", json!("proactivite_pour_les_etudiants_boursiers_dyn")),
        ("watermark", json!("2026-05-18T10:20:00.123Z")),
        ("held_by", json!("D2")),
        ("skip_before", json!("2026-05-18T10:15:00.000Z")),
        ("deleted", json!(1)),
        ("rejected", json!(1)),
        ("accepted", json!(1)),
    ] {
        assert_eq!(status[name], value, "{name}");
    }
}

#[test]
fn the_first_ten_open_rejections_are_shown() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for id in 1..=12 {
        upstream.add(validated(id, id).siret("1"));
    }
    // An id that a shell would split is not put into a command.
    upstream.add(validated(100, 0).public_id(Some("O'Neill; id")).siret("1"));
    upstream.with(|upstream| upstream.edit(100, |shown| shown["id"] = "none".into()));
    let run = Run::cycle(&upstream, &database).any_stderr();
    assert_eq!(run.output().success().rejected, 13);
    let text = status_text(&database);
    let expected = "
open rejections
  O'Neill; id: id: not an integer, siret: not 14 digits
  D1: siret: not 14 digits
  D2: siret: not 14 digits
  D3: siret: not 14 digits
  D4: siret: not 14 digits
  D5: siret: not 14 digits
  D6: siret: not 14 digits
  D7: siret: not 14 digits
  D8: siret: not 14 digits
  D9: siret: not 14 digits
  and 3 more: datapass-pull rejected list
  Have them corrected in DataPass, or accept one as it is:
  datapass-pull rejected accept ID --reason TEXT

";
    assert!(text.contains(expected), "{text}");
    let json = status_json(&database);
    assert_eq!(json["rejections"].as_array().unwrap().len(), 13);
}

#[test]
fn fifty_thousand_deleted_rows_are_counted_within_two_seconds() {
    let database = Database::migrated();
    database.exec(
        "insert into datapass_pull_handled (datapass_authorization_id)
             select gen_random_uuid() from generate_series(1, 100000);
         insert into proactivite_requests (datapass_authorization_id)
             select datapass_authorization_id from datapass_pull_handled limit 50000",
    );
    let run = Run::new(["status", "--format", "json"]).database(&database);
    let outcome = run.spawn().wait_within(std::time::Duration::from_secs(2));
    let status: Value = serde_json::from_str(&outcome.assert_success().stdout).unwrap();
    assert_eq!(status["deleted"], 50000);
}

#[test]
fn an_unusable_job_table_is_shown_with_all_other_fields() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1).siret("1"));
    let run = Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
    run.any_stderr().output().success();
    database.exec(GOOD_JOBS_4);
    database.exec("alter table good_jobs add column tenant text not null");
    let text = status_text(&database);
    assert!(text.contains("a cycle would fail") && text.contains("tenant"), "{text}");
    assert!(text.contains("held by       D1\n"), "{text}");
    let json = status_json(&database);
    assert_eq!((&json["enqueue"], &json["rejected"]), (&"refused".into(), &1.into()));
}

#[test]
fn missing_tables_are_reported() {
    let outcome = status(&Database::empty(), "text");
    outcome.assert_code(1);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains("datapass-pull migrate"), "{}", outcome.stderr);
}

#[test]
fn an_acceptance_survives_an_absence_until_the_entry_is_validated_again() {
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
    Run::new(accept).database(&database).output().assert_success();
    let accepted = run();
    assert_eq!((accepted.accepted, accepted.watermark), (1, Some(at("2026-05-18T10:00:00Z"))));
    upstream.with(|upstream| upstream.reopen(1));
    assert_eq!(run().accepted, 0);
    upstream.with(|upstream| upstream.validate(1, old));
    let back = run();
    assert_eq!((back.accepted, back.rejected, back.matched), (1, 0, 2));
    let later = at("2026-05-19T10:00:00Z");
    upstream.with(|upstream| upstream.validate(1, later));
    assert_eq!(run().rejected, 1, "open again after another validation");
}

#[test]
fn tables_with_other_column_types_are_read() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let counters = ["created", "deleted", "duration_ms", "late", "rejected", "seen", "skipped"];
    for column in counters {
        database.exec(&format!("ALTER TABLE datapass_pull_runs ALTER {column} TYPE integer"));
    }
    database.exec("ALTER TABLE datapass_pull_runs ALTER started_at TYPE timestamp");
    database.exec("ALTER TABLE datapass_pull_rejections ALTER demande_id TYPE integer");
    upstream.add(Demande::cnous(1).siret("1"));
    for _ in 0..2 {
        let run = Run::cycle(&upstream, &database).stderr("Rejected D1");
        run.output().success();
    }
    for format in ["text", "json"] {
        status(&database, format).assert_success();
    }
}
