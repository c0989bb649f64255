//! `watermark set` and `reset`: confirmation, refusals, and a concurrent cycle.

use chrono::{DateTime, TimeDelta, Utc};

use crate::harness::*;

fn hour(hours: i64) -> DateTime<Utc> {
    at("2026-05-18T10:00:00Z") + TimeDelta::hours(hours)
}

fn command(database: &Database, args: &[&str]) -> Run {
    Run::new([&["watermark"], args].concat()).database(database)
}

fn cycle(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database).args(["--enqueue", "none"])
}

/// Makes tables whose watermark is at `hour(0)`.
fn database() -> Database {
    let database = Database::migrated();
    let set = ["set", "2026-05-18T12:00:00+02:00", "--yes"];
    let outcome = command(&database, &set).output();
    let expected = "The watermark was none, and is 2026-05-18T10:00:00.000Z now\n";
    assert_eq!(outcome.assert_success().stdout, expected);
    database
}

/// A recorded manual change: kind, and the watermark before and after.
type Recorded = (String, Option<DateTime<Utc>>, Option<DateTime<Utc>>);

fn manual_changes(database: &Database) -> Vec<Recorded> {
    let runs = database.runs().into_iter();
    let runs = runs.filter(|run| run["kind"] != "cycle");
    runs.map(|run| {
        assert_eq!(run["outcome"], "success");
        let time = |name: &str| run[name].as_str().map(at);
        (run["kind"].as_str().unwrap().to_owned(), time("watermark_before"), time("watermark"))
    })
    .collect()
}

#[test]
fn an_operator_confirms_and_only_yes_changes_the_watermark() {
    let database = database();
    let before = (database.watermark_row(), database.runs());
    for args in [&["set", "2026-05-18T11:00:00Z"][..], &["reset"]] {
        for (keys, status, message) in [
            ("n\n", 1, "Nothing was changed"),
            ("\n", 1, "Nothing was changed"),
            ("yesterday\n", 1, "Nothing was changed"),
            ("\x04", 1, "Nothing was changed"),
            ("\x03", 2, "Stopped by a signal"),
        ] {
            let mut terminal = command(&database, args).on_terminal();
            terminal.wait_for("[y/N] ");
            terminal.press(keys);
            let (code, screen) = terminal.end();
            assert_eq!(code, status, "{keys:?}: {screen}");
            let is_a_line =
                screen.lines().any(|line| line.starts_with(&format!("error: {message}")));
            assert!(is_a_line, "{keys:?}: {screen}");
            assert_eq!((database.watermark_row(), database.runs()), before);
        }
    }
    for (keys, args, question, message) in [
        (
            "y\n",
            &["set", "2026-05-18T11:00:00Z"][..],
            "Move the watermark from 2026-05-18T10:00:00.000Z to 2026-05-18T11:00:00.000Z? Entries \
             validated before it and never handled will be skipped. [y/N] ",
            "The watermark was 2026-05-18T10:00:00.000Z, and is 2026-05-18T11:00:00.000Z now",
        ),
        (
            "Y\n",
            &["set", "2026-05-01"],
            "to 2026-05-01T00:00:00.000Z? Entries validated before it and never handled will be \
             skipped. [y/N] ",
            "The watermark was 2026-05-18T11:00:00.000Z, and is 2026-05-01T00:00:00.000Z now",
        ),
        (
            "yes\n",
            &["reset"],
            "from 2026-05-01T00:00:00.000Z to none? No entry will be skipped: each that was never \
             handled will be created. [y/N] ",
            "The watermark was 2026-05-01T00:00:00.000Z, and is none now",
        ),
    ] {
        let mut terminal = command(&database, args).on_terminal();
        terminal.wait_for(question);
        terminal.press(keys);
        let (code, screen) = terminal.end();
        assert_eq!(code, 0, "{screen}");
        assert!(screen.contains(message), "{screen}");
    }
    assert_eq!(database.watermark_row().unwrap().definition_id, None);
    let may = at("2026-05-01T00:00:00Z");
    assert_eq!(
        manual_changes(&database),
        [
            ("watermark set".to_owned(), None, Some(hour(0))),
            ("watermark set".to_owned(), Some(hour(0)), Some(hour(1))),
            ("watermark set".to_owned(), Some(hour(1)), Some(may)),
            ("watermark reset".to_owned(), Some(may), None),
        ]
    );
}

