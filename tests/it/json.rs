//! `--format json`: one document on standard output, for success and failure alike.

use serde_json::{Value, json};

use crate::harness::*;

/// Runs a command and parses its single JSON document.
#[track_caller]
fn document(run: Run, args: &[&str], code: i32) -> Value {
    let run = run.args(args.to_vec()).any_stderr();
    let outcome = run.env("DATAPASS_FORMAT", "json").output();
    let text = &outcome.assert_code(code).stdout;
    assert!(text.ends_with('\n'), "{text}");
    let document = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(!text.contains("hunter2"), "{text}");
    document
}

#[test]
fn a_success_is_one_document() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1).siret("1"));
    let run = || Run::cycle(&upstream, &database);
    let pull = document(run(), &[], 0);
    assert_eq!(pull["outcome"], "success");
    let list = document(run(), &["rejected", "list"], 0);
    assert_eq!(list[0]["ref"], "D1");
    let accept = &["rejected", "accept", "D1", "--reason", "seen"][..];
    for args in [accept, accept, &["rejected", "reopen", "D1"]] {
        let is_open = args == ["rejected", "reopen", "D1"];
        let entry = document(run(), args, 0);
        assert_eq!(entry["ref"], "D1");
        assert_eq!(entry["state"], if is_open { "open" } else { "accepted" });
        let reason = if is_open { Value::Null } else { json!("seen") };
        assert_eq!(entry["accepted_reason"], reason);
    }
    let time = "2026-05-18T10:00:00.000Z";
    let set = document(run(), &["watermark", "set", time, "--yes"], 0);
    let definition_id = "proactivite_pour_les_etudiants_boursiers_dyn";
    assert_eq!(
        set,
        json!({
            "definition_id": definition_id,
            "watermark_before": pull["watermark"],
            "watermark": time,
            "skip_before": time,
        })
    );
    let reset = document(run(), &["watermark", "reset", "--yes"], 0);
    assert_eq!(
        reset,
        json!({
            "definition_id": null,
            "watermark_before": time,
            "watermark": null,
            "skip_before": null,
        })
    );
    assert_eq!(document(run(), &["status"], 0)["watermark"], Value::Null);
    assert_eq!(document(run(), &["migrate"], 0), json!({"changes": []}));
}

#[test]
fn a_failure_is_one_document() {
    let database = Database::empty();
    for (args, reason) in [
        (&["status"][..], "tables_missing"),
        (&["rejected", "list"], "tables_missing"),
        (&["rejected", "accept", "D1", "--reason", "seen"], "tables_missing"),
        (&["rejected", "reopen", "D1"], "tables_missing"),
        (&["watermark", "reset", "--yes"], "tables_missing"),
        (&["watermark", "reset"], "usage"),
        (&["check"], "configuration"),
        (&["status", "--enqueue", "hunter2"], "usage"),
        (&["migrate", "--frobnicate=hunter2"], "usage"),
        (&["rejected", "accept"], "usage"),
    ] {
        let failure = document(Run::new::<&str>([]).database(&database), args, 1);
        assert_eq!(failure["outcome"], "permanent", "{args:?}: {failure}");
        assert_eq!(failure["reason"], reason, "{args:?}: {failure}");
        assert!(failure["stage"].is_string(), "{args:?}: {failure}");
        assert!(failure["message"].is_string(), "{args:?}: {failure}");
    }
    let away = Run::new::<&str>([]).env("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d");
    for args in [&["status"][..], &["migrate"]] {
        let failure = document(away.clone(), args, 2);
        assert_eq!(failure["outcome"], "transient", "{args:?}: {failure}");
        assert_eq!(failure["reason"], "database_unavailable", "{args:?}: {failure}");
    }
    // A command without this option prints no document.
    let outcome =
        Run::new(["schedule", "crontab", "--timeout", "x"]).env("DATAPASS_FORMAT", "json");
    assert_eq!(outcome.any_stderr().output().assert_code(1).stdout, "");
}
