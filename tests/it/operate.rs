//! The operator's guide of the README: its commands, run as they stand there.

use std::path::Path;
use std::process::Command;

use chrono::TimeDelta;
use serde_json::json;

use crate::harness::*;

const README: &str = include_str!("../../README.md");

/// Returns the first block of a language in a section of the README.
fn block(section: &str, language: &str) -> String {
    let section = README.split(&format!("### {section}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let section = section.split("\n### ").next().unwrap();
    let block = section.split(&format!("```{language}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// Returns the arguments of the command that stands behind a word of the README.
fn command_of(word: &str) -> Vec<&'static str> {
    let behind = README.split(&format!("**{word}**")).nth(1).unwrap();
    let command = behind.split("`datapass-pull ").nth(1).unwrap();
    command.split('`').next().unwrap().split(' ').collect()
}

/// Runs a console block as a person would type it, and returns what it printed.
fn typed(block: &str, run: &[(&str, &str)]) -> String {
    let script: String = block
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("$ ").expect(line)))
        .collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_datapass-pull"));
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("bash")
        .args(["-euc", &script])
        .env_clear()
        .env("PATH", path)
        .envs(run.iter().copied())
        .output()
        .unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(output.status.success(), "{script}\n{stdout}\n{stderr}");
    stdout
}

fn upstream_env(upstream: &DataPass) -> [(&'static str, String); 4] {
    let (id, secret) = upstream.credentials();
    [
        ("DATAPASS_AUTH_URL", upstream.auth_url()),
        ("DATAPASS_API_BASE_URL", upstream.api_base_url()),
        ("DATAPASS_CLIENT_ID", id),
        ("DATAPASS_CLIENT_SECRET", secret),
    ]
}

fn run(upstream: &DataPass, database: &Database, args: &[&str]) -> Outcome {
    let run = Run::cycle(upstream, database).args(args.to_vec());
    run.any_stderr().output()
}

fn cycle(upstream: &DataPass, database: &Database, args: &[&str]) -> Summary {
    run(upstream, database, args).success()
}

#[test]
fn skipping_the_backlog_a_backfill_and_starting_over() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    for (id, day) in [(1, "2026-04-20"), (2, "2026-05-02"), (3, "2026-05-18")] {
        let time = at(&format!("{day}T10:00:00Z"));
        upstream.add(Demande::cnous(id).validated(time));
    }
    run(&upstream, &database, &command_of("Skip the backlog")).assert_success();
    let skipped = cycle(&upstream, &database, &[]);
    assert_eq!(
        (skipped.created, skipped.enqueued, skipped.skipped),
        (2, 2, 1)
    );
    assert_eq!(skipped.watermark, Some(at("2026-05-18T10:00:00Z")));

    database.exec("delete from proactivite_requests where datapass_demande_id = 2");
    let plain = cycle(&upstream, &database, &[]);
    assert_eq!((plain.created, plain.existing, plain.deleted), (0, 2, 1));
    let backfill = cycle(&upstream, &database, &command_of("Backfill"));
    assert_eq!((backfill.created, backfill.enqueued), (1, 1));
    assert_eq!((backfill.existing, backfill.deleted), (1, 0));
    assert_eq!(backfill.watermark, skipped.watermark);

    let old = at("2026-03-01T10:00:00Z");
    upstream.add(Demande::cnous(4).created(old).never_validated());
    assert_eq!(cycle(&upstream, &database, &[]).skipped, 2);
    run(&upstream, &database, &command_of("Start over")).assert_success();
    let over = cycle(&upstream, &database, &[]);
    assert_eq!((over.created, over.enqueued, over.existing), (2, 2, 2));
    assert_eq!((over.skipped, over.late), (0, 0));
    assert_eq!(over.watermark, skipped.watermark);
}

#[test]
fn a_second_definition_has_a_schema_of_its_own() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    let validated = |id| Demande::cnous(id).validated(at("2026-05-18T10:00:00Z"));
    upstream.add(validated(1));
    upstream.add(validated(2).definition("other_definition"));
    upstream.with(|upstream| {
        let definition = "other_definition".to_owned();
        upstream.definitions.insert(definition.clone(), definition)
    });
    assert_eq!(cycle(&upstream, &database, &[]).enqueued, 1);
    let first = database.snapshot();

    let (host, port) = database.host_and_port();
    let port = port.to_string();
    let mut env: Vec<(&str, &str)> = vec![
        ("PGHOST", &host),
        ("PGPORT", &port),
        ("PGUSER", "postgres"),
        ("PGDATABASE", database.name()),
    ];
    let upstream_env = upstream_env(&upstream);
    env.extend(upstream_env.iter().map(|(name, value)| (*name, &**value)));
    let block_of = |language| block("A second definition", language);
    let documented = block_of("console").replace("postgres://pull@db/relais", &database.url());
    let told = typed(&format!("{documented}$ datapass-pull"), &env);
    let summary = Summary::from_text(told.lines().last().unwrap()).unwrap();
    assert_eq!((summary.created, summary.enqueued), (1, 0));
    assert!(told.contains("ok   tables: in schema other: "), "{told}");
    assert_eq!(
        database.snapshot(),
        first,
        "the first definition is left alone"
    );
    let rows = database.json_rows("other.proactivite_requests", "id");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["datapass_demande_id"], 2);

    // The same GoodJob, by a view and a class of its own.
    database.exec(&block_of("sql"));
    upstream.add(validated(3).definition("other_definition"));
    let url = with_search_path(&database.url(), "other");
    let other = || {
        Run::cycle(&upstream, &database)
            .env("DATABASE_URL", &url)
            .env("DATAPASS_DEFINITION_ID", "other_definition")
            .env("DATAPASS_JOB_CLASS", "OtherJob")
            .env("DATAPASS_JOB_ARGUMENT", "id")
            .output()
            .success()
    };
    assert_eq!(other().enqueued, 1);
    assert_eq!(other().created, 0);
    assert_eq!(cycle(&upstream, &database, &[]).created, 0);
    assert_eq!(database.count("proactivite_requests"), 1);
    let jobs = database.jobs().into_iter().map(|job| {
        let params = &job["serialized_params"];
        (job["job_class"].clone(), params["arguments"].clone())
    });
    let record = json!([{"_aj_globalid": "gid://relais/ProactiviteRequest/1"}]);
    assert_eq!(
        jobs.collect::<Vec<_>>(),
        [
            (json!("ProcessProactiviteRequestJob"), record),
            (json!("OtherJob"), json!([2]))
        ]
    );
}

