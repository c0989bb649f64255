//! Enqueueing of jobs: the row in `good_jobs`, refused job tables, and rows without a job.

use ::postgres::fallible_iterator::FallibleIterator;
use chrono::{NaiveDateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::docs::runbook::blocks;
use crate::harness::*;

const VERSIONS: [(&str, &str); 2] = [("3.99", GOOD_JOBS_3_99), ("4", GOOD_JOBS_4)];

/// Returns statements that let a role write to every table in the schema `public`.
fn grants(role: &str) -> String {
    format!(
        "grant select, insert, update, delete on all tables in schema public to {role};
         grant usage on all sequences in schema public to {role}"
    )
}

/// Removes ids and times from a job, after checking them: the ids are the same version 4 UUID, and
/// the times the same instant, now, in UTC.
fn without_variables(mut job: Value) -> Value {
    let id: uuid::Uuid = job["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 4, "{job}");
    assert_eq!(job["active_job_id"], job["id"]);
    assert_eq!(job["serialized_params"]["job_id"], job["id"]);
    let made = job["created_at"].as_str().unwrap();
    assert_eq!((&job["scheduled_at"], &job["updated_at"]), (&json!(made), &json!(made)));
    let time: NaiveDateTime = made.trim_end_matches("+00:00").parse().unwrap();
    let age = Utc::now().naive_utc() - time;
    assert!(age.num_seconds().abs() < 600, "times are UTC: {made}");
    let enqueued = job["serialized_params"]["enqueued_at"].as_str().unwrap();
    assert!(enqueued.ends_with('Z') && enqueued.len() == 27, "{enqueued}");
    assert_eq!(enqueued.trim_end_matches('Z').parse(), Ok(time));
    for name in ["id", "active_job_id", "created_at", "scheduled_at", "updated_at"] {
        job.as_object_mut().unwrap().remove(name);
    }
    let params = job["serialized_params"].as_object_mut().unwrap();
    params.remove("job_id");
    params.remove("enqueued_at");
    job
}

/// Returns what GoodJob itself writes for `perform_later(record)`, except ids, times and locale.
fn expected(version: &str, record: i64) -> Value {
    let discrete = version == "3.99";
    let mut job = json!({
        "job_class": "ProcessProactiviteRequestJob",
        "queue_name": "default",
        "priority": 0,
        "serialized_params": {
            "job_class": "ProcessProactiviteRequestJob",
            "provider_job_id": null,
            "queue_name": "default",
            "priority": null,
            "arguments": [{"_aj_globalid": format!("gid://relais/ProactiviteRequest/{record}")}],
            "executions": 0,
            "exception_executions": {},
            "locale": null,
            "timezone": null,
        },
        "is_discrete": discrete.then_some(true),
        "executions_count": discrete.then_some(0),
    });
    for untouched in [
        "performed_at",
        "finished_at",
        "error",
        "concurrency_key",
        "cron_key",
        "cron_at",
        "retried_good_job_id",
        "batch_id",
        "batch_callback_id",
        "error_event",
        "labels",
        "locked_by_id",
        "locked_at",
    ] {
        job[untouched] = Value::Null;
    }
    if version == "4" {
        job["lock_type"] = Value::Null;
    }
    job
}

/// Returns the row that a cycle would write, as `check` shows it.
fn job_of_check(upstream: &DataPass, database: &Database) -> Value {
    let run = Run::new(["check", "-v"]).upstream(upstream);
    let outcome = run.database(database).any_stderr().output();
    let text = &outcome.assert_success().stdout;
    let line = text.lines().find(|line| line.starts_with("ok   job: "));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()
}

#[test]
fn a_job_row_equals_the_row_of_good_job_and_wakes_a_worker() {
    for (version, table) in VERSIONS {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        database.exec(table);
        database.exec(&format!("alter database {} set timezone = 'Europe/Paris'", database.name()));
        let mut worker = database.client();
        worker.batch_execute("listen good_job").unwrap();
        upstream.add(validated(1, 1));
        upstream.add(validated(2, 2));
        let shown = job_of_check(&upstream, &database);
        assert_eq!(database.count("good_jobs"), 0, "check writes nothing");

        let summary = Run::cycle(&upstream, &database).output().success();
        assert_eq!((summary.created, summary.enqueued), (2, 2));
        let mut jobs: Vec<Value> = database.jobs().into_iter().map(without_variables).collect();
        jobs.sort_by_key(|job| job["serialized_params"]["arguments"].to_string());
        assert_eq!(jobs, [expected(version, 1), expected(version, 2)], "{version}");

        // `check` shows the columns that are written; the others stay null.
        let mut shown = without_variables(shown);
        let written = expected(version, 1);
        for (name, value) in written.as_object().unwrap() {
            if value.is_null() {
                shown[name] = Value::Null;
            }
        }
        assert_eq!(shown, written, "{version}");

        let mut notifications = worker.notifications();
        let waited = TimeDelta::seconds(10).to_std().unwrap();
        let notice = notifications.timeout_iter(waited).next().unwrap().unwrap();
        let payload: Value = serde_json::from_str(notice.payload()).unwrap();
        assert_eq!(payload, json!({"queue_name": "default"}));
        assert_eq!(database.runs()[0]["enqueue"], "good_job");
    }
}

/// Workers take jobs of the same priority and time in the order of an index, which may use the id.
#[test]
fn jobs_have_the_order_of_their_rows() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    for nth in 1..=20 {
        upstream.add(validated(nth, 21 - nth));
    }
    let summary = Run::cycle(&upstream, &database).output().success();
    assert_eq!(summary.enqueued, 20);
    let argument = "serialized_params #>> '{arguments,0,_aj_globalid}'";
    let expected: Vec<String> =
        (1..=20).map(|record| format!("gid://relais/ProactiviteRequest/{record}")).collect();
    for order in ["id", "ctid"] {
        let rows = database
            .client()
            .query(&format!("select {argument} from good_jobs order by {order}"), &[])
            .unwrap();
        let jobs: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(jobs, expected, "by {order}");
    }
}

#[test]
fn class_queue_application_priority_and_argument_are_settings() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    let mut worker = database.client();
    worker.batch_execute("listen good_job").unwrap();
    for (argument, priority, expected) in [
        ("record", "", json!([{"_aj_globalid": "gid://other/ProactiviteRequest/1"}])),
        ("id", "-7", json!([2])),
    ] {
        let nth = if argument == "id" { 2 } else { 1 };
        upstream.add(validated(nth, nth));
        let run = Run::cycle(&upstream, &database)
            .env("DATAPASS_JOB_CLASS", "Other::Job")
            .env("DATAPASS_JOB_QUEUE", "slow \"queue\"")
            .env("DATAPASS_JOB_APP", "other")
            .env("DATAPASS_JOB_PRIORITY", priority)
            .env("DATAPASS_JOB_ARGUMENT", argument);
        assert_eq!(run.output().success().enqueued, 1);
        let jobs = database.jobs();
        let job = jobs.last().unwrap();
        let params = &job["serialized_params"];
        assert_eq!(params["arguments"], expected);
        // The same as for a job class without and with `queue_with_priority`
        let priorities = (&job["priority"], &params["priority"]);
        match priority {
            "" => assert_eq!(priorities, (&json!(0), &Value::Null)),
            _ => assert_eq!(priorities, (&json!(-7), &json!(-7))),
        }
        for class in [&job["job_class"], &params["job_class"]] {
            assert_eq!(class, "Other::Job");
        }
        for queue in [&job["queue_name"], &params["queue_name"]] {
            assert_eq!(queue, "slow \"queue\"");
        }
        let mut notifications = worker.notifications();
        let waited = TimeDelta::seconds(10).to_std().unwrap();
        let notice = notifications.timeout_iter(waited).next().unwrap().unwrap();
        let payload: Value = serde_json::from_str(notice.payload()).unwrap();
        assert_eq!(payload["queue_name"], "slow \"queue\"");
    }
}

