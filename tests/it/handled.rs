//! Handled entries: rows are created once, deleted rows stay deleted, and a cycle fails if a table
//! does not store its rows.

use crate::harness::datapass::siret;
use crate::harness::*;

fn cycle(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database).any_stderr()
}

fn success(upstream: &DataPass, database: &Database) -> Summary {
    cycle(upstream, database).output().success()
}

fn since(upstream: &DataPass, database: &Database, time: &str) -> Summary {
    let run = cycle(upstream, database).args(["--since", time]);
    run.output().success()
}

/// Makes a database with GoodJob's table, and a fake DataPass with entries 1 to 3.
fn scene() -> (DataPass, Database) {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    for id in 1..=3 {
        upstream.add(validated(id, id * 10));
    }
    (upstream, database)
}

fn public_ids(database: &Database) -> Vec<String> {
    let handled = database.handled().into_iter();
    handled.map(|(public_id, _)| public_id).collect()
}

#[test]
fn a_deleted_row_is_created_again_only_on_request() {
    let (upstream, database) = scene();
    assert_eq!(success(&upstream, &database).created, 3);
    assert_eq!(database.handled().len(), 3);
    database.exec("delete from proactivite_requests where datapass_demande_id = 2");
    for _ in 0..10 {
        let summary = success(&upstream, &database);
        assert_eq!((summary.created, summary.existing), (0, 3));
        assert_eq!((summary.deleted, summary.revalidated), (1, 0));
    }

    // A new validation is reported, but does not create the row again.
    upstream.with(|upstream| upstream.validate(2, minute(100)));
    let run = Run::cycle(&upstream, &database).stderr("rows are deleted");
    let summary = run.output().success();
    assert_eq!((summary.deleted, summary.revalidated), (1, 1));
    assert_eq!(success(&upstream, &database).revalidated, 0, "counted once");
    let reset = Run::new(["watermark", "reset", "--yes"]).database(&database);
    reset.output().assert_success();
    let summary = success(&upstream, &database);
    assert_eq!((summary.created, summary.deleted), (0, 1));
    assert_eq!(database.count("proactivite_requests"), 2);
    assert_eq!(database.count("good_jobs"), 3);

    // The row is created again when its handled entry is deleted,
    database.exec(
        "delete from datapass_pull_handled
          where datapass_authorization_id not in
                (select datapass_authorization_id from proactivite_requests)",
    );
    let summary = success(&upstream, &database);
    assert_eq!((summary.created, summary.late), (1, 0));
    assert_eq!(success(&upstream, &database).deleted, 0);
    // and by a replay.
    database.exec("delete from proactivite_requests");
    let summary = since(&upstream, &database, "2026-05-18T10:15:00Z");
    assert_eq!((summary.created, summary.existing), (2, 0));
    assert_eq!((summary.matched, summary.deleted), (2, 1));
    assert_eq!(database.count("good_jobs"), 6);
}

#[test]
fn a_replay_counts_a_handled_entry_that_became_invalid_as_existing_and_deleted() {
    let (upstream, database) = scene();
    success(&upstream, &database);
    database.exec("delete from proactivite_requests");
    upstream.with(|upstream| upstream.edit(2, |shown| shown["organisation"]["siret"] = "1".into()));
    let summary = since(&upstream, &database, "2026-05-01");
    assert_eq!((summary.created, summary.existing), (2, 1));
    assert_eq!((summary.rejected, summary.deleted), (0, 1));
    assert!(database.rejections().is_empty());
}

#[test]
fn rows_from_before_the_handled_table_are_handled_when_they_are_listed() {
    let (upstream, database) = scene();
    database.exec(
        "insert into proactivite_requests (datapass_authorization_id, last_validated_at)
         values ('00000002-0000-4000-8000-000000000002', '2026-05-18T10:20:00.123Z'),
                ('not listed', null)",
    );
    assert!(database.handled().is_empty());
    let summary = success(&upstream, &database);
    assert_eq!((summary.created, summary.existing), (2, 1));
    assert_eq!((summary.revalidated, database.handled().len()), (0, 3));
    database.exec("delete from proactivite_requests");
    let summary = success(&upstream, &database);
    assert_eq!((summary.created, summary.deleted), (0, 3));
}

