//! Several schemas: the tables that a search path selects, and how `check` and `status` name them.

use crate::harness::*;

fn good_jobs_in(schema: &str) -> String {
    format!("create schema {schema}; set search_path = {schema}; {GOOD_JOBS_4}")
}

#[test]
fn a_job_table_in_a_schema_without_usage_privilege_is_an_error() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    let role = database.role(None);
    database.exec(&format!(
        "grant select, insert, update, delete on all tables in schema public to {role};
         grant usage on all sequences in schema public to {role}"
    ));
    let own = format!(r#"public,"$user",{role}"#);
    for (schema, path) in [
        ("jobs", "public,jobs"),
        ("jobs", "public,JOBS"),
        ("jobs", r#"public,"jobs""#),
        (r#""Jobs""#, r#"public,"Jobs""#),
        (r#""a"",b""#, r#""a"",b",public"#),
        (&role, &own),
        (&role, "public,$user"),
    ] {
        database.exec(&good_jobs_in(schema));
        database.exec(&format!("grant all on all tables in schema {schema} to {role}"));
        let cycle = |enqueue| {
            let url = with_search_path(&database.url_as(&role, ""), path);
            let run = Run::cycle(&upstream, &database).env("DATABASE_URL", url);
            run.args(["--dry-run", "--enqueue", enqueue])
        };
        let created = |enqueue| cycle(enqueue).stderr("Would create D1").output().success();
        for enqueue in ["auto", "good_job"] {
            let refused = cycle(enqueue).output();
            refused.permanent("enqueue_refused");
            let remedy = format!("GRANT USAGE ON SCHEMA {schema},");
            assert!(refused.stderr.contains(&remedy), "{path}: {}", refused.stderr);
        }
        assert_eq!(created("none").enqueued, 0, "{path}");
        database.exec(&format!("grant usage on schema {schema} to {role}"));
        assert_eq!(created("auto").enqueued, 1, "{path}");
        database.exec(&format!("drop schema {schema} cascade"));
    }
    // Names that are not on the path.
    database.exec(&good_jobs_in("jobs"));
    for path in [r#"public,"JOBS""#, "public,job", "public"] {
        let url = with_search_path(&database.url_as(&role, ""), path);
        let run = Run::cycle(&upstream, &database).env("DATABASE_URL", url);
        let run = run.arg("--dry-run").stderr("Would create D1");
        let summary = run.output().success();
        assert_eq!((summary.created, summary.enqueued), (1, 0), "{path}");
    }
}

#[test]
fn a_job_table_in_the_schema_of_another_request_table_is_refused() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    database.exec(GOOD_JOBS_4);
    database.exec("create schema other");
    let both = with_search_path(&database.url(), "other,public");
    let with_both = |run: Run| run.env("DATABASE_URL", &both);
    with_both(Run::new(["migrate"])).output().assert_success();
    let before = database.snapshot();
    for enqueue in ["auto", "good_job"] {
        let run = with_both(Run::cycle(&upstream, &database)).args(["--enqueue", enqueue]);
        let refused = run.output();
        refused.permanent("enqueue_refused");
        assert!(
            refused.stderr.contains(
                "public.good_jobs stands beside public.proactivite_requests, which is not the table"
            ),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(database.snapshot(), before);
    assert_eq!(database.count("other.proactivite_requests"), 0);

    // A view of our table beside the job table is not another table.
    database.exec(
        "alter table public.proactivite_requests rename to old;
         create view public.proactivite_requests as select * from other.proactivite_requests",
    );
    let viewed = with_both(Run::cycle(&upstream, &database)).arg("--dry-run");
    let viewed = viewed.stderr("Would create D1").output();
    assert_eq!(viewed.success().enqueued, 1);
    database.exec(
        "drop view public.proactivite_requests;
         alter table public.old rename to proactivite_requests",
    );

    // A job table in the schema of our table is used, even if it is a view of a shared one.
    database.exec("create view other.good_jobs as select * from public.good_jobs");
    let own = with_both(Run::cycle(&upstream, &database)).env("DATAPASS_JOB_CLASS", "OtherJob");
    assert_eq!(own.output().success().enqueued, 1);
    assert_eq!(database.count("other.proactivite_requests"), 1);
    assert_eq!(database.jobs()[0]["job_class"], "OtherJob");
}

#[test]
fn check_and_status_name_the_selected_tables() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec("create schema \"Other\"");
    database.exec(&good_jobs_in("jobs"));
    let reports = |path: &str| {
        let url = with_search_path(&database.url(), path);
        let run = |run: Run| run.env("DATABASE_URL", &url).output();
        let check = run(Run::new(["check"]).upstream(&upstream));
        let status = run(Run::new(["status"]));
        let json = run(Run::new(["status", "--format", "json"]));
        let json = serde_json::from_str(&json.assert_success().stdout).unwrap();
        let [check, status] = [check, status].map(|it| it.assert_success().stdout.clone());
        (check, status, json)
    };
    let (check, status, json): (_, _, serde_json::Value) = reports("public,jobs");
    assert!(check.contains("ok   tables: in schema public: "), "{check}");
    assert!(check.contains("ok   jobs: jobs.good_jobs, as"), "{check}");
    assert!(status.contains("rows go to    public.proactivite_requests\n"), "{status}");
    assert!(status.contains("jobs go to    jobs.good_jobs, as"), "{status}");
    assert_eq!(json["table"], "public.proactivite_requests");
    // A table of another schema hides one of ours.
    database.exec(r#"alter table datapass_pull_runs set schema "Other""#);
    let (check, ..) = reports(r#""Other",public,jobs"#);
    for table in ["public.proactivite_requests, ", r#""Other".datapass_pull_runs"#] {
        assert!(check.contains(table), "{check}");
    }
    database.exec("drop schema public cascade");
    let url = with_search_path(&database.url(), "public");
    Run::new(["status"]).env("DATABASE_URL", url).output().assert_code(1);
}

#[test]
fn check_and_status_escape_control_characters_in_names() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let schema = "\"a\u{1b}[2Jb\u{202e}\"";
    database.exec(&format!("alter schema public rename to {schema}"));
    let url = with_search_path(&database.url(), schema);
    for (command, line) in [("check", "\nok   tables: in schema "), ("status", "\nrows go to")] {
        let run = Run::new([command]).upstream(&upstream);
        let outcome = run.env("DATABASE_URL", &url).output();
        let text = &outcome.assert_success().stdout;
        assert!(text.contains(line) && text.contains("\\u{1b}[2Jb\\u{202e}"), "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
    let run = Run::new(["status", "--format", "json"]).env("DATABASE_URL", &url);
    let outcome = run.output();
    let text = &outcome.assert_success().stdout;
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(json["table"], format!("{schema}.proactivite_requests"));
}
