//! The runbook in the manual: its commands and statements, run as documented.

use std::path::Path;
use std::process::Command;

use chrono::TimeDelta;
use serde_json::json;

use crate::docs::runbook::{blocks, section};
use crate::harness::*;

/// Returns the arguments of the last command of a section's first block.
fn command_of(title: &str) -> Vec<&'static str> {
    let block = section(title).split(".Ed\n").next().unwrap();
    let command = block.rsplit("$ datapass-pull ").next().unwrap();
    command.trim_end().split(' ').collect()
}

/// Runs a block of commands in a shell, and returns what they printed.
fn run_commands(block: &str, run: &[(&str, &str)]) -> String {
    let script: String =
        block.lines().map(|line| format!("{}\n", line.strip_prefix("$ ").expect(line))).collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_datapass-pull"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
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
fn the_backlog_is_skipped_replayed_and_created_as_documented() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    for (id, day) in [(1, "2026-04-20"), (2, "2026-05-02"), (3, "2026-05-18")] {
        let time = at(&format!("{day}T10:00:00Z"));
        upstream.add(Demande::cnous(id).validated(time));
    }
    run(&upstream, &database, &command_of("Skip the backlog")).assert_success();
    let skipped = cycle(&upstream, &database, &[]);
    assert_eq!((skipped.created, skipped.enqueued, skipped.skipped), (2, 2, 1));
    assert_eq!(skipped.watermark, Some(at("2026-05-18T10:00:00Z")));

    database.exec("delete from proactivite_requests where datapass_demande_id = 2");
    let plain = cycle(&upstream, &database, &[]);
    assert_eq!((plain.created, plain.existing, plain.deleted), (0, 2, 1));
    let backfill = cycle(&upstream, &database, &command_of("Replay"));
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
fn a_second_definition_uses_its_own_schema_as_documented() {
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
    let [commands, view] = &blocks("A second definition")[..] else {
        panic!("two blocks are documented")
    };
    let documented = commands.replace("postgres://pull@db/relais", &database.url());
    let printed = run_commands(&format!("{documented}$ datapass-pull"), &env);
    let summary = Summary::from_text(printed.lines().last().unwrap()).unwrap();
    assert_eq!((summary.created, summary.enqueued), (1, 0));
    assert!(printed.contains("ok   tables: in schema other: "), "{printed}");
    assert_eq!(database.snapshot(), first, "the first definition is unchanged");
    let rows = database.json_rows("other.proactivite_requests", "id");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["datapass_demande_id"], 2);

    // The same GoodJob, through a view and with its own job class.
    database.exec(view);
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
        [(json!("ProcessProactiviteRequestJob"), record), (json!("OtherJob"), json!([2]))]
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

    // The jobs of 1 and 2 have run, the job of 3 has not.
    let upstream_env = upstream_env(&upstream);
    let url = restored.url();
    let mut env: Vec<(&str, &str)> = vec![("DATABASE_URL", &url)];
    env.extend(upstream_env.iter().map(|(name, value)| (*name, &**value)));
    let printed = run_commands(&blocks("Restoring a backup")[0], &env);
    let summaries: Vec<Summary> =
        printed.lines().map(|it| Summary::from_text(it).unwrap()).collect();
    let [would, done] = &summaries[..] else { panic!("{printed}") };
    assert_eq!((would.created, would.enqueued, would.dry_run), (2, 2, true));
    assert_eq!((done.created, done.enqueued, done.dry_run), (2, 0, false));
    restored.exec(
        "update proactivite_requests set status = 'processed' where datapass_demande_id in (1, 2);
         delete from good_jobs;",
    );
    restored.exec(&blocks("Rows without a job")[0]);
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
fn after_a_restore_of_the_rows_only_since_creates_lost_rows_again() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    for (id, day) in [(1, "2026-05-01"), (2, "2026-05-03"), (3, "2026-05-05")] {
        let time = at(&format!("{day}T10:00:00Z"));
        upstream.add(Demande::cnous(id).validated(time));
    }
    assert_eq!(cycle(&upstream, &database, &[]).enqueued, 3);
    // The rows of a backup of 2 May
    database.exec(
        "delete from proactivite_requests where datapass_demande_id > 1;
         select setval('proactivite_requests_id_seq', 1);
         delete from good_jobs where not exists (
             select from proactivite_requests r where r.id::text
                 = split_part(serialized_params->'arguments'->0->>'_aj_globalid', '/', 5))",
    );
    let plain = cycle(&upstream, &database, &[]);
    assert_eq!((plain.created, plain.deleted), (0, 2), "a plain cycle takes them for deleted");
    let summary = cycle(&upstream, &database, &["--since", "2026-05-02"]);
    assert_eq!((summary.created, summary.enqueued, summary.deleted), (2, 2, 0));
    assert_eq!(database.count("good_jobs"), 3);
}

#[test]
fn one_entry_is_created_again_without_its_handled_entry() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    upstream.add(Demande::cnous(1).validated(at("2026-05-02T10:00:00Z")));
    assert_eq!(cycle(&upstream, &database, &[]).enqueued, 1);
    let public_id = &database.requests()[0].datapass_authorization_id;
    let statement = blocks("Replay")[1].replace("PUBLIC-ID", public_id);
    database.exec("delete from proactivite_requests");
    database.exec(&statement);
    let again = cycle(&upstream, &database, &[]);
    assert_eq!((again.created, again.enqueued, again.late), (1, 1, 0));

    database.exec("delete from proactivite_requests");
    database.exec(&statement);
    let set = ["watermark", "set", "2026-05-10", "--yes"];
    run(&upstream, &database, &set).assert_success();
    let skipped = cycle(&upstream, &database, &[]);
    assert_eq!((skipped.created, skipped.skipped), (0, 1));
    assert_eq!(cycle(&upstream, &database, &command_of("Replay")).created, 1);
}

#[test]
fn the_query_for_an_exporter_shows_the_state() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let query = blocks("SQL").remove(0).replace(';', "");
    let read = || {
        let mut rows = database.json_rows(&format!("({query})"), "definition");
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    };
    let before = read();
    assert_eq!(before["definition"], "none");
    assert_eq!(before["last_run_timestamp_seconds"], json!(null));
    assert_eq!(before["last_failed_permanently"], 0);

    let time = at("2026-05-02T10:00:00Z");
    upstream.add(Demande::cnous(1).validated(time));
    upstream.add(Demande::cnous(2).validated(time).siret("1"));
    cycle(&upstream, &database, &[]);
    database.exec("delete from proactivite_requests");
    let success = read();
    assert_eq!(success["definition"], "proactivite_pour_les_etudiants_boursiers_dyn");
    assert_eq!(success["watermark_timestamp_seconds"].as_f64(), Some(time.timestamp() as f64));
    assert_eq!((&success["rejected"], &success["deleted"]), (&json!(1), &json!(1)));
    assert_eq!(success["last_failed_permanently"], 0);

    upstream.fault(On::tokens(..), Fault::Status(403, &[]));
    run(&upstream, &database, &[]).permanent("token_refused");
    let failed = read();
    assert_eq!(failed["last_failed_permanently"], 1);
    let success_time = "last_success_timestamp_seconds";
    assert_eq!(failed[success_time], success[success_time]);
    let run_time = |state: &serde_json::Value| state["last_run_timestamp_seconds"].as_f64();
    assert!(run_time(&failed) > run_time(&success));
}
