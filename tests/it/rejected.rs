//! `rejected`: entries by id, the duration of an acceptance, its withdrawal, and the list on a
//! terminal.

use chrono::{DateTime, Utc};

use crate::harness::*;

const FIRST: &str = "2026-05-18T10:00:00Z";
const AGAIN: &str = "2026-05-19T10:00:00Z";

/// Returns a demande that fails validation.
fn invalid(id: i64) -> Demande {
    Demande::cnous(id).validated(at(FIRST)).siret("1")
}

fn cycle(upstream: &DataPass, database: &Database) -> Summary {
    let run = Run::cycle(upstream, database).args(["--enqueue", "none"]);
    run.any_stderr().output().success()
}

fn accept(database: &Database, id: &str, reason: &str) -> Outcome {
    let run = Run::new(["rejected", "accept", id, "--reason", reason]);
    run.database(database).output()
}

/// Returns the references of the accepted entries.
fn accepted(database: &Database) -> Vec<String> {
    let rows = database.rejections().into_iter();
    rows.filter(|it| it.accepted_at.is_some()).map(|it| it.r#ref).collect()
}

#[test]
fn an_entry_is_accepted_by_any_of_its_ids_and_an_ambiguous_id_is_refused() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for (id, public_id) in [
        (5, "one"),
        (7, "12345"),
        (8, "999"),
        (9, "D5"),
        (10, "twice"),
        (11, "twice"),
        (12345, "other"),
    ] {
        upstream.add(invalid(id).public_id(Some(public_id)));
    }
    // Entries without a number; the public ids of two of them look like a number or a reference.
    for (id, public_id) in [(101, " blank"), (102, "D5"), (103, "12345")] {
        upstream.add(invalid(id).public_id(Some(public_id)));
        upstream.with(|upstream| upstream.edit(id, |shown| shown["id"] = "none".into()));
    }
    assert_eq!(cycle(&upstream, &database).rejected, 10);
    let rows = database.rejections();
    let of = |public_id: &str| {
        let nameless = |it: &&RejectionRow| {
            it.demande_id.is_none() && it.datapass_authorization_id.as_deref() == Some(public_id)
        };
        rows.iter().find(nameless).unwrap().r#ref.clone()
    };
    let (digest_5, digest_12345) = (of("D5"), of("12345"));
    assert_eq!([digest_5.len(), digest_12345.len()], [32, 32]);
    assert_eq!(of(" blank"), " blank");

    for (id, reference) in [
        ("5", "D5"),
        ("D5", "D5"),
        ("D05", "D5"),
        ("one", "D5"),
        ("D7", "D7"),
        ("999", "D8"),
        ("D12345", "D12345"),
        ("other", "D12345"),
        (" blank", " blank"),
        (&digest_5, &digest_5),
        (&digest_12345, &digest_12345),
    ] {
        let outcome = accept(&database, id, "closed school");
        let stdout = &outcome.assert_success().stdout;
        assert_eq!(*stdout, format!("Accepted {reference}\n"), "{id}");
        assert_eq!(accepted(&database), [reference], "{id}");
        database.exec("update datapass_pull_rejections set accepted_at = null");
    }

    for (id, message) in [
        ("12345", "use D12345 or "),
        ("12345", " D7"),
        ("12345", &digest_12345),
        ("twice", "use D10 or D11"),
        ("6", "No rejected entry has this id"),
        ("D6", "No rejected entry has this id"),
        ("d5", "No rejected entry has this id"),
        ("O'Neill\"; --", "No rejected entry has this id"),
    ] {
        let refused = accept(&database, id, "closed school");
        refused.assert_code(1);
        assert!(refused.stderr.contains(message), "{id}: {}", refused.stderr);
    }
    for (id, reason) in [("5", ""), ("5", " \n"), ("", "closed"), (" ", "closed")] {
        accept(&database, id, reason).assert_code(1);
    }
    assert_eq!(accepted(&database), [""; 0]);
}

#[test]
fn an_acceptance_lasts_until_the_next_validation_and_is_not_overwritten() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(invalid(1));
    cycle(&upstream, &database);
    cycle(&upstream, &database);
    let only = || database.rejections().pop().unwrap();
    let (first_seen, times) = (only().first_seen_at, only().times_seen);
    assert_eq!(times, 2);

    accept(&database, "1", " closed school ").assert_success();
    let decided = only();
    assert_eq!(decided.accepted_reason.as_deref(), Some("closed school"));
    let again = accept(&database, "1", "another word");
    let stdout = &again.assert_success().stdout;
    assert!(
        stdout.contains("D1 is accepted since ") && stdout.contains(": closed school\n"),
        "{stdout}"
    );
    assert_eq!(only(), decided);
    assert_eq!(cycle(&upstream, &database).accepted, 1);
    assert_eq!(only().accepted_at, decided.accepted_at);

    // It leaves the listing: there is nothing left to accept. An empty listing closes nothing.
    upstream.with(|upstream| upstream.reopen(1));
    cycle(&upstream, &database);
    assert!(only().closed_at.is_none());
    upstream.add(Demande::other(2));
    cycle(&upstream, &database);
    assert!(only().closed_at.is_some());
    let closed = accept(&database, "1", "too late");
    closed.assert_code(1);
    assert!(closed.stderr.contains("not rejected any more"), "{}", closed.stderr);

    // It returns, validated again: the acceptance has ended, `first_seen_at` and `times_seen` stay.
    upstream.with(|upstream| upstream.validate(1, at(AGAIN)));
    assert_eq!(cycle(&upstream, &database).rejected, 1);
    let open = only();
    assert_eq!((open.accepted_at, open.accepted_reason, open.closed_at), (None, None, None));
    assert_eq!((open.first_seen_at, open.times_seen), (first_seen, 4));
    assert_eq!(open.last_validated_at, Some(at(AGAIN)));
    accept(&database, "1", "still closed").assert_success();
    assert_eq!(only().accepted_reason.as_deref(), Some("still closed"));
}

