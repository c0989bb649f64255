//! `migrate`: new tables, upgrades of existing ones, and refused upgrades.

use std::thread;

use datapass_pull::commands::migrate;
use datapass_pull::db::schema::{self, Finding};
use datapass_pull::db::{connect, url};
use datapass_pull::error::{Exit, Failure, Reason};
use postgres::{Client, NoTls};

use super::harness::{Database, PgBouncer, Run};

/// The two tables as a Rails 8 application creates them, with a row in each.
const RAILS: &str = "
    CREATE TABLE proactivite_requests (
        id bigserial PRIMARY KEY,
        external_request_id character varying NOT NULL,
        datapass_demande_id bigint NOT NULL,
        siret character varying(14) NOT NULL,
        scholarship_level character varying NOT NULL,
        entity_type character varying,
        code_insee_entity character varying,
        code_insee_communes character varying[] NOT NULL DEFAULT '{}',
        transmission_date date,
        last_validated_at timestamp(6) without time zone,
        status character varying NOT NULL DEFAULT 'pending',
        created_at timestamp(6) without time zone NOT NULL,
        updated_at timestamp(6) without time zone NOT NULL
    );
    CREATE UNIQUE INDEX index_proactivite_requests_on_external_request_id
        ON proactivite_requests USING btree (external_request_id);
    INSERT INTO proactivite_requests (external_request_id, datapass_demande_id, siret,
        scholarship_level, last_validated_at, created_at, updated_at)
    VALUES ('abc', 1, '13002526500013', '0Bis', '2026-05-18 10:00:00.123', '2026-05-18 11:00',
        '2026-05-18 11:00');
    CREATE TABLE datapass_pull_watermarks (
        id bigserial PRIMARY KEY,
        last_validated_at timestamp(6) without time zone NOT NULL,
        created_at timestamp(6) without time zone NOT NULL,
        updated_at timestamp(6) without time zone NOT NULL
    );
    INSERT INTO datapass_pull_watermarks (id, last_validated_at, created_at, updated_at)
    VALUES (7, '2026-05-18 10:00:00.123', '2026-05-18 11:00', '2026-05-18 11:00');
";

/// Returns every column, constraint and index of the database.
fn read_schema(client: &mut Client) -> Vec<String> {
    let mut schema = Vec::new();
    for statement in [
        "select format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable,
                column_default)
         from information_schema.columns where table_schema = current_schema() order by 1",
        "select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
         from pg_constraint where connamespace = current_schema()::regnamespace order by 1",
        "select indexdef from pg_indexes where schemaname = current_schema() order by 1",
    ] {
        let rows = client.query(statement, &[]).unwrap();
        schema.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    schema
}

/// Returns the schema, and the rows of the two tables of Rails.
fn read_schema_and_rows(client: &mut Client) -> Vec<String> {
    let mut all = read_schema(client);
    for table in ["proactivite_requests", "datapass_pull_watermarks"] {
        let rows = client.query(&format!("select {table}::text from {table}"), &[]);
        all.extend(rows.unwrap_or_default().iter().map(|row| row.get::<_, String>(0)));
    }
    all
}

/// Migrates in one transaction, as the command does.
pub fn migrate(client: &mut Client, yes: bool) -> Result<Vec<String>, Failure> {
    let mut transaction = client.transaction().unwrap();
    let changes = migrate::upgrade(&mut transaction, yes)?;
    transaction.commit().unwrap();
    Ok(changes)
}

fn run(db: &Database, yes: bool) -> Result<Vec<String>, Failure> {
    migrate(&mut db.client(), yes)
}

/// The changes that create all tables.
const CREATED: [&str; 5] = [
    "CREATE TABLE proactivite_requests",
    "CREATE TABLE datapass_pull_handled",
    "CREATE TABLE datapass_pull_watermarks",
    "CREATE TABLE datapass_pull_rejections",
    "CREATE TABLE datapass_pull_runs",
];

/// Returns the problems that `check` reports of the tables.
pub fn problems(client: &mut Client) -> Vec<String> {
    let mut transaction = client.transaction().unwrap();
    let (_, findings) = schema::examine(&mut transaction).unwrap();
    findings
        .into_iter()
        .filter_map(|finding| match finding {
            Finding::Problem(failure) => Some(failure.error_chain()),
            Finding::Warning(_) => None,
        })
        .collect()
}

#[track_caller]
fn assert_done(db: &Database) {
    assert_done_after("migrate", db);
}