#[test]
fn a_run_keeps_the_microseconds_of_the_watermark() {
    let database = database();
    let time = at("2026-05-18T11:00:00.123456Z");
    command(&database, &["set", "2026-05-18T11:00:00.123456Z", "--yes"]).output().assert_success();
    assert_eq!(database.watermark(), Some(time));
    assert_eq!(manual_changes(&database).last().unwrap().2, Some(time));
}

#[test]
fn no_session_is_open_during_the_confirmation() {
    let database = database();
    let mut terminal = command(&database, &["reset"]).on_terminal();
    terminal.wait_for("[y/N] ");
    database.await_no_session("application_name like 'datapass-pull%'");
    // Another operator changes it, so that the confirmation is out of date.
    let set = ["set", "2026-05-18T11:00:00Z", "--yes"];
    command(&database, &set).output().assert_success();
    terminal.press("y\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("moved while you were asked"), "{screen}");
    assert_eq!(database.watermark(), Some(hour(1)));
}

#[test]
fn a_change_without_a_terminal_or_for_another_definition_is_refused() {
    let database = database();
    let before = (database.watermark_row(), database.runs());
    let tomorrow = (Utc::now() + TimeDelta::days(1)).to_rfc3339();
    let set = ["set", "2026-05-18T11:00:00Z"];
    let other = |run: Run| run.env("DATAPASS_DEFINITION_ID", "other");
    // No terminal: refused before the database is contacted.
    let unreachable = |run: Run| run.env("DATABASE_URL", "postgres://127.0.0.1:1/x");
    for (run, message) in [
        (command(&database, &["set", &tomorrow, "--yes"]), "TIME is in the future"),
        (command(&database, &["set", "soon", "--yes"]), "TIME is not a valid time"),
        (unreachable(command(&database, &set)), "pass --yes"),
        (unreachable(command(&database, &["reset"])).stdin("y\n"), "pass --yes"),
        (other(command(&database, &set)).arg("--yes"), "belongs to another definition"),
    ] {
        let outcome = run.output();
        outcome.assert_code(1);
        assert!(outcome.stderr.contains(message), "{message}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
    let (code, screen) = other(command(&database, &set)).on_terminal().end();
    assert!(code == 1 && !screen.contains("[y/N]"), "{screen}");
    assert_eq!((database.watermark_row(), database.runs()), before);
    other(command(&database, &["reset"])).arg("--yes").output().assert_success();
    other(command(&database, &set)).arg("--yes").output().assert_success();
    let row = database.watermark_row().unwrap();
    assert_eq!(row.definition_id.as_deref(), Some("other"));
}

#[test]
fn the_definition_is_compared_under_the_lock() {
    let database = database();
    let mut client = database.client();
    let mut holder = client.transaction().unwrap();
    holder.batch_execute("update datapass_pull_watermarks set definition_id = 'other'").unwrap();
    let running = command(&database, &["set", "2026-05-01", "--yes"]).spawn();
    database.await_session("wait_event_type = 'Lock'");
    holder.commit().unwrap();
    let outcome = running.wait();
    outcome.assert_code(1);
    assert!(outcome.stderr.contains("another definition"), "{}", outcome.stderr);
    assert_eq!(database.watermark(), Some(hour(0)));
}

#[test]
fn a_running_cycle_uses_a_manual_change() {
    for (args, left, creates) in [
        // Back: unhandled entries validated after the new time are created.
        (&["set", "2026-05-18T05:00:00Z"][..], Some(hour(3)), 2),
        (&["reset"], Some(hour(3)), 3),
        // Forward, after all listed entries: the cycle does not move it back.
        (&["set", "2026-05-18T20:00:00Z"], Some(hour(10)), 0),
        (&["set", "2026-05-18T11:00:00Z"], Some(hour(3)), 1),
    ] {
        let (upstream, database) = (DataPass::start(), database());
        for (id, hours) in [(1, -30), (2, -4), (3, 3)] {
            upstream.add(Demande::cnous(id).validated(hour(hours)));
        }
        let gate = upstream.gate(On::page(1));
        let running = cycle(&upstream, &database).any_stderr().spawn();
        gate.reached();
        command(&database, args).arg("--yes").output().assert_success();
        gate.open();
        let summary = running.wait().success();
        let counts = (summary.created, summary.skipped);
        assert_eq!(counts, (creates, 3 - creates), "{args:?}");
        assert_eq!(summary.watermark, left, "{args:?}");
        assert_eq!(database.watermark(), left, "{args:?}");
        let next = cycle(&upstream, &database).any_stderr().output().success();
        assert_eq!((next.created, next.existing), (0, creates), "{args:?}");
    }
}

/// PostgreSQL's `infinity` in a column, or a year that does not have four digits, is treated as null:
/// it neither fails a cycle nor hides an entry.
#[test]
fn infinity_in_a_column_is_treated_as_null() {
    for infinity in ["infinity", "-infinity", "270000-01-01", "20000-01-01", "0044-03-15 BC"] {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        upstream.add(validated(1, 10));
        upstream.add(validated(2, 20).siret("1"));
        let run = || cycle(&upstream, &database).any_stderr().output().success();
        assert_eq!(run().rejected, 1);
        for (table, column) in [
            ("datapass_pull_watermarks", "last_validated_at"),
            ("datapass_pull_watermarks", "updated_at"),
            ("datapass_pull_rejections", "last_validated_at"),
            ("datapass_pull_runs", "started_at"),
            ("proactivite_requests", "last_validated_at"),
        ] {
            database.exec(&format!("update {table} set {column} = '{infinity}'"));
        }
        let list = Run::new(["rejected", "list"]).database(&database);
        list.output().assert_success();
        upstream.add(validated(3, 5));
        let summary = run();
        assert_eq!((summary.since, summary.watermark_before), (None, None), "{infinity}");
        assert_eq!((summary.created, summary.existing, summary.rejected), (1, 1, 1));
        assert_eq!(summary.watermark, Some(minute(20)), "held by the rejection");
    }
}

#[test]
fn check_warns_of_a_watermark_in_the_future() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    let check = || {
        let run = Run::cycle(&upstream, &database).arg("check");
        run.output().assert_success().stdout.clone()
    };
    assert!(!check().contains("in the future"));
    database.exec("update datapass_pull_watermarks set last_validated_at = '2090-01-01T00:00Z'");
    let stdout = check();
    assert!(stdout.contains("watermark: It is in the future"), "{stdout}");
}

#[test]
fn a_change_that_is_not_stored_is_an_error_and_writes_nothing() {
    let database = database();
    let before = (database.watermark_row(), database.runs());
    for swallow in [
        "create function swallow() returns trigger language plpgsql as $$ begin return old; end $$;
         create trigger swallow before update on datapass_pull_watermarks
             for each row execute function swallow()",
        "create or replace function swallow() returns trigger language plpgsql
             as $$ begin return null; end $$",
        "drop trigger swallow on datapass_pull_watermarks;
         create rule swallow as on update to datapass_pull_watermarks do instead nothing",
    ] {
        database.exec(swallow);
        for args in [&["set", "2026-05-01", "--yes"][..], &["reset", "--yes"]] {
            let run = command(&database, args).args(["--format", "json"]);
            let outcome = run.output();
            let stdout = &outcome.assert_code(1).stdout;
            let document: serde_json::Value = serde_json::from_str(stdout).unwrap();
            assert_eq!(document["outcome"], "permanent", "{swallow}");
            assert_eq!(document["reason"], "not_written", "{swallow}");
            assert_eq!((database.watermark_row(), database.runs()), before);
        }
    }
}
