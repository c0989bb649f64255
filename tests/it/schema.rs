//! The tables and privileges that a cycle needs: `check` and a cycle agree about them.

use datapass_pull::error::Reason;
use postgres::{Client, NoTls};

use super::docs::runbook::blocks;
use super::harness::{DataPass, Database, Demande, Fault, GOOD_JOBS_4, On, Run, validated};
use super::migrate::{migrate, problems};

#[test]
fn missing_privileges_are_reported_as_grants() {
    let db = Database::migrated_by_library();
    let role = db.role(None);
    let mut client = Client::connect(&db.url_as(&role, ""), NoTls).unwrap();

    let failure = migrate(&mut client, false).unwrap_err();
    assert_eq!(failure.reason, Reason::DatabaseRefused);
    assert!(failure.message.contains("as the owner"), "{}", failure.message);

    db.exec(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"));
    let missing = problems(&mut client);
    assert_eq!(missing.len(), 8, "{missing:#?}");
    for problem in missing {
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
fn the_documented_grants_are_sufficient() {
    let grants = blocks("Required privileges").remove(0);
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    database.exec(
        "insert into datapass_pull_runs (outcome, started_at)
         values ('success', now() - interval '401 days')",
    );
    let role = database.role(None);
    database.exec(&grants.replace(" TO pull", &format!(" TO {role}")));
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
    // Pruning needs another privilege, but nothing fails without it.
    assert_eq!(database.count("datapass_pull_runs"), 4);
    database.exec(&format!("grant delete on datapass_pull_runs to {role}"));
    upstream.fault(On::tokens(..), Fault::Status(403, &[]));
    run(&[]).permanent("token_refused");
    assert_eq!(database.count("datapass_pull_runs"), 5);
    upstream.clear_rules();
    run(&[]).success();
    assert_eq!(database.count("datapass_pull_runs"), 5);
    // A sequence is only named where there is one.
    database.exec(&format!("revoke all on datapass_pull_watermarks from {role}"));
    let refused = run(&[]);
    refused.permanent("database_refused");
    let needs = "needs SELECT, INSERT, UPDATE on datapass_pull_watermarks stage=";
    assert!(refused.stderr.contains(needs), "{}", refused.stderr);
}

/// The expected results of `check` and a cycle, with a part of the message of `check`.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// Both succeed.
    Fits,
    /// `check` warns, since the catalog does not show whether a cycle fails; the cycle succeeds.
    Warns(&'static str),
    /// `check` warns, and the cycle fails.
    MayFail(&'static str),
    /// Both fail.
    Fails(&'static str),
}

use Verdict::{Fails, Fits, MayFail, Warns};

/// Replaces the table of requests with a view.
const VIEW: &str = "alter table proactivite_requests rename to hidden;
    create view proactivite_requests as select * from hidden";

/// A change of the tables, where `pull` is the role of a cycle, and the expected results.
type Case = (&'static str, Verdict);

const LENGTHS_AND_TYPES: &[Case] = &[
    ("alter table proactivite_requests alter siret type varchar(14)", Fits),
    ("alter table proactivite_requests alter siret type char(14)", Fits),
    ("alter table proactivite_requests alter datapass_authorization_id type varchar(255)", Fits),
    (
        "alter table proactivite_requests alter siret type varchar(9)",
        Fails(
            "Column proactivite_requests.siret takes 9 characters, and a value may have 14: run \
            `ALTER TABLE proactivite_requests ALTER COLUMN siret TYPE text`",
        ),
    ),
    (
        "alter table proactivite_requests alter datapass_authorization_id type varchar(36)",
        Fails("a value may have 200"),
    ),
    (
        "alter table proactivite_requests alter code_insee_communes type varchar(4)[]",
        Fails(
            "a value may have 5: run `ALTER TABLE proactivite_requests ALTER COLUMN \
            code_insee_communes TYPE text[]`",
        ),
    ),
    (
        "create domain short as varchar(9);
      alter table proactivite_requests alter siret type short",
        Fails("takes 9 characters"),
    ),
    (
        "alter table datapass_pull_watermarks alter definition_id type varchar(20)",
        Fails("Column datapass_pull_watermarks.definition_id takes 20 characters"),
    ),
    (
        "create type status as enum ('pending', 'done');
      alter table proactivite_requests alter status drop default,
          alter status type status using 'pending', alter status set default 'pending'",
        Fits,
    ),
    (
        "create type status as enum ('new', 'done');
      alter table proactivite_requests alter status drop default,
          alter status type status using 'new'",
        Fails("Column proactivite_requests.status"),
    ),
    (
        "alter table proactivite_requests alter status drop default,
          alter status type integer using 0",
        Fails("is of type integer, not text"),
    ),
    (
        "create type level as enum ('0Bis', '1', '2', '3', '4', '5', '6', '7');
      alter table proactivite_requests alter scholarship_level type level using '1'",
        Fails("Column proactivite_requests.scholarship_level is of type level, not text"),
    ),
    (
        "create domain siret as text;
      alter table proactivite_requests alter siret type siret",
        Fits,
    ),
    (
        "create domain siret as text check (length(value) = 14);
      alter table proactivite_requests alter siret type siret",
        Warns("Column proactivite_requests.siret is of the domain siret"),
    ),
    (
        "create domain filled as text not null;
      alter table proactivite_requests alter entity_type type filled",
        Fails("refuses nulls"),
    ),
    ("alter table proactivite_requests alter transmission_date type timestamp", Fits),
    ("alter table proactivite_requests alter datapass_demande_id type varchar", Fits),
    (
        "alter table proactivite_requests alter datapass_demande_id type integer",
        Fails("is of type integer, not bigint: run `datapass-pull migrate --yes`"),
    ),
    ("alter table proactivite_requests alter id type integer", Fits),
    (
        "alter table datapass_pull_runs alter dry_run drop default,
          alter dry_run type integer using 0",
        Fails("Column datapass_pull_runs.dry_run is of type integer, not boolean"),
    ),
    (
        "create domain number as bigint not null;
      alter table datapass_pull_runs alter id type number",
        Fits,
    ),
    (
        "alter table proactivite_requests alter last_validated_at type timestamp",
        Warns("taken as UTC: run `datapass-pull migrate --yes`"),
    ),
];

const COLUMNS_TRIGGERS_AND_CONSTRAINTS: &[Case] = &[
    (
        "alter table proactivite_requests drop siret",
        Fails("Column proactivite_requests.siret is missing: run `datapass-pull migrate`"),
    ),
    (
        "alter table proactivite_requests
             rename datapass_authorization_id to external_request_id",
        Fails("is still called external_request_id: run `datapass-pull migrate --yes`"),
    ),
    (
        "drop table datapass_pull_runs",
        Fails("Table datapass_pull_runs is missing: run `datapass-pull migrate`"),
    ),
    (
        "alter table proactivite_requests alter entity_type set not null",
        Fails("ALTER COLUMN entity_type DROP NOT NULL"),
    ),
    (
        "alter table proactivite_requests alter siret set not null,
             alter code_insee_communes set not null, add a int not null default 1,
             add b int generated always as identity,
             add c text not null generated always as ('x') stored",
        Fits,
    ),
    (
        "alter table proactivite_requests alter created_at type timestamp(6),
             alter created_at drop default",
        Fits,
    ),
    (
        "alter table proactivite_requests alter id drop default,
          alter id add generated always as identity",
        Fits,
    ),
    (
        "alter table proactivite_requests alter datapass_demande_id set not null,
          alter datapass_demande_id add generated always as identity",
        Fails("ALTER COLUMN datapass_demande_id SET GENERATED BY DEFAULT"),
    ),
    (
        "alter table proactivite_requests drop siret,
          add siret text generated always as ('x') stored",
        Fails("ALTER COLUMN siret DROP EXPRESSION"),
    ),
    ("alter table proactivite_requests add extra int not null", Fails("extra refuses nulls")),
    ("alter table proactivite_requests alter id drop default", Fails("id has no default")),
    (
        "create trigger guard before insert on proactivite_requests
          for each row execute function stamp()",
        Warns("Trigger guard on proactivite_requests runs before each row"),
    ),
    (
        "create trigger guard before update on proactivite_requests
          for each row execute function stamp()",
        Fits,
    ),
    (
        "create trigger guard after insert on proactivite_requests
          for each row execute function stamp()",
        Fits,
    ),
    (
        "create trigger guard before insert on proactivite_requests
          for each row execute function stamp();
      alter table proactivite_requests disable trigger guard",
        Fits,
    ),
    (
        "create rule keep as on insert to proactivite_requests do instead nothing",
        Fails(
            "Rule keep on proactivite_requests replaces what is written: run `DROP RULE keep ON \
            proactivite_requests`",
        ),
    ),
    (
        "create rule note as on insert to proactivite_requests do also notify rows",
        Fails("Rule note on proactivite_requests prevents upserts"),
    ),
    ("create rule note as on insert to datapass_pull_runs do also notify runs", Fits),
    (
        "alter table proactivite_requests add check (length(siret) = 14)",
        Warns(
            "Constraint proactivite_requests_siret_check on proactivite_requests may refuse a valid \
            entry: CHECK ((length(siret) = 14))",
        ),
    ),
    (
        "create table states (name text primary key); insert into states values ('pending');
      grant select on states to pull;
      alter table proactivite_requests add foreign key (status) references states",
        Warns("FOREIGN KEY (status)"),
    ),
    (
        "create unique index on proactivite_requests (datapass_demande_id);
         alter table proactivite_requests add note text; create unique index on
             proactivite_requests (siret, note)",
        Fits,
    ),
    (
        "create unique index on proactivite_requests (lower(datapass_authorization_id))",
        Warns("Unique index proactivite_requests_lower_idx"),
    ),
    (
        "create unique index on proactivite_requests (siret, scholarship_level)",
        Fails("run `DROP INDEX proactivite_requests_siret_scholarship_level_idx`"),
    ),
    (
        "alter table proactivite_requests
          drop constraint proactivite_requests_datapass_authorization_id_key",
        Fails("No unique index covers proactivite_requests.datapass_authorization_id alone"),
    ),
    (
        "alter table proactivite_requests
          drop constraint proactivite_requests_datapass_authorization_id_key,
          add unique (datapass_authorization_id) deferrable",
        Fails("No unique index"),
    ),
];

const JOBS_AND_WARNINGS: &[Case] = &[
    (
        "create trigger guard before insert on proactivite_requests
             for each row execute function skip()",
        MayFail("Trigger guard on proactivite_requests runs before each row"),
    ),
    (
        "create trigger guard before update on datapass_pull_watermarks
             for each row execute function skip()",
        MayFail("Trigger guard on datapass_pull_watermarks runs before each row"),
    ),
    (
        "create trigger guard before insert on datapass_pull_handled
             for each row execute function skip()",
        MayFail("Trigger guard on datapass_pull_handled runs before each row"),
    ),
    (
        "alter table proactivite_requests add check (length(siret) = 9)",
        MayFail("Constraint proactivite_requests_siret_check"),
    ),
    (
        "alter table proactivite_requests rename to hidden;
         create view proactivite_requests as select * from hidden where status <> 'pending';
         insert into hidden (datapass_authorization_id) values (repeat('x', 200))",
        MayFail("proactivite_requests is a view"),
    ),
    (
        "create trigger guard before insert on good_jobs for each row execute function skip()",
        MayFail("Trigger guard on good_jobs runs before each row"),
    ),
    ("create trigger guard before update on good_jobs for each row execute function skip()", Fits),
    (
        "create rule keep as on insert to good_jobs do instead nothing",
        Fails("Rule keep on good_jobs replaces what is written"),
    ),
    (
        "alter table good_jobs enable row level security",
        Fails("Row-level security may hide or refuse rows of good_jobs for role"),
    ),
    (
        "alter table good_jobs alter job_class type integer using 1",
        Fails("Cannot plan to enqueue a job: PostgreSQL answered SQLSTATE 42804"),
    ),
];

const ACCESS_AND_VIEWS: &[Case] = &[
    (
        "alter table proactivite_requests enable row level security;
      alter role pull bypassrls",
        Fits,
    ),
    (
        "alter table proactivite_requests enable row level security;
      create policy all_rows on proactivite_requests to pull using (true)",
        Fits,
    ),
    (
        "alter table proactivite_requests enable row level security;
      create policy reads on proactivite_requests for select using (true);
      create policy writes on proactivite_requests for insert with check (true)",
        Fits,
    ),
    (
        "alter table proactivite_requests enable row level security",
        Fails("Row-level security may hide or refuse rows of proactivite_requests for role"),
    ),
    (
        "alter table proactivite_requests enable row level security;
      create policy all_rows on proactivite_requests using (true);
      create policy none on proactivite_requests as restrictive for insert with check (false)",
        Fails("Row-level security may hide or refuse rows of proactivite_requests for role"),
    ),
    (
        "alter table datapass_pull_watermarks enable row level security;
      create policy reads on datapass_pull_watermarks for select using (true)",
        Fails("Row-level security may hide or refuse rows of datapass_pull_watermarks for role"),
    ),
    ("PARTITIONED", Fits),
    (VIEW, Warns("proactivite_requests is a view: the table behind it is not checked")),
    (
        "alter table proactivite_requests rename to hidden;
      create view proactivite_requests as select distinct * from hidden",
        Fails("Cannot plan a statement of a cycle: PostgreSQL answered SQLSTATE 55000"),
    ),
    (
        "alter table proactivite_requests rename to hidden;
      create materialized view proactivite_requests as select * from hidden",
        Fails("proactivite_requests is not a table"),
    ),
    (
        "revoke all on proactivite_requests from pull;
      grant select (id, datapass_authorization_id, last_validated_at), insert
          (datapass_authorization_id, datapass_demande_id, siret, scholarship_level, entity_type,
           code_insee_entity, code_insee_communes, transmission_date, last_validated_at, status,
           created_at, updated_at) on proactivite_requests to pull",
        Fits,
    ),
    (
        "revoke insert on proactivite_requests from pull;
      grant insert (datapass_authorization_id, datapass_demande_id, scholarship_level, entity_type,
          code_insee_entity, code_insee_communes, transmission_date, last_validated_at, created_at,
          updated_at) on proactivite_requests to pull",
        Fails(
            "lacks INSERT (siret, status) on proactivite_requests: run `GRANT INSERT (siret, status) \
            ON proactivite_requests TO",
        ),
    ),
    (
        "revoke select, insert on proactivite_requests from pull",
        Fails("lacks SELECT, INSERT on proactivite_requests: run `GRANT SELECT, INSERT ON"),
    ),
    (
        "revoke update on datapass_pull_watermarks from pull",
        Fails("lacks UPDATE on datapass_pull_watermarks"),
    ),
    (
        "revoke all on sequence proactivite_requests_id_seq from pull",
        Fails("`GRANT USAGE ON SEQUENCE proactivite_requests_id_seq TO"),
    ),
    ("alter role pull set quote_all_identifiers = on", Fits),
    ("alter role pull set row_security = off", Fits),
];

/// Partitions the table by its only unique column.
const PARTITIONED: &str = "alter table proactivite_requests rename to plain;
    create table proactivite_requests (like plain including defaults,
        primary key (datapass_authorization_id)) partition by hash (datapass_authorization_id);
    create table part_0 partition of proactivite_requests for values with (modulus 2, remainder 0);
    create table part_1 partition of proactivite_requests for values with (modulus 2, remainder 1)";

#[test]
fn check_and_a_cycle_agree_about_lengths_and_types() {
    assert_agreement(LENGTHS_AND_TYPES);
}

#[test]
fn check_and_a_cycle_agree_about_columns_triggers_and_constraints() {
    assert_agreement(COLUMNS_TRIGGERS_AND_CONSTRAINTS);
}

#[test]
fn check_and_a_cycle_agree_about_access_and_views() {
    assert_agreement(ACCESS_AND_VIEWS);
}

#[test]
fn check_and_a_cycle_agree_about_jobs_and_check_warns_if_it_cannot_decide() {
    assert_agreement(JOBS_AND_WARNINGS);
}

/// Runs `check` and a cycle after each change of the tables.
fn assert_agreement(cases: &[Case]) {
    let upstream = DataPass::start();
    let mut commune = validated(1, 1);
    commune.public_id = Some("x".repeat(200));
    let communes = validated(3_000_000_000, 2)
        .siret(&commune.siret)
        .without("entity_type")
        .without("code_insee_entity")
        .data("manual_code_insee_communes", ["69123"].as_slice());
    upstream.add(commune);
    upstream.add(communes);
    let mut wrong = Vec::new();
    for (change, verdict) in cases {
        let database = Database::migrated();
        let role = database.role(None);
        let change = if *change == "PARTITIONED" { PARTITIONED } else { change };
        database.exec(&format!(
            "grant usage on all sequences in schema public to {role};
             create function stamp() returns trigger language plpgsql as
                 'begin new.updated_at = now(); return new; end';
             create function skip() returns trigger language plpgsql as
                 'begin return null; end';
             {GOOD_JOBS_4};
             alter default privileges grant select, insert, update on tables to {role};
             grant select, insert, update on all tables in schema public to {role};
             {}",
            change.replace(" pull", &format!(" {role}"))
        ));
        let url = database.url_as(&role, "");
        let run = |command| {
            let run = Run::new([command]).upstream(&upstream);
            run.env("DATABASE_URL", &url).any_stderr().output()
        };
        let (check, cycle) = (run("check"), run("pull"));
        let report = format!("{change}: {verdict:?}\n{}{}", check.stdout, cycle.stderr);
        let shows = |mark: &str, words: &str| {
            let mut lines = check.stdout.lines();
            lines.any(|line| line.starts_with(mark) && line.contains(words))
        };
        let (codes, is_shown) = match verdict {
            Fits => ((0, 0), !shows("warn", "")),
            Warns(words) => ((0, 0), shows("warn", words)),
            MayFail(words) => ((0, 1), shows("warn", words)),
            Fails(words) => ((1, 1), shows("FAIL", words)),
        };
        let failures = check.stdout.lines().filter(|line| line.starts_with("FAIL"));
        let is_right = (check.code(), cycle.code()) == codes
            && failures.count() == usize::from(codes.0 == 1)
            && is_shown;
        if !is_right {
            wrong.push(report);
        } else if codes == (0, 0) {
            let created = cycle.success().created;
            assert_eq!(created, 2, "{report}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