/// Checks that a cycle can use the tables, and that another migration changes nothing.
#[track_caller]
fn assert_done_after(change: &str, db: &Database) {
    let mut client = db.client();
    assert_eq!(problems(&mut client), [""; 0], "{change}");
    let before = read_schema_and_rows(&mut client);
    assert_eq!(run(db, false).unwrap(), [""; 0]);
    assert_eq!(read_schema_and_rows(&mut client), before);
    let ids = client.query("select id::bigint from datapass_pull_watermarks", &[]).unwrap();
    assert_eq!(ids.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1]);
    let other = client.execute("insert into datapass_pull_watermarks (id) values (2)", &[]);
    assert_eq!(other.unwrap_err().code().unwrap().code(), "23514");
}

#[test]
fn the_tables_of_an_empty_database_are_created_once() {
    let db = Database::empty();
    let missing = problems(&mut db.client());
    assert_eq!(missing.len(), 5, "{missing:?}");
    assert!(missing.iter().all(|problem| problem.ends_with("run `datapass-pull migrate`")));

    assert_eq!(run(&db, false).unwrap(), CREATED);
    assert_done(&db);
}

#[test]
fn the_command_prints_its_changes_as_text_or_json() {
    let db = Database::empty();
    let migrate = |args: &[&str]| {
        let run = Run::new(["migrate"]).args(args.to_vec()).database(&db);
        run.output().assert_success().stdout.clone()
    };
    let created = CREATED.map(|line| format!("{line}\n")).concat();
    assert_eq!(migrate(&[]), created);
    assert_eq!(migrate(&[]), "The tables are up to date\n");
    assert_eq!(migrate(&["--format", "json"]), "{\"changes\":[]}\n");
    db.exec("ALTER TABLE proactivite_requests DROP siret");
    assert_eq!(
        migrate(&["--format", "json"]),
        "{\"changes\":[\"ALTER TABLE proactivite_requests ADD COLUMN siret text\"]}\n"
    );
    assert_eq!(migrate(&["--print"]), migrate::print());

    db.exec("ALTER TABLE proactivite_requests ALTER datapass_demande_id TYPE integer");
    let before = read_schema_and_rows(&mut db.client());
    let refused = Run::new(["migrate"]).database(&db).output();
    refused.assert_code(1);
    for words in [
        "ALTER TABLE proactivite_requests ALTER COLUMN datapass_demande_id TYPE bigint",
        "`datapass-pull migrate --yes`",
    ] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    assert_eq!(read_schema_and_rows(&mut db.client()), before);
    let done = migrate(&["--yes"]);
    assert!(done.ends_with("COLUMN datapass_demande_id TYPE bigint\n"), "{done}");
}

#[test]
fn printed_sql_creates_the_same_tables() {
    let by_hand = Database::empty();
    by_hand.exec(&migrate::print());
    assert_done(&by_hand);

    let by_itself = Database::empty();
    run(&by_itself, false).unwrap();
    assert_eq!(read_schema(&mut by_hand.client()), read_schema(&mut by_itself.client()));
}

