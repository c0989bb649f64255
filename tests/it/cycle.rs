//! A cycle of the binary: order of the rows, watermark, rejections, failures, signals.

use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::harness::datapass::Endpoint;
use crate::harness::*;

/// Makes a demande whose id gives its time of creation, validated at a minute.
fn validated(id: i64, minutes: i64) -> Demande {
    Demande::cnous(id).created(minute(id - 100_000)).validated(minute(minutes))
}

/// Describes a cycle that enqueues nothing, so that it does not log that `good_jobs` is missing.
fn cycle(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database).env("DATAPASS_ENQUEUE", "none")
}

fn ids(database: &Database) -> Vec<i64> {
    database.requests().iter().filter_map(|row| row.datapass_demande_id).collect()
}

#[test]
fn a_first_cycle_creates_rows_in_validation_order_and_the_next_one_none() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for (id, minutes) in [(1, 50), (2, 10), (3, 70), (4, 30), (5, 60), (6, 20), (7, 40)] {
        upstream.add(validated(id, minutes));
    }
    for id in 8..20 {
        upstream.add(Demande::other(id).created(minute(id - 100_000)));
    }
    let first = cycle(&upstream, &database).output().success();
    assert_eq!((first.seen, first.matched, first.created), (19, 7, 7));
    assert_eq!(first.since, None);
    assert_eq!(first.watermark, Some(minute(70)));
    assert_eq!(ids(&database), [2, 6, 4, 7, 1, 5, 3]);
    assert_eq!(database.watermark(), Some(minute(70)));

    let before = database.snapshot();
    let ids_before = database.ids_consumed("proactivite_requests");
    let repeated = cycle(&upstream, &database).output().success();
    assert_eq!((repeated.created, repeated.existing, repeated.deleted), (0, 7, 0));
    assert_eq!(repeated.since, None);
    assert_eq!(database.snapshot(), before);
    assert_eq!(database.ids_consumed("proactivite_requests"), ids_before);
    assert_eq!(database.dead_rows("proactivite_requests"), 0);
    assert_eq!(database.runs().len(), 2);
}

#[test]
fn a_failure_on_any_page_changes_no_table_except_the_runs() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for id in 1..=30 {
        upstream.add(validated(id, id));
    }
    let before = database.snapshot();
    for page in 1..=4 {
        upstream.clear_rules();
        upstream.fault(On::page(page), Fault::Status(404, &[]));
        let run = cycle(&upstream, &database).args(["--page-size", "10"]);
        run.output().permanent("request_refused");
        assert_eq!(database.snapshot(), before, "page {page}");
    }
    assert_eq!(database.runs().len(), 4);
    upstream.clear_rules();
    let run = cycle(&upstream, &database).args(["--page-size", "10"]);
    assert_eq!(run.output().success().created, 30);
}

#[test]
fn a_rejected_entry_holds_the_watermark_until_it_is_corrected() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    upstream.add(validated(2, 20).siret("12345678901234"));
    upstream.add(validated(3, 30));
    let run = || cycle(&upstream, &database);
    let first = run().stderr("Rejected D2: siret: checksum").output();
    let first = first.success();
    assert_eq!((first.created, first.rejected, first.watermark), (2, 1, Some(minute(20))));
    let [rejection] = &database.rejections()[..] else { panic!("one rejection") };
    assert_eq!(rejection.demande_id, Some(2));
    assert!(rejection.reasons[0].contains("siret"), "{:?}", rejection.reasons);
    assert!(rejection.closed_at.is_none());

    upstream.with(|upstream| {
        upstream.edit(2, |shown| {
            shown["organisation"]["siret"] = crate::harness::datapass::siret(2).into();
        })
    });
    let second = run().output().success();
    assert_eq!((second.created, second.rejected, second.watermark), (1, 0, Some(minute(30))));
    assert!(database.rejections()[0].closed_at.is_some());
    assert_eq!(ids(&database), [1, 3, 2]);
}