#[test]
fn a_cycle_without_new_entries_writes_neither_rows_nor_handled_entries() {
    let (upstream, database) = scene();
    success(&upstream, &database);
    let tables = ["proactivite_requests", "datapass_pull_handled"];
    let written = |database: &Database| {
        tables.map(|table| {
            let versions = format!("select coalesce(max(xmin::text::bigint), 0) from {table}");
            let newest: i64 = database.client().query_one(&versions, &[]).unwrap().get(0);
            (newest, database.dead_rows(table))
        })
    };
    let (before, ids_before) = (written(&database), database.ids_consumed("proactivite_requests"));
    for _ in 0..3 {
        assert_eq!(success(&upstream, &database).existing, 3);
    }
    assert_eq!(written(&database), before);
    assert_eq!(database.ids_consumed("proactivite_requests"), ids_before);
}

#[test]
fn an_entry_that_is_listed_late_is_created_and_named() {
    let (upstream, database) = scene();
    success(&upstream, &database);
    for id in 4..=15 {
        upstream.add(validated(id, -id));
    }
    upstream.add(Demande::cnous(16).never_validated());
    let run = Run::cycle(&upstream, &database).any_stderr().stderr(
        "Created late, although older than the watermark: D15, D14, D13, D12, D11, D10, D9, \
         D8, D7, D6",
    );
    let summary = run.output().success();
    assert_eq!((summary.created, summary.late, summary.enqueued), (13, 13, 13));
    assert_eq!(summary.watermark, Some(minute(30)));
}

#[test]
fn a_backlog_is_skipped_until_the_watermark_is_set_back() {
    let (upstream, database) = scene();
    upstream.add(Demande::cnous(4).never_validated());
    upstream.add(validated(5, 5).siret("1"));
    let set = |time: &str| {
        let run = Run::new(["watermark", "set", time, "--yes"]).database(&database);
        run.output().assert_success();
    };
    set("2026-05-18T10:20:00.123Z");
    let row = database.watermark_row().unwrap();
    assert_eq!((row.last_validated_at, row.skip_before), (Some(minute(20)), Some(minute(20))));
    let summary = success(&upstream, &database);
    assert_eq!((summary.created, summary.skipped), (2, 3), "from TIME on");
    assert_eq!((summary.matched, summary.since), (2, Some(minute(20))));
    assert_eq!(database.handled().len(), 2);
    assert!(database.rejections().is_empty());
    // A replay creates skipped entries.
    let replay = since(&upstream, &database, "2026-05-18T10:05:00Z");
    assert_eq!((replay.created, replay.rejected, replay.skipped), (1, 1, 0));
    assert_eq!(replay.since, Some(at("2026-05-18T10:05:00Z")));
    // The open rejection is retried, although its entry was validated before `skip_before`.
    upstream.with(|upstream| {
        upstream.edit(5, |shown| shown["organisation"]["siret"] = siret(5).into());
    });
    let corrected = success(&upstream, &database);
    assert_eq!((corrected.created, corrected.late, corrected.skipped), (1, 1, 1));
    set("2026-05-18T10:00:00Z");
    assert_eq!(success(&upstream, &database).skipped, 1);
    let reset = Run::new(["watermark", "reset", "--yes"]).database(&database);
    reset.output().assert_success();
    let last = success(&upstream, &database);
    assert_eq!((last.created, last.late, last.skipped), (1, 0, 0));
    assert_eq!(database.count("good_jobs"), 5);
}

#[test]
fn a_cycle_fails_and_writes_nothing_when_a_table_does_not_store_its_rows() {
    let nothing = |table: &str| {
        format!(
            "create function swallow() returns trigger language plpgsql as
                 $$ begin return null; end $$;
             create trigger swallow before insert or update on {table}
                 for each row execute function swallow()"
        )
    };
    let elsewhere = "
        create table archive (like proactivite_requests including all)
            inherits (proactivite_requests);
        create function move() returns trigger language plpgsql as
            $$ begin
                 begin insert into archive values (new.*); exception when division_by_zero then end;
                 return null;
               end $$;
        create trigger move before insert on proactivite_requests
            for each row execute function move()";
    let rule = "create rule swallow as on insert to proactivite_requests
                    where new.datapass_demande_id = 2 do instead nothing";
    for (setup, table) in [
        (nothing("proactivite_requests"), "proactivite_requests"),
        (elsewhere.to_owned(), "proactivite_requests"),
        (nothing("datapass_pull_handled"), "datapass_pull_handled"),
        (nothing("datapass_pull_watermarks"), "datapass_pull_watermarks"),
        (nothing("good_jobs"), "good_jobs"),
    ] {
        let (upstream, database) = scene();
        let before = database.snapshot();
        database.exec(&setup);
        let outcome = cycle(&upstream, &database).output();
        let summary = if table == "good_jobs" {
            outcome.permanent("enqueue_refused")
        } else {
            outcome.permanent("not_written")
        };
        assert!(outcome.stderr.contains(table), "{setup}: {}", outcome.stderr);
        assert_eq!((summary.created, summary.watermark), (0, None), "{setup}");
        assert_eq!(database.snapshot(), before, "{setup}");
    }
    // PostgreSQL itself refuses ON CONFLICT beside a rule.
    let (upstream, database) = scene();
    database.exec(rule);
    cycle(&upstream, &database).output().permanent("database_refused");
    assert_eq!(database.count("proactivite_requests"), 0);
}