#[test]
fn the_tables_of_rails_are_upgraded_with_yes() {
    let db = Database::empty();
    db.exec(RAILS);
    let mut client = db.client();
    let before = read_schema_and_rows(&mut client);

    let failure = run(&db, false).unwrap_err();
    assert_eq!(failure.reason, Reason::UpgradeRefused);
    assert_eq!(failure.exit(), Exit::Permanent);
    assert_eq!(read_schema_and_rows(&mut client), before);
    let statements = [
        "ALTER TABLE proactivite_requests RENAME COLUMN external_request_id TO \
         datapass_authorization_id",
        "ALTER INDEX index_proactivite_requests_on_external_request_id RENAME TO \
         index_proactivite_requests_on_datapass_authorization_id",
        "ALTER TABLE proactivite_requests ALTER COLUMN last_validated_at TYPE timestamptz USING \
         last_validated_at AT TIME ZONE 'UTC'",
        "ALTER TABLE datapass_pull_watermarks ADD COLUMN definition_id text",
        "ALTER TABLE datapass_pull_watermarks ALTER COLUMN last_validated_at TYPE timestamptz \
         USING last_validated_at AT TIME ZONE 'UTC'",
        "ALTER TABLE datapass_pull_watermarks ALTER COLUMN last_validated_at DROP NOT NULL",
        "ALTER TABLE datapass_pull_watermarks ADD COLUMN skip_before timestamptz",
        "UPDATE datapass_pull_watermarks SET skip_before = last_validated_at",
        "ALTER TABLE datapass_pull_watermarks ALTER COLUMN id TYPE integer",
        "UPDATE datapass_pull_watermarks SET id = 1",
        "CHECK (id = 1)",
        "`datapass-pull migrate --yes`",
    ];
    for statement in statements {
        assert!(failure.message.contains(statement), "{statement}: {}", failure.message);
    }
    assert_eq!(failure.message.lines().count(), 1);

    let lines = run(&db, true).unwrap();
    for statement in &statements[..10] {
        assert!(lines.iter().any(|line| line == statement), "{statement}: {lines:#?}");
    }
    assert_done(&db);

    let row = client
        .query_one(
            "select datapass_authorization_id, last_validated_at = '2026-05-18T10:00:00.123Z',
                    created_at = '2026-05-18 11:00', pg_typeof(created_at)::text
             from proactivite_requests",
            &[],
        )
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "abc");
    assert!(row.get::<_, bool>(1), "the time of the row moved");
    assert!(row.get::<_, bool>(2));
    assert_eq!(row.get::<_, &str>(3), "timestamp without time zone");
    let row = client
        .query_one(
            "select last_validated_at = '2026-05-18T10:00:00.123Z', definition_id,
                    created_at = '2026-05-18T11:00Z', skip_before = last_validated_at
             from datapass_pull_watermarks",
            &[],
        )
        .unwrap();
    assert!(row.get::<_, bool>(0), "the watermark moved");
    assert_eq!(row.get::<_, Option<String>>(1), None);
    assert!(row.get::<_, bool>(2));
    assert!(row.get::<_, bool>(3), "the backlog is not skipped");
    let handled = "select datapass_authorization_id, last_validated_at = '2026-05-18T10:00:00.123Z'
                   from datapass_pull_handled";
    let row = client.query_one(handled, &[]).unwrap();
    assert_eq!(row.get::<_, &str>(0), "abc");
    assert!(row.get::<_, bool>(1));
    let indexes = client
        .query(
            "select indexname::text from pg_indexes where tablename = 'proactivite_requests'
             and indexdef like '%(datapass_authorization_id)%'",
            &[],
        )
        .unwrap();
    assert_eq!(indexes.len(), 1);
    assert_eq!(
        indexes[0].get::<_, &str>(0),
        "index_proactivite_requests_on_datapass_authorization_id"
    );
}

#[test]
fn partly_migrated_tables_are_completed() {
    for (name, change) in [
        (
            "column renamed, index not",
            "ALTER TABLE proactivite_requests
             RENAME COLUMN external_request_id TO datapass_authorization_id",
        ),
        (
            "index of another name",
            "ALTER INDEX index_proactivite_requests_on_external_request_id RENAME TO anything",
        ),
        (
            "a constraint for an index",
            "DROP INDEX index_proactivite_requests_on_external_request_id;
             ALTER TABLE proactivite_requests ADD UNIQUE (external_request_id)",
        ),
        ("no index at all", "DROP INDEX index_proactivite_requests_on_external_request_id"),
        (
            "unusable indexes",
            "DROP INDEX index_proactivite_requests_on_external_request_id;
             CREATE UNIQUE INDEX ON proactivite_requests (external_request_id) WHERE id > 0;
             CREATE UNIQUE INDEX ON proactivite_requests (lower(external_request_id));
             CREATE UNIQUE INDEX ON proactivite_requests (external_request_id, siret);
             ALTER TABLE proactivite_requests
             ADD UNIQUE (external_request_id) DEFERRABLE INITIALLY DEFERRED",
        ),
        (
            "an index of Rails' name that is not unique",
            "DROP INDEX index_proactivite_requests_on_external_request_id;
             CREATE INDEX index_proactivite_requests_on_external_request_id
             ON proactivite_requests (external_request_id)",
        ),
        (
            "an index of the new name that is not unique",
            "DROP INDEX index_proactivite_requests_on_external_request_id;
             CREATE INDEX index_proactivite_requests_on_datapass_authorization_id
             ON proactivite_requests (lower(external_request_id))",
        ),
        (
            "missing columns",
            "ALTER TABLE proactivite_requests DROP COLUMN last_validated_at,
             DROP COLUMN transmission_date, DROP COLUMN status, DROP COLUMN code_insee_communes",
        ),
        ("an empty watermark table", "DELETE FROM datapass_pull_watermarks"),
        ("no watermark table", "DROP TABLE datapass_pull_watermarks"),
        ("only the watermark table", "DROP TABLE proactivite_requests"),
        (
            "an upgraded watermark table",
            "ALTER TABLE datapass_pull_watermarks ADD COLUMN definition_id varchar,
             ALTER COLUMN last_validated_at DROP NOT NULL,
             ALTER COLUMN last_validated_at TYPE timestamptz;
             UPDATE datapass_pull_watermarks SET id = 1;
             ALTER TABLE datapass_pull_watermarks ADD CONSTRAINT only_one CHECK (id = 1)",
        ),
        ("a watermark without an id", "ALTER TABLE datapass_pull_watermarks DROP COLUMN id"),
        (
            "rejections and runs created by Rails",
            "CREATE TABLE datapass_pull_rejections (id bigserial PRIMARY KEY, ref varchar NOT NULL,
                 demande_id bigint NOT NULL, reasons varchar[], first_seen_at timestamp(6) NOT NULL,
                 closed_at timestamp(6));
             CREATE TABLE datapass_pull_runs (id bigserial PRIMARY KEY, seen integer,
                 started_at timestamp(6) NOT NULL, outcome varchar NOT NULL)",
        ),
        (
            "4-byte integers",
            "ALTER TABLE proactivite_requests ALTER COLUMN id TYPE integer,
                 ALTER COLUMN datapass_demande_id TYPE integer",
        ),
    ] {
        let db = Database::empty();
        db.exec(RAILS);
        db.exec(change);
        run(&db, true).unwrap_or_else(|failure| panic!("{name}: {}", failure.error_chain()));
        assert_done_after(name, &db);
    }
}