#[test]
fn an_acceptance_releases_the_watermark_until_the_entry_is_validated_again() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10).siret("1"));
    upstream.add(validated(2, 20));
    let run = || cycle(&upstream, &database).any_stderr().output().success();
    assert_eq!(run().watermark, Some(minute(10)));

    let command = |args: &[&str]| Run::new(args.to_vec()).database(&database);
    command(&["rejected", "accept", "77", "--reason", "x"]).any_stderr().output().assert_code(1);
    command(&["rejected", "accept", "1"]).any_stderr().output().assert_code(1);
    command(&["rejected", "accept", "1", "--reason", "closed school"]).output().assert_code(0);
    let list = command(&["rejected", "list", "--format", "json"]).output();
    let list: serde_json::Value = serde_json::from_str(list.assert_code(0).stdout.trim()).unwrap();
    assert_eq!(list[0]["ref"], "D1");
    assert_eq!(list[0]["accepted_reason"], "closed school");

    let accepted = run();
    assert_eq!((accepted.accepted, accepted.rejected), (1, 0));
    assert_eq!(accepted.watermark, Some(minute(20)));

    upstream.with(|upstream| upstream.validate(1, minute(40)));
    let again = run();
    assert_eq!((again.accepted, again.rejected), (0, 1));
    assert!(database.rejections()[0].accepted_at.is_none());

    upstream.with(|upstream| upstream.reopen(1));
    run();
    assert!(database.rejections()[0].closed_at.is_some(), "it left the listing");
}

#[test]
fn an_unhandled_entry_outside_since_holds_the_watermark() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    upstream.add(validated(2, 200));
    let since = |time: DateTime<Utc>| {
        let run = cycle(&upstream, &database).args(["--since", &time.to_rfc3339()]);
        run.any_stderr().output().success()
    };
    let first = since(minute(100));
    assert_eq!((first.created, first.matched), (1, 1));
    assert_eq!(first.watermark, Some(minute(10)), "D1 is not created yet");
    let plain = cycle(&upstream, &database).output().success();
    assert_eq!((plain.created, plain.watermark), (1, Some(minute(200))));
    upstream.add(validated(3, 300));
    upstream.add(validated(4, 150));
    let held = since(minute(250));
    assert_eq!((held.created, held.watermark), (1, Some(minute(200))));
    let repeated = since(minute(5));
    assert_eq!((repeated.created, repeated.existing, repeated.late), (1, 3, 0));
    assert_eq!(repeated.watermark, Some(minute(300)));
}

#[test]
fn entries_without_a_time_are_created_last_and_count_as_late() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    upstream.add(Demande::cnous(2).created(minute(-5)).never_validated());
    let first = cycle(&upstream, &database).output().success();
    assert_eq!((first.created, first.late), (2, 0));
    assert_eq!(ids(&database), [1, 2], "entries without a time are created last");
    upstream.add(Demande::cnous(3).created(minute(-4)).never_validated());
    let later = cycle(&upstream, &database).any_stderr().output().success();
    assert_eq!((later.existing, later.late, later.created), (2, 1, 1));
    let since = ["--since", "2026-01-01"];
    upstream.add(Demande::cnous(4).created(minute(-3)).never_validated());
    let run = cycle(&upstream, &database).args(since);
    let outside = run
        .stderr("Validated before --since, and left to the next plain cycle: D4 (1 in all)")
        .output();
    let outside = outside.success();
    assert_eq!((outside.matched, outside.created), (1, 0));
}