#[test]
fn after_a_restore_nothing_is_lost_and_no_job_runs_twice() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    let minute = |id: i64| at("2026-05-18T10:00:00Z") + TimeDelta::minutes(id);
    let validated = |id: i64| Demande::cnous(id).validated(minute(id));
    upstream.add(validated(1));
    assert_eq!(cycle(&upstream, &database, &[]).enqueued, 1);
    let restored = database.copy();
    upstream.add(validated(2));
    upstream.add(validated(3));
    assert_eq!(cycle(&upstream, &database, &[]).enqueued, 2);

    // The jobs of 1 and 2 have run, that of 3 has not.
    let upstream_env = upstream_env(&upstream);
    let url = restored.url();
    let mut env: Vec<(&str, &str)> = vec![("DATABASE_URL", &url)];
    env.extend(upstream_env.iter().map(|(name, value)| (*name, &**value)));
    let told = typed(&block("Restoring the database", "console"), &env);
    let summaries: Vec<Summary> = told
        .lines()
        .map(|it| Summary::from_text(it).unwrap())
        .collect();
    let [would, done] = &summaries[..] else {
        panic!("{told}")
    };
    assert_eq!((would.created, would.enqueued, would.dry_run), (2, 2, true));
    assert_eq!((done.created, done.enqueued, done.dry_run), (2, 0, false));
    restored.exec(
        "update proactivite_requests set status = 'processed' where datapass_demande_id in (1, 2);
         delete from good_jobs;",
    );
    restored.exec(&block("Rows without a job", "sql"));
    let third = &restored.requests()[2];
    assert_eq!(third.datapass_demande_id, Some(3));
    let jobs = restored.jobs();
    assert_eq!(jobs.len(), 1);
    assert_eq!(
        jobs[0]["serialized_params"]["arguments"][0]["_aj_globalid"],
        format!("gid://relais/ProactiviteRequest/{}", third.id)
    );
    let next = cycle(&upstream, &restored, &[]);
    assert_eq!((next.created, next.existing, next.deleted), (0, 3, 0));
}

#[test]
fn after_a_restore_of_the_rows_alone_since_creates_them_again() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    for (id, day) in [(1, "2026-05-01"), (2, "2026-05-03"), (3, "2026-05-05")] {
        let time = at(&format!("{day}T10:00:00Z"));
        upstream.add(Demande::cnous(id).validated(time));
    }
    assert_eq!(cycle(&upstream, &database, &[]).enqueued, 3);
    // As a backup of the 2nd had it.
    database.exec(
        "delete from proactivite_requests where datapass_demande_id > 1;
         select setval('proactivite_requests_id_seq', 1);
         delete from good_jobs where not exists (
             select from proactivite_requests r where r.id::text
                 = split_part(serialized_params->'arguments'->0->>'_aj_globalid', '/', 5))",
    );
    let plain = cycle(&upstream, &database, &[]);
    assert_eq!(
        (plain.created, plain.deleted),
        (0, 2),
        "deleted on purpose, or lost?"
    );
    let summary = cycle(&upstream, &database, &["--since", "2026-05-02"]);
    assert_eq!(
        (summary.created, summary.enqueued, summary.deleted),
        (2, 2, 0)
    );
    assert_eq!(database.count("good_jobs"), 3);
}