#[test]
fn only_a_rename_or_a_retype_needs_yes() {
    let db = Database::migrated_by_library();
    db.exec(
        "ALTER TABLE proactivite_requests DROP COLUMN siret;
         ALTER TABLE proactivite_requests
         DROP CONSTRAINT proactivite_requests_datapass_authorization_id_key",
    );
    let lines = run(&db, false).unwrap();
    assert_eq!(
        lines,
        [
            "ALTER TABLE proactivite_requests ADD COLUMN siret text",
            "CREATE UNIQUE INDEX index_proactivite_requests_on_datapass_authorization_id ON \
             proactivite_requests (datapass_authorization_id)",
        ]
    );
    assert_done(&db);

    db.exec("ALTER TABLE datapass_pull_runs ALTER COLUMN since TYPE timestamp");
    let failure = run(&db, false).unwrap_err();
    assert_eq!(failure.reason, Reason::UpgradeRefused);
    run(&db, true).unwrap();
    assert_done(&db);
}

#[test]
fn handled_entries_are_filled_only_when_their_table_is_created() {
    let db = Database::migrated_by_library();
    db.exec(
        "ALTER TABLE proactivite_requests ALTER datapass_authorization_id DROP NOT NULL;
         INSERT INTO proactivite_requests (datapass_authorization_id) VALUES ('a'), ('b'), (null)",
    );
    run(&db, false).unwrap();
    assert_eq!(db.count("datapass_pull_handled"), 0);
    db.exec("DROP TABLE datapass_pull_handled");
    let lines = run(&db, false).unwrap();
    assert!(lines.contains(
        &"INSERT INTO datapass_pull_handled (datapass_authorization_id, last_validated_at) SELECT \
          datapass_authorization_id, last_validated_at FROM proactivite_requests WHERE \
          datapass_authorization_id IS NOT NULL"
            .to_owned()
    ));
    assert_eq!(db.count("datapass_pull_handled"), 2);
    db.exec("DELETE FROM datapass_pull_handled WHERE datapass_authorization_id = 'a'");
    assert_done(&db);
    assert_eq!(db.count("datapass_pull_handled"), 1);
}

#[test]
fn skip_before_is_set_to_the_watermark_only_when_it_is_added() {
    let db = Database::migrated_by_library();
    let skip_before = "SELECT skip_before FROM datapass_pull_watermarks";
    let read = |db: &Database| db.client().query_one(skip_before, &[]).unwrap();
    db.exec("UPDATE datapass_pull_watermarks SET last_validated_at = '2026-05-18T10:00Z'");
    assert_done(&db);
    let none = read(&db).get::<_, Option<chrono::DateTime<chrono::Utc>>>(0);
    assert_eq!(none, None);
    db.exec("ALTER TABLE datapass_pull_watermarks DROP skip_before");
    assert_eq!(run(&db, false).unwrap().len(), 2);
    assert_done(&db);
    let time = read(&db).get::<_, chrono::DateTime<chrono::Utc>>(0);
    assert_eq!(time.to_rfc3339(), "2026-05-18T10:00:00+00:00");
}