#[test]
fn the_list_fits_a_terminal_and_contains_no_control_characters() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let texts = [
        "界".repeat(90),
        "e\u{301}\u{323}".repeat(60),
        "שלום ".repeat(30),
        "\u{1b}[2J\u{202e}\r\nD99\n    accepted\t\u{9b}\u{200b}".repeat(4),
        "👩\u{200d}🔧 ".repeat(40),
        format!("word {}", "x".repeat(150)),
    ];
    for (id, text) in (1..).zip(&texts) {
        upstream.add(invalid(id));
        // DataPass' values are not stored; the reason of an operator is.
        upstream.with(|upstream| {
            upstream.edit(id, |shown| {
                shown["state"] = text.clone().into();
                shown["data"]["echelon_bourse"] = text.clone().into();
                shown["data"]["code_insee_entity"] = text.clone().into();
            });
        });
    }
    // The entry that holds the watermark has the longest possible reference.
    let held = format!("{}\u{301}\u{202e}", "界".repeat(190));
    upstream.add(invalid(99).public_id(Some(&held)).validated(at("2026-05-17T10:00:00Z")));
    upstream.with(|upstream| upstream.edit(99, |shown| shown["id"] = "none".into()));
    cycle(&upstream, &database);
    for (id, text) in (1..).zip(&texts) {
        let id = format!("D{id}");
        accept(&database, &id, text).assert_success();
    }

    let command = |args: &[&str]| Run::new(args.to_vec()).database(&database).output();
    let list = command(&["rejected", "list"]).assert_success().stdout.clone();
    let status = command(&["status"]).assert_success().stdout.clone();
    assert!(status.contains("held by       界"), "{status}");
    for text in [&list, &status] {
        for line in text.lines() {
            // A word is never wrapped, so that an id can be copied.
            let has_long_word = line.split(' ').any(|it| it.chars().count() > 60);
            assert!(line.chars().count() <= 80 || has_long_word, "{line}");
        }
        let unsafe_one =
            |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{200b}\u{200d}".contains(c));
        assert!(!text.contains(unsafe_one), "{text}");
    }
    let ids: Vec<&str> = list.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(ids.len(), texts.len() + 1, "only references are not indented: {list}");

    let json = command(&["rejected", "list", "--format", "json"]).assert_success().stdout.clone();
    let json: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let kept = |text: &str| json.iter().any(|it| it["accepted_reason"] == text.trim());
    assert!(texts.iter().all(|text| kept(text)));
    assert_eq!(json[0]["ref"], held);
    let time: DateTime<Utc> = at(json[1]["accepted_at"].as_str().unwrap());
    assert!(time <= Utc::now());
}

fn reopen(database: &Database, id: &str) -> Outcome {
    Run::new(["rejected", "reopen", id]).database(database).output()
}

#[test]
fn an_acceptance_is_withdrawn() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(invalid(1));
    upstream.add(Demande::other(2));
    cycle(&upstream, &database);
    let before = database.snapshot();
    let refused = reopen(&database, "1");
    refused.assert_code(1);
    let message = "D1 is not accepted, so it cannot be reopened";
    assert!(refused.stderr.contains(message), "{}", refused.stderr);
    assert_eq!((refused.stdout.as_str(), database.snapshot()), ("", before));
    reopen(&database, "2").assert_code(1);

    accept(&database, "D1", "closed school").assert_success();
    assert_eq!(cycle(&upstream, &database).accepted, 1);
    let outcome = reopen(&database, "1");
    assert_eq!(outcome.assert_success().stdout, "Reopened D1\n");
    let only = || database.rejections().pop().unwrap();
    assert_eq!((only().accepted_at, only().accepted_reason), (None, None));
    assert_eq!(cycle(&upstream, &database).rejected, 1);

    // An acceptance stays while the entry is not listed, and can be withdrawn.
    accept(&database, "D1", "closed school").assert_success();
    upstream.with(|upstream| upstream.reopen(1));
    cycle(&upstream, &database);
    assert!(only().closed_at.is_some() && only().accepted_at.is_some());
    assert_eq!(reopen(&database, "1").assert_success().stdout, "Reopened D1\n");
    reopen(&database, "1").assert_code(1);
    upstream.with(|upstream| upstream.validate(1, at(FIRST)));
    assert_eq!(cycle(&upstream, &database).rejected, 1);
}