#[test]
fn a_malformed_element_rejects_only_itself() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    upstream.add(validated(2, 20));
    upstream.add(validated(3, 30).public_id(None));
    upstream.add(validated(4, 40).public_id(Some(&"x".repeat(201))));
    upstream.add(validated(5, 50).data("echelon_bourse", "9"));
    upstream.add(validated(6, 60).without("code_insee_entity").without("entity_type"));
    upstream.add(validated(7, 70));
    upstream.with(|upstream| upstream.edit(7, |shown| shown["last_validated_at"] = "soon".into()));
    let mut value = serde_json::json!(42);
    upstream.with(|upstream| upstream.add_raw(99, minute(-50_000), value.take()));
    let summary = cycle(&upstream, &database).any_stderr().output().success();
    assert_eq!((summary.created, summary.rejected), (2, 6));
    assert_eq!(summary.watermark, Some(minute(30)), "the oldest rejected");
    for rejection in database.rejections() {
        assert!(rejection.reasons.iter().all(|it| it.contains(": ")), "{:?}", rejection.reasons);
    }
}

#[test]
fn each_http_status_has_its_exit_status_and_reason() {
    let database = Database::migrated();
    for (status, permanent, token_reason, page_reason) in [
        (301, true, "redirect", "redirect"),
        (400, true, "token_refused", "request_refused"),
        (401, false, "unauthorized", "unauthorized"),
        (403, true, "token_refused", "request_refused"),
        (404, true, "token_refused", "request_refused"),
        (408, false, "server_error", "server_error"),
        (422, true, "token_refused", "request_refused"),
        (425, false, "server_error", "server_error"),
        (429, false, "rate_limited", "rate_limited"),
        (500, false, "server_error", "server_error"),
        (503, false, "server_error", "server_error"),
    ] {
        for (on, reason) in [(On::tokens(1..), token_reason), (On::pages(1..), page_reason)] {
            let upstream = DataPass::start();
            upstream.add(validated(1, 10));
            upstream.fault(on, Fault::Status(status, &[]));
            let run = cycle(&upstream, &database).args(["--max-retries", "0"]).any_stderr();
            let outcome = run.output();
            if permanent {
                outcome.permanent(reason)
            } else {
                outcome.transient(reason)
            };
        }
    }
    assert_eq!(database.count("proactivite_requests"), 0);
}

#[test]
fn each_kind_of_unusable_body_has_its_reason() {
    let database = Database::migrated();
    let faults: Vec<(Fault, &str, i32)> = vec![
        (Fault::html(), "bad_body", 2),
        (Fault::json("{\"errors\":[]}"), "wrong_shape", 1),
        (Fault::json("[{\"id\":1,"), "bad_body", 2),
        (Fault::TruncateBody(100), "bad_body", 2),
        (Fault::CloseBeforeResponse, "connection", 2),
        (Fault::DecompressionBomb(512), "too_large", 1),
    ];
    for (fault, reason, code) in faults {
        let upstream = DataPass::start();
        upstream.add(validated(1, 10));
        upstream.fault(On::pages(1..), fault);
        let run = cycle(&upstream, &database).args(["--max-retries", "0"]).any_stderr();
        let outcome = run.output();
        outcome.assert_code(code);
        assert!(outcome.stdout.contains(&format!("reason={reason} ")), "{reason}: {outcome:?}");
    }
}

#[test]
fn retry_after_is_respected_and_one_beyond_the_deadline_ends_the_cycle_at_once() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    upstream.fault(On::page(1), Fault::Status(503, &[("Retry-After", "2")]));
    let run = || cycle(&upstream, &database);
    let outcome = run().stderr("(Retry-After: 2 s)").any_stderr().output();
    let summary = outcome.success();
    assert_eq!(summary.created, 1);
    assert!(summary.duration_ms >= 2000, "{summary:?}");

    for far in ["3600", "18446744073709551615", "99999999999999999999999"] {
        upstream.clear_rules();
        let too_many = Fault::edit(move |response| {
            response.status = 429;
            response.set_header("Retry-After", far);
        });
        upstream.fault(On::page(1), too_many);
        let outcome = run().spawn().wait_within(Duration::from_secs(5));
        outcome.transient("rate_limited");
        let note = "the deadline leaves no time for a retry";
        assert!(outcome.stderr.contains(note), "{}", outcome.stderr);
    }
}