#[test]
fn a_job_table_in_another_schema_with_timestamptz_columns_is_supported() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(&format!("create schema jobs; set search_path = jobs; {GOOD_JOBS_4}"));
    for column in ["scheduled_at", "created_at", "updated_at"] {
        database.exec(&format!("alter table jobs.good_jobs alter {column} type timestamptz"));
    }
    upstream.add(validated(1, 1));
    // Outside of the search path it is not found.
    let dry = Run::cycle(&upstream, &database).arg("--dry-run");
    let dry = dry.stderr("Would create D1").output();
    assert_eq!(dry.success().enqueued, 0);
    let run = Run::cycle(&upstream, &database)
        .env("DATABASE_URL", with_search_path(&database.url(), "public,jobs"));
    assert_eq!(run.output().success().enqueued, 1);
    let mut client = database.client();
    client.batch_execute("set timezone = 'UTC'").unwrap();
    let row = client.query_one("select to_jsonb(t) from jobs.good_jobs t", &[]);
    assert_eq!(without_variables(row.unwrap().get(0)), expected("4", 1));
}

#[test]
fn an_unusable_job_table_is_refused_before_anything_is_written() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    let role = database.role(None);
    database.exec(&grants(&role));
    let shapes = [
        ("", "requires it"),
        ("create table good_jobs (id uuid)", "it lacks active_job_id"),
        ("create sequence good_jobs", "unknown shape"),
        (&format!("{GOOD_JOBS_4}; alter table good_jobs add tenant text not null"), "requires tenant"),
        (&format!("{GOOD_JOBS_4}; alter table good_jobs rename to jobs;
                   create view good_jobs as select distinct * from jobs"), "accepts no inserts"),
        (&format!("{GOOD_JOBS_4}; alter table good_jobs rename to jobs;
                   create materialized view good_jobs as select * from jobs"), "accepts no inserts"),
        (GOOD_JOBS_4, "GRANT INSERT ON good_jobs"),
        (&format!("{GOOD_JOBS_3_99};
                   grant insert (id, active_job_id, job_class, queue_name, priority, serialized_params,
                       scheduled_at, created_at, updated_at, executions_count) on good_jobs to {role}"),
         "GRANT INSERT ON good_jobs"),
    ];
    for (table, problem) in shapes {
        database.exec(&format!(
            "create schema jobs; set search_path = jobs; {table}; reset search_path;
                                grant usage on schema jobs to {role}"
        ));
        let url = with_search_path(&database.url_as(&role, ""), "public,jobs");
        let before = database.snapshot();
        let modes = if table.is_empty() { &["good_job"][..] } else { &["good_job", "auto"] };
        for mode in modes {
            let set = |run: Run| run.env("DATABASE_URL", &url).env("DATAPASS_ENQUEUE", mode);
            let outcome = set(Run::cycle(&upstream, &database)).output();
            outcome.permanent("enqueue_refused");
            assert!(outcome.stderr.contains(problem), "{}", outcome.stderr);
            assert_eq!(database.snapshot(), before, "{table}");
            let run = database.runs().pop().unwrap();
            assert_eq!(run["reason"], "enqueue_refused");
            let check = set(Run::new(["check"]).upstream(&upstream)).any_stderr().output();
            assert!(check.assert_code(1).stdout.contains("FAIL jobs: "), "{}", check.stdout);
        }
        let dry = Run::cycle(&upstream, &database).args(["--enqueue", "none", "--dry-run"]);
        let dry = dry.env("DATABASE_URL", &url).stderr("Would create D1");
        let dry = dry.output().success();
        assert_eq!((dry.created, dry.enqueued), (1, 0));
        database.exec("drop schema jobs cascade");
    }
}

#[test]
fn a_job_table_that_refuses_a_job_rolls_back_its_row() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    upstream.add(validated(2, 2));
    let role = database.role(None);
    database.exec(GOOD_JOBS_3_99);
    database.exec(&grants(&role));
    let before = database.snapshot();
    for (refusal, reason, consent) in [
        (
            "alter table good_jobs add constraint no check (queue_name <> 'default')",
            "database_refused",
            "alter table good_jobs drop constraint no",
        ),
        ("create unique index no on good_jobs (queue_name)", "database_refused", "drop index no"),
        (
            "alter table good_jobs enable row level security",
            "database_refused",
            "alter table good_jobs disable row level security",
        ),
        // The insert does not even fail.
        (
            "create rule no as on insert to good_jobs do instead nothing",
            "enqueue_refused",
            "drop rule no on good_jobs",
        ),
        (
            "create function no() returns trigger language plpgsql as 'begin return null; end';
             create trigger no before insert on good_jobs for each row execute function no()",
            "enqueue_refused",
            "drop function no cascade",
        ),
    ] {
        database.exec(refusal);
        let run = Run::cycle(&upstream, &database).env("DATABASE_URL", database.url_as(&role, ""));
        run.output().permanent(reason);
        assert_eq!(database.snapshot(), before, "{refusal}");
        database.exec(consent);
    }
    // The privilege to insert into the written columns is enough.
    database.exec(&format!(
        "revoke all on good_jobs from {role};
         grant insert (id, active_job_id, job_class, queue_name, priority, serialized_params,
             scheduled_at, created_at, updated_at, is_discrete, executions_count) on good_jobs to {role}"
    ));
    let run = Run::cycle(&upstream, &database).env("DATABASE_URL", database.url_as(&role, ""));
    assert_eq!(run.output().success().enqueued, 2);
    assert_eq!(database.count("good_jobs"), 2);
}

#[test]
fn without_a_job_table_rows_stay_pending_and_each_cycle_that_creates_some_warns() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run = |mode| Run::cycle(&upstream, &database).args(["--enqueue", mode]);
    for nth in [1, 2] {
        upstream.add(validated(nth, nth));
        let warned = run("auto").stderr("no table good_jobs: 1 rows").output().success();
        assert_eq!((warned.created, warned.enqueued), (1, 0));
    }
    assert_eq!(run("auto").output().success().created, 0);
    upstream.add(validated(3, 3));
    assert_eq!(run("none").output().success().created, 1);
    for row in database.requests() {
        assert_eq!(row.status, "pending");
    }
    for run in database.runs() {
        assert_eq!(run["enqueue"], "none");
    }
    let log = run("auto").arg("-v").any_stderr().output();
    log.success();
    assert!(log.stderr.contains("there is no good_jobs"), "{}", log.stderr);

    // A cycle that is rolled back created nothing.
    upstream.add(validated(4, 4));
    database.exec(
        "create function ignore() returns trigger language plpgsql as 'begin return null; end';
         create trigger ignore before insert on datapass_pull_handled
             for each row execute function ignore()",
    );
    let failed = run("auto").any_stderr().output();
    failed.permanent("not_written");
    assert!(!failed.stderr.contains("without a job"), "{}", failed.stderr);
}

#[test]
fn the_documented_statement_enqueues_pending_rows_once() {
    for (version, table) in VERSIONS {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        for nth in 1..=3 {
            upstream.add(validated(nth, nth));
        }
        let run = |mode| Run::cycle(&upstream, &database).args(["--enqueue", mode]);
        run("none").output().success();
        // One row is processed, and another one has its job from the cycle.
        database.exec("update proactivite_requests set status = 'done' where id = 2");
        database.exec(table);
        upstream.add(validated(4, 4));
        assert_eq!(run("auto").output().success().enqueued, 1);

        let mut worker = database.client();
        worker.batch_execute("listen good_job").unwrap();
        let statement = blocks("Rows without a job").remove(0);
        let mut client = database.client();
        client.batch_execute("set timezone = 'Europe/Paris'").unwrap();
        client.batch_execute(&statement).unwrap();
        let mut jobs: Vec<Value> = database.jobs().into_iter().map(without_variables).collect();
        jobs.sort_by_key(|job| job["serialized_params"]["arguments"].to_string());
        let expected: Vec<Value> = [1, 3, 4].map(|record| expected(version, record)).into();
        assert_eq!(jobs, expected, "{version}");
        let waited = TimeDelta::seconds(10).to_std().unwrap();
        let mut notifications = worker.notifications();
        let notice = notifications.timeout_iter(waited).next().unwrap().unwrap();
        let payload: Value = serde_json::from_str(notice.payload()).unwrap();
        assert_eq!(payload, json!({"queue_name": "default"}));
        client.batch_execute(&statement).unwrap();
        assert_eq!(database.count("good_jobs"), 3, "{version}");
    }
}