/// A concurrent cycle that records the entry would overwrite the decision.
#[test]
fn a_decision_waits_for_a_concurrent_cycle() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(invalid(1));
    cycle(&upstream, &database);
    accept(&database, "1", "closed school").assert_success();
    let mut client = database.client();
    let mut holder = client.transaction().unwrap();
    holder.execute("select from datapass_pull_watermarks for update", &[]).unwrap();
    let run = Run::new(["rejected", "reopen", "1"]).database(&database);
    let running = run.spawn();
    database.await_session("wait_event_type = 'Lock'");
    assert_eq!(accepted(&database), ["D1"]);
    holder.commit().unwrap();
    running.wait().assert_success();
    assert_eq!(accepted(&database), [""; 0]);
}

#[test]
fn a_decision_that_is_not_stored_is_an_error() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(invalid(1));
    upstream.add(invalid(2));
    cycle(&upstream, &database);
    accept(&database, "2", "closed school").assert_success();
    let before = database.rejections();
    for body in ["return old", "return null"] {
        database.exec(&format!(
            "create or replace function swallow() returns trigger language plpgsql
                 as $$ begin {body}; end $$;
             create or replace trigger swallow before update on datapass_pull_rejections
                 for each row execute function swallow()"
        ));
        for outcome in [accept(&database, "1", "seen"), reopen(&database, "2")] {
            outcome.assert_code(1);
            let message = "Table datapass_pull_rejections did not store";
            assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
            assert_eq!(outcome.stdout, "");
        }
        assert_eq!(database.rejections(), before);
    }
}

#[test]
fn the_list_shows_ids_time_reasons_and_state() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let list = |format: &str| {
        let run = Run::new(["rejected", "list", "--format", format]).database(&database);
        run.output().assert_success().stdout.clone()
    };
    assert_eq!(list("text"), "No entry is rejected\n");
    assert_eq!(list("json"), "[]\n");
    let public_id = "0b9ff5c2-9a6b-4b35-8a8e-4a2f4c6fd0c1";
    upstream.add(invalid(5).public_id(Some(public_id)));
    upstream.add(invalid(6).public_id(None).validated(at(AGAIN)));
    cycle(&upstream, &database);
    accept(&database, "6", "closed school").assert_success();
    let [first, second] = &database.rejections()[..] else { panic!("not two rejections") };
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let day = second.accepted_at.unwrap().format("%F");
    let expected = format!(
        "D5
    public id   {public_id}
    validated   2026-05-18T10:00:00.000Z
    reasons     siret: not 14 digits
    state       open
    first seen  {}
    times seen  1
D6
    public id   none
    validated   2026-05-19T10:00:00.000Z
    reasons     public_id: missing, siret: not 14 digits
    state       accepted {day}: closed school
    first seen  {}
    times seen  1
",
        time(first.first_seen_at),
        time(second.first_seen_at)
    );
    assert_eq!(list("text"), expected);
    let json: serde_json::Value = serde_json::from_str(&list("json")).unwrap();
    assert_eq!(
        json,
        serde_json::json!([
            {
                "ref": "D5",
                "datapass_authorization_id": public_id,
                "demande_id": 5,
                "last_validated_at": "2026-05-18T10:00:00.000Z",
                "state": "open",
                "reasons": ["siret: not 14 digits"],
                "accepted_at": null,
                "accepted_reason": null,
                "first_seen_at": time(first.first_seen_at),
                "last_seen_at": time(first.last_seen_at),
                "times_seen": 1,
            },
            {
                "ref": "D6",
                "datapass_authorization_id": null,
                "demande_id": 6,
                "last_validated_at": "2026-05-19T10:00:00.000Z",
                "state": "accepted",
                "reasons": ["public_id: missing", "siret: not 14 digits"],
                "accepted_at": time(second.accepted_at.unwrap()),
                "accepted_reason": "closed school",
                "first_seen_at": time(second.first_seen_at),
                "last_seen_at": time(second.last_seen_at),
                "times_seen": 1,
            },
        ])
    );
}

/// Years that PostgreSQL or its JSON functions refuse must not reach a statement.
#[test]
fn a_time_that_cannot_be_stored_rejects_its_entry() {
    let times = [
        "-4713-01-01T00:00:00Z",
        "+262142-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
    ];
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    for (id, time) in (2..).zip(times) {
        upstream.add(validated(id, 20));
        upstream
            .with(|upstream| upstream.edit(id, |shown| shown["last_validated_at"] = time.into()));
    }
    // Another reason does not hide this one.
    upstream.with(|upstream| upstream.edit(5, |shown| shown["organisation"] = "none".into()));
    let summary = cycle(&upstream, &database);
    assert_eq!((summary.created, summary.rejected), (1, 4));
    assert_eq!(summary.watermark, Some(minute(10)));
    for rejection in database.rejections() {
        let reasons = rejection.reasons.join(", ");
        assert!(reasons.contains("last_validated_at: not a time with offset"), "{reasons}");
    }
}