#[test]
fn a_token_that_expires_during_the_listing_is_renewed_once() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for id in 1..=30 {
        upstream.add(validated(id, id));
    }
    upstream.before(On::page(2), |upstream| upstream.revoke_tokens());
    let run = || cycle(&upstream, &database).args(["--page-size", "10"]).any_stderr();
    assert_eq!(run().output().success().created, 30);
    assert_eq!(upstream.requests_of(Endpoint::Token).len(), 2);
    upstream.clear_rules();
    upstream.fault(On::pages(2..), Fault::Status(422, &[]));
    run().output().permanent("request_refused");
    upstream.clear_rules();
    upstream.fault(On::pages(2..), Fault::Status(401, &[]));
    run().output().transient("unauthorized");
}

#[test]
fn no_row_is_skipped_when_others_leave_between_two_pages() {
    for leaving in [1, 30, 90] {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        for id in 1..=250 {
            upstream.add(validated(id, id));
        }
        upstream.before(On::page(2), move |upstream| {
            (0..leaving).for_each(|nth| upstream.revoke(250 - nth));
        });
        let run = cycle(&upstream, &database).args(["--page-size", "100"]);
        let summary = run.any_stderr().output().success();
        let listed = ids(&database);
        assert!((1..=250 - leaving).all(|id| listed.contains(&id)), "{leaving} left");
        assert_eq!(summary.drift_rewinds > 0, leaving > 20, "{leaving} left");
    }
}

#[test]
fn every_page_size_and_server_limit_list_everything() {
    for (page_size, cap, concurrency) in
        [(1, 1000, 2), (2, 1000, 2), (3, 1000, 4), (5, 1000, 3), (100, 7, 4), (1000, 10, 2)]
    {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        for id in 1..=40 {
            upstream.add(validated(id, id));
        }
        upstream.with(|upstream| upstream.cap = cap);
        let run = cycle(&upstream, &database)
            .args(["--page-size", &page_size.to_string()])
            .args(["--concurrency", &concurrency.to_string()]);
        let summary = run.any_stderr().output().success();
        assert_eq!((summary.seen, summary.created), (40, 40), "{page_size}/{cap}");
    }
}

#[test]
fn an_empty_listing_without_access_to_the_definition_is_permanent() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    cycle(&upstream, &database).output().success();
    upstream.with(|upstream| upstream.definitions.clear());
    cycle(&upstream, &database).output().permanent("no_definition");
}

#[test]
fn another_definition_is_refused_until_the_watermark_is_reset() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    cycle(&upstream, &database).output().success();
    let other = || cycle(&upstream, &database).env("DATAPASS_DEFINITION_ID", "other");
    other().output().permanent("definition_changed");
    let reset = || Run::new(["watermark", "reset"]).database(&database);
    reset().any_stderr().output().assert_code(1);
    reset().arg("--yes").output().assert_code(0);
    assert_eq!(database.watermark(), None);
    assert_eq!(
        database.runs().last().map(|run| run["kind"].clone()),
        Some("watermark reset".into())
    );
    let set = ["watermark", "set", "2026-05-01", "--yes"];
    Run::new(set).database(&database).output().assert_code(0);
    assert_eq!(database.watermark(), Some(at("2026-05-01T00:00:00Z")));
}

#[test]
fn concurrent_cycles_create_one_row_and_one_job_per_entry() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_3_99);
    for id in 1..=50 {
        upstream.add(validated(id, id));
    }
    let gate = upstream.gate(On::pages(..));
    let running: Vec<Running> =
        (0..6).map(|_| Run::cycle(&upstream, &database).any_stderr().spawn()).collect();
    gate.reached_by(6);
    gate.open();
    let created: u64 = running.into_iter().map(|run| run.wait().success().created).sum();
    assert_eq!(created, 50);
    assert_eq!((database.count("proactivite_requests"), database.count("good_jobs")), (50, 50));
}