#[test]
fn a_dropped_table_is_created_again() {
    let db = Database::migrated_by_library();
    db.exec("DROP TABLE datapass_pull_runs");
    assert_eq!(problems(&mut db.client()).len(), 1);
    run(&db, false).unwrap();
    assert_done(&db);
}

#[test]
fn an_impossible_upgrade_is_reported_and_changes_nothing() {
    for (change, words) in [
        (
            "INSERT INTO datapass_pull_watermarks (last_validated_at, created_at, updated_at)
             VALUES (now(), now(), now())",
            "datapass_pull_watermarks_pkey; datapass_pull_watermarks has several rows",
        ),
        (
            "DROP INDEX index_proactivite_requests_on_external_request_id;
             INSERT INTO proactivite_requests (external_request_id, datapass_demande_id, siret,
                 scholarship_level, created_at, updated_at)
             VALUES ('abc', 2, 'x', '1', now(), now())",
            "GROUP BY 1 HAVING count(*) > 1",
        ),
        (
            "CREATE VIEW watched AS SELECT last_validated_at FROM proactivite_requests",
            "SQLSTATE 0A000",
        ),
        (
            "ALTER TABLE proactivite_requests ADD COLUMN datapass_authorization_id text",
            "in external_request_id alone",
        ),
    ] {
        let db = Database::empty();
        db.exec(RAILS);
        db.exec(change);
        let before = read_schema_and_rows(&mut db.client());
        let failure = run(&db, true).unwrap_err();
        assert_eq!(failure.reason, Reason::DatabaseRefused, "{}", failure.error_chain());
        assert!(failure.message.contains(words), "{}", failure.message);
        assert!(!failure.message.contains("abc"), "{}", failure.message);
        assert_eq!(read_schema_and_rows(&mut db.client()), before);
    }
}

#[test]
fn a_locked_table_is_not_waited_for() {
    let db = Database::empty();
    db.exec(RAILS);
    let mut reader = db.client();
    let mut reading = reader.transaction().unwrap();
    reading.batch_execute("SELECT FROM proactivite_requests").unwrap();
    let failure = run(&db, true).unwrap_err();
    assert_eq!(failure.reason, Reason::DatabaseBusy, "{}", failure.error_chain());
    drop(reading);
    run(&db, true).unwrap();
    assert_done(&db);
}

#[test]
fn concurrent_migrations_create_the_tables_once() {
    let db = Database::empty();
    let lines: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| run(&db, false))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap().unwrap()).collect()
    });
    assert_eq!(lines, CREATED);
    assert_done(&db);
}

#[test]
fn migrations_work_through_a_pooler() {
    let db = Database::empty();
    db.exec(RAILS);
    let pooler = PgBouncer::start(&db);
    let mut clients: Vec<Client> =
        (0..4).map(|_| Client::connect(&pooler.url(), NoTls).unwrap()).collect();
    for client in &mut clients {
        let refused = migrate(client, false).unwrap_err();
        assert_eq!(refused.reason, Reason::UpgradeRefused, "{}", refused.error_chain());
    }
    migrate(&mut clients[0], true).unwrap();
    for client in &mut clients {
        assert_eq!(migrate(client, true).unwrap(), [""; 0]);
        assert_eq!(problems(client), [""; 0]);
        let path = client.simple_query("SHOW search_path").unwrap();
        assert!(format!("{path:?}").contains("$user"), "{path:?}");
    }
    assert_done(&db);
}

fn connected(text: &str) -> Client {
    let url = url::parse(text).unwrap();
    connect::connect(&url, std::time::Duration::from_secs(20)).unwrap()
}

#[test]
fn tables_are_created_in_the_first_schema_of_the_search_path() {
    let db = Database::migrated_by_library();
    db.exec("CREATE SCHEMA other");
    let other = format!("{}?options=-csearch_path%3Dother,public", db.url());
    let mut client = connected(&other);
    assert_eq!(migrate(&mut client, false).unwrap(), CREATED);
    assert!(db.has_table("other.proactivite_requests"));
    assert_eq!(problems(&mut client), [""; 0]);
    assert_done(&db);

    let mut client = connected(&format!("{}?options=-csearch_path%3Dnowhere", db.url()));
    let failure = migrate(&mut client, false).unwrap_err();
    assert_eq!(failure.reason, Reason::DatabaseRefused);
    assert!(failure.message.contains("search path"), "{}", failure.message);
}

impl Database {
    /// Makes a database and migrates it with the library instead of the binary.
    pub fn migrated_by_library() -> Self {
        let db = Self::empty();
        run(&db, false).unwrap();
        db
    }
}
