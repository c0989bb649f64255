//! The judgement of tables and rights, on a real PostgreSQL.

use datapass_pull::commands::migrate;
use datapass_pull::error::Reason;
use postgres::{Client, NoTls};

use super::harness::{DataPass, Database, Demande, Fault, GOOD_JOBS_4, On, Run};
use super::migrate::problems;

#[test]
fn what_rights_are_missing_is_told_as_a_statement() {
    let db = Database::migrated_by_library();
    let role = db.role(None);
    let mut client = Client::connect(&db.url_as(&role, ""), NoTls).unwrap();

    let failure = migrate::migrate(&mut client, false).unwrap_err();
    assert_eq!(failure.reason, Reason::DatabaseRefused);
    assert!(
        failure.message.contains("as the owner"),
        "{}",
        failure.message
    );

    db.exec(&format!(
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    ));
    let told = problems(&mut client);
    assert_eq!(told.len(), 8, "{told:#?}");
    for problem in told {
        let statement = problem.split('`').nth(1).unwrap();
        assert!(statement.starts_with("GRANT"), "{problem}");
        db.exec(statement);
    }
    assert_eq!(problems(&mut client), [""; 0]);
    client
        .batch_execute(
            "INSERT INTO proactivite_requests (datapass_authorization_id) VALUES ('x');
             INSERT INTO datapass_pull_runs DEFAULT VALUES;
             INSERT INTO datapass_pull_rejections (ref) VALUES ('D1');
             UPDATE datapass_pull_rejections SET times_seen = 2;
             UPDATE datapass_pull_watermarks SET definition_id = 'x'",
        )
        .unwrap();
}

#[test]
fn the_least_grants_of_the_readme_are_enough() {
    let readme = include_str!("../../README.md");
    let grants = readme.split("### Least grants").nth(1).unwrap();
    let grants = grants.split("```").nth(1).unwrap();
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    database.exec(
        "insert into datapass_pull_runs (outcome, started_at)
         values ('success', now() - interval '401 days')",
    );
    let role = database.role(None);
    database.exec(
        &grants
            .replace("sql\n", "")
            .replace(" TO pull", &format!(" TO {role}")),
    );
    let url = database.url_as(&role, "");
    upstream.add(Demande::cnous(1));
    upstream.add(Demande::cnous(2).siret("no siret"));
    let run = |args: &[&str]| {
        let run = Run::cycle(&upstream, &database).env("DATABASE_URL", &url);
        run.args(args.to_vec()).any_stderr().output()
    };
    run(&["check"]).assert_success();
    assert_eq!(run(&[]).success().enqueued, 1);
    run(&["rejected", "accept", "2", "--reason", "known"]).assert_success();
    assert_eq!(run(&[]).success().accepted, 1);
    run(&["watermark", "reset", "--yes"]).assert_success();
    run(&["status"]).assert_success();
    // To prune takes a right that is not among them, and nothing fails without it.
    assert_eq!(database.count("datapass_pull_runs"), 4);
    database.exec(&format!("grant delete on datapass_pull_runs to {role}"));
    upstream.fault(On::tokens(..), Fault::Status(403, &[]));
    run(&[]).permanent("token_refused");
    assert_eq!(database.count("datapass_pull_runs"), 5);
    upstream.behave();
    run(&[]).success();
    assert_eq!(database.count("datapass_pull_runs"), 5);
}

#[test]
fn what_would_make_a_cycle_fail_is_seen() {
    for (change, words) in [
        (
            "ADD COLUMN extra int NOT NULL",
            "proactivite_requests.extra refuses nulls",
        ),
        (
            "ALTER COLUMN entity_type SET NOT NULL",
            "ALTER COLUMN entity_type DROP NOT NULL",
        ),
        (
            "ALTER COLUMN id DROP DEFAULT",
            "proactivite_requests.id has no default",
        ),
        (
            "ALTER COLUMN siret TYPE bigint USING 1",
            "siret is of type bigint, not text",
        ),
        (
            "DROP COLUMN siret",
            "proactivite_requests.siret is missing: run `datapass-pull migrate`",
        ),
        (
            "ALTER COLUMN last_validated_at TYPE timestamp",
            "run `datapass-pull migrate --yes`",
        ),
        (
            "RENAME COLUMN datapass_authorization_id TO external_request_id",
            "still called external_request_id: run `datapass-pull migrate --yes`",
        ),
        (
            "DROP CONSTRAINT proactivite_requests_datapass_authorization_id_key",
            "No unique index covers proactivite_requests.datapass_authorization_id alone",
        ),
    ] {
        let db = Database::migrated_by_library();
        db.exec(&format!("ALTER TABLE proactivite_requests {change}"));
        let told = problems(&mut db.client());
        assert_eq!(told.len(), 1, "{change}: {told:#?}");
        assert!(told[0].contains(words), "{change}: {told:?}");
    }
    for harmless in [
        "ADD COLUMN extra int NOT NULL DEFAULT 1",
        "ADD COLUMN extra int GENERATED ALWAYS AS IDENTITY",
        "ADD COLUMN extra text NOT NULL GENERATED ALWAYS AS ('x') STORED",
        "ALTER COLUMN siret SET NOT NULL",
        "ALTER COLUMN siret TYPE varchar(14)",
        "ALTER COLUMN created_at TYPE timestamp(6), ALTER COLUMN created_at DROP DEFAULT",
        "ALTER COLUMN code_insee_communes SET NOT NULL",
    ] {
        let db = Database::migrated_by_library();
        db.exec(&format!("ALTER TABLE proactivite_requests {harmless}"));
        assert_eq!(problems(&mut db.client()), [""; 0], "{harmless}");
    }
}