#[test]
fn a_signal_ends_a_cycle_within_two_seconds_and_writes_nothing() {
    for (signal, on, stage) in [
        ("TERM", On::token(1), "authenticate"),
        ("INT", On::page(1), "list"),
        ("HUP", On::page(1), "list"),
    ] {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        upstream.add(validated(1, 10));
        let gate = upstream.gate(on);
        let running = cycle(&upstream, &database).spawn();
        gate.reached();
        // `timeout` sends the signal to the process and to its group; a user may repeat Ctrl-C.
        for _ in 0..3 {
            running.signal(signal);
        }
        running.wait_after_signal().transient("interrupted");
        assert_eq!(database.count("proactivite_requests"), 0);
        assert_eq!(database.runs()[0]["stage"], stage);
        gate.open();
    }
}

#[test]
fn a_signal_ends_a_run_that_blocks_on_a_full_pipe() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let full = "mkfifo \"$0\" && exec 3<>\"$0\" && head -c 65536 /dev/zero >&3 && exec \"$@\" >&3";
    let running =
        cycle(&upstream, &database).through(["sh", "-c", full, pipe.to_str().unwrap()]).spawn();
    eventually("the run is recorded", || database.count("datapass_pull_runs") == 1);
    running.signal("TERM");
    assert_eq!(running.wait_after_signal().code(), 2);

    // Nor does the output of another command delay it.
    let pipe = folder.path().join("another");
    let running = Run::new(["completions", "bash"])
        .through(["sh", "-c", full, pipe.to_str().unwrap()])
        .any_stderr()
        .spawn();
    let process = format!("/proc/{}/status", running.pid());
    eventually("the program handles signals", || {
        let status = std::fs::read_to_string(&process).unwrap();
        let handled = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let handled = u64::from_str_radix(handled.trim(), 16).unwrap();
        status.starts_with("Name:\tdatapass-pull\n") && handled & (1 << 14) != 0
    });
    running.signal("TERM");
    assert_eq!(running.wait_after_signal().code(), 2);
}

#[test]
fn a_signal_while_the_settings_are_read_ends_the_cycle() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("env");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let running = cycle(&upstream, &database).arg("--env-file").arg(&pipe).spawn();
    // Opening blocks until the reader opens the pipe; the settings are complete when it is closed.
    let writer = std::fs::File::options().write(true).open(&pipe).unwrap();
    running.signal("TERM");
    running.signal("TERM");
    running.wait_after_signal().transient("interrupted");
    drop(writer);
}

#[test]
fn a_failed_reconnection_is_reported_with_its_stage() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let role = database.role(None);
    database.exec(&format!("alter role {role} superuser"));
    let gate = upstream.gate(On::page(1));
    let running =
        cycle(&upstream, &database).env("DATABASE_URL", database.url_as(&role, "")).spawn();
    gate.reached();
    database.exec(&format!("alter role {role} nologin"));
    database.terminate_others();
    gate.open();
    let outcome = running.wait();
    outcome.permanent("database_login");
    assert!(outcome.stderr.contains("stage=create"), "{}", outcome.stderr);
}

#[test]
fn the_deadline_ends_a_wait_for_a_response_and_for_a_lock() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    upstream.fault(On::page(1), Fault::NoResponse);
    let run = || cycle(&upstream, &database).args(["--timeout", "2s"]).any_stderr();
    let limit = Duration::from_secs(5);
    run().spawn().wait_within(limit).transient("deadline");
    upstream.clear_rules();
    let mut client = database.client();
    let mut holder = client.transaction().unwrap();
    holder.execute("select from datapass_pull_watermarks for update", &[]).unwrap();
    // `lock_timeout` ends at the same instant.
    run().spawn().wait_within(limit).assert_code(2);
    drop(holder);
    assert_eq!(database.count("proactivite_requests"), 0);
    assert_eq!(cycle(&upstream, &database).output().success().created, 1);
}