#[test]
fn a_row_inserted_by_a_concurrent_transaction_is_existing() {
    let (upstream, database) = scene();
    let mut client = database.client();
    let mut writer = client.transaction().unwrap();
    // Not committed when the cycle reads the existing rows, but committed when it inserts.
    writer
        .execute(
            "insert into proactivite_requests (datapass_authorization_id)
             values ('00000002-0000-4000-8000-000000000002')",
            &[],
        )
        .unwrap();
    let running = cycle(&upstream, &database).spawn();
    database.await_session("wait_event_type = 'Lock'");
    writer.commit().unwrap();
    let summary = running.wait().success();
    assert_eq!((summary.created, summary.existing), (2, 1));
    assert_eq!((summary.enqueued, database.count("good_jobs")), (2, 2));
    assert_eq!(public_ids(&database).len(), 3);
}

#[test]
fn a_character_that_the_database_cannot_store_rejects_only_its_entry() {
    let (upstream, _) = scene();
    let database = Database::empty_in("LATIN1");
    let migrate = Run::new(["migrate"]).database(&database);
    migrate.output().assert_success();
    let mut odd = validated(4, 5);
    odd.public_id = Some("łódź-4".to_owned());
    upstream.add(odd);
    let mut latin = validated(5, 6);
    latin.public_id = Some("é-5".to_owned());
    upstream.add(latin);
    let run = Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
    let rule = "Rejected D4: public_id: a character that the database cannot store";
    let outcome = run.stderr(rule).output();
    let summary = outcome.success();
    assert_eq!((summary.created, summary.rejected), (4, 1));
    assert!(public_ids(&database).contains(&"é-5".to_owned()));
    let [rejection] = &database.rejections()[..] else { panic!("one rejection") };
    assert_eq!(rejection.datapass_authorization_id, None);
}

#[test]
fn the_summary_and_the_run_row_have_the_same_id_and_counts() {
    let (upstream, database) = scene();
    upstream.add(validated(4, 5).siret("1"));
    let summary = success(&upstream, &database);
    let runs = database.runs();
    assert_eq!(runs.len(), 1);
    let run = &runs[0];
    assert_eq!(run["run_id"], summary.run_id.as_str());
    for (name, count) in [
        ("created", summary.created),
        ("matched", summary.matched),
        ("rejected", summary.rejected),
        ("seen", summary.seen),
    ] {
        assert_eq!(run[name], count, "{name}");
    }
    // The last success is the one recorded last, whatever its clock said.
    database.exec("update datapass_pull_runs set started_at = '2099-01-01'");
    let second = success(&upstream, &database);
    assert_ne!(second.run_id, summary.run_id);
    let status = Run::new(["status", "--format", "json"]).database(&database);
    let status: serde_json::Value =
        serde_json::from_str(&status.output().assert_success().stdout).unwrap();
    assert!(!status["last_success"].as_str().unwrap().starts_with("2099"));
}

#[test]
fn an_overtaken_cycle_changes_nothing() {
    let (upstream, database) = scene();
    upstream.add(validated(4, 5).siret("1"));
    upstream.add(validated(5, 6).siret("1"));
    let gate = upstream.gate(On::page(2));
    let slow = cycle(&upstream, &database).spawn();
    gate.reached();
    // Meanwhile 4 is validated again, still invalid, and 5 is corrected; another cycle lists both.
    upstream.with(|upstream| {
        upstream.validate(4, minute(50));
        upstream.edit(5, |shown| shown["organisation"]["siret"] = siret(5).into());
    });
    assert_eq!(success(&upstream, &database).rejected, 1);
    let accept = ["rejected", "accept", "D4", "--reason", "closed school"];
    let accept = Run::new(accept).database(&database);
    accept.output().assert_success();
    let before = database.snapshot();
    gate.open();
    let summary = slow.wait().success();
    assert_eq!((summary.rejected, summary.existing, summary.created), (1, 4, 0));
    assert_eq!(database.snapshot(), before, "an older listing changes nothing");
    let next = success(&upstream, &database);
    assert_eq!((next.accepted, next.rejected), (1, 0));
}