#[test]
fn concurrent_cycles_work_through_a_pooler_in_transaction_mode() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for id in 1..=20 {
        upstream.add(validated(id, id));
    }
    let pooler = PgBouncer::start(&database);
    let run = || cycle(&upstream, &database).env("DATABASE_URL", pooler.url()).any_stderr();
    // More cycles than the pooler has server connections: none is held during HTTP requests.
    let gate = upstream.gate(On::pages(..));
    let running: Vec<Running> = (0..6).map(|_| run().spawn()).collect();
    gate.reached_by(6);
    gate.open();
    let created: u64 = running.into_iter().map(|run| run.wait().success().created).sum();
    assert_eq!(created, 20);
    assert_eq!(run().output().success().created, 0);
}

#[test]
fn a_dry_run_writes_nothing_and_needs_no_privilege_to_write() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    upstream.add(validated(2, 20).siret("1"));
    let role = database.role(None);
    database.exec(&format!("grant select on all tables in schema public to {role}"));
    let run = || cycle(&upstream, &database).env("DATABASE_URL", database.url_as(&role, ""));
    run().any_stderr().output().permanent("database_refused");
    let summary = run().arg("--dry-run").any_stderr().output().success();
    assert_eq!((summary.created, summary.rejected, summary.dry_run), (1, 1, true));
    assert_eq!(summary.watermark, Some(minute(20)));
    assert_eq!(database.count("proactivite_requests"), 0);
    assert_eq!(database.count("datapass_pull_runs"), 0);
    assert_eq!(database.count("datapass_pull_rejections"), 0);
}

#[test]
fn the_error_about_missing_tables_names_the_migrate_command() {
    let (upstream, database) = (DataPass::start(), Database::empty());
    let outcome = cycle(&upstream, &database).any_stderr().output();
    outcome.permanent("tables_missing");
    assert!(outcome.stderr.contains("datapass-pull migrate"), "{}", outcome.stderr);
}

#[test]
fn check_and_status_report_before_and_after_a_cycle() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    let check = || Run::new(["check"]).upstream(&upstream).database(&database);
    let outcome = check().output();
    assert!(!outcome.assert_code(0).stdout.contains("FAIL"), "{}", outcome.stdout);
    cycle(&upstream, &database).output().success();
    upstream.with(|upstream| upstream.definitions.clear());
    let outcome = check().any_stderr().output();
    assert!(outcome.assert_code(2).stdout.contains("FAIL definition"), "{}", outcome.stdout);
    assert_eq!(database.count("datapass_pull_runs"), 1);

    let status = Run::new(["status"]).database(&database).output();
    let text = &status.assert_code(0).stdout;
    assert!(text.contains("2026-05-18T10:10:00.123Z"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let status = Run::new(["status", "--format", "json"]).database(&database).output();
    let json: serde_json::Value = serde_json::from_str(status.stdout.trim()).unwrap();
    assert_eq!(json["watermark"], "2026-05-18T10:10:00.123Z");
    assert_eq!(json["runs"][0]["outcome"], "success");
}

/// A backend that waits for a lock notices within a second that its client is gone.
#[test]
fn a_signal_during_a_lock_wait_rolls_back_at_once() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    let mut client = database.client();
    let mut holder = client.transaction().unwrap();
    holder.batch_execute("lock table proactivite_requests in access exclusive mode").unwrap();
    let running = cycle(&upstream, &database).any_stderr().spawn();
    let waits = "wait_event_type = 'Lock'";
    database.await_session(waits);
    running.signal("TERM");
    running.wait_after_signal().transient("interrupted");
    database.await_no_session(waits);
    drop(holder);
    assert_eq!(database.count("proactivite_requests"), 0);
}
