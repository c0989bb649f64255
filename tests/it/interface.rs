//! Details that a cycle promises: what a row holds, what is rejected and why, what the clock, the
//! filter and the requests are like.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::datapass::{Clock, Endpoint};
use crate::harness::*;

#[test]
fn a_row_of_a_table_that_rails_made_holds_what_was_listed_in_utc() {
    let (upstream, database) = (DataPass::start(), Database::empty());
    database.exec(
        "create table proactivite_requests (
             id bigserial primary key, external_request_id varchar not null, siret varchar,
             scholarship_level varchar, entity_type varchar, code_insee_entity varchar,
             code_insee_communes varchar[], transmission_date date, last_validated_at timestamp(6),
             status varchar default 'pending', created_at timestamp(6) not null,
             updated_at timestamp(6) not null);
         create unique index rails_index on proactivite_requests (external_request_id)",
    );
    let migrate = Run::new(["migrate", "--yes"]).database(&database);
    migrate.any_stderr().output().assert_success();
    let demande = validated(1, 0)
        .data("niveau_bourse_min", "0Bis")
        .data("echelon_bourse", "7")
        .data("manual_code_insee_communes", "[\"2A004\", \"75056\"]");
    let (siret, public_id) = (demande.siret.clone(), demande.public_id.clone());
    upstream.add(demande);
    upstream.add(
        validated(2, 1)
            .data("niveau_bourse_min", " ")
            .data("entity_type", "region")
            .data("code_insee_entity", "84")
            .without("premiere_date_transmission"),
    );
    upstream.add(
        validated(3, 2)
            .without("entity_type")
            .without("code_insee_entity")
            .data("manual_code_insee_communes", json!(["69123"])),
    );
    let run = Run::cycle(&upstream, &database).any_stderr();
    assert_eq!(run.output().success().created, 3);
    let rows = database.json_rows("proactivite_requests", "id");
    let [first, second, third] = &rows[..] else { panic!("three rows, not {rows:?}") };
    let expected = [
        ("datapass_authorization_id", json!(public_id)),
        ("datapass_demande_id", json!(1)),
        ("siret", json!(siret)),
        ("scholarship_level", json!("0Bis")),
        ("entity_type", json!("commune")),
        ("code_insee_entity", json!("69123")),
        ("code_insee_communes", json!(["2A004", "75056"])),
        ("transmission_date", json!("2026-09-01")),
        ("status", json!("pending")),
    ];
    for (column, value) in expected {
        assert_eq!(first[column], value, "{column}");
    }
    assert_eq!(second["scholarship_level"], "3");
    assert_eq!(second["entity_type"], "region");
    assert_eq!(second["transmission_date"], Value::Null);
    assert_eq!(third["entity_type"], Value::Null);
    assert_eq!(third["code_insee_communes"], json!(["69123"]));
    let utc: bool = database
        .client()
        .query_one(
            "select last_validated_at = '2026-05-18T10:00:00.123Z'::timestamptz
                and abs(extract(epoch from timezone('UTC', now()) - created_at)) < 600
                and pg_typeof(created_at)::text = 'timestamp without time zone'
             from proactivite_requests where datapass_demande_id = 1",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(utc, "{first}");
}

#[test]
fn every_fault_of_an_entry_is_named_without_its_value() {
    let long = "x".repeat(201);
    let cases: Vec<(&str, Demande)> = vec![
        ("public_id", validated(1, 1).public_id(None)),
        ("public_id", validated(2, 2).public_id(Some(&long))),
        ("public_id", validated(3, 3).public_id(Some("a\0b"))),
        ("siret", validated(4, 4).siret("1234")),
        ("siret", validated(5, 5).siret("12345678901234")),
        ("echelon_bourse", validated(6, 6).data("echelon_bourse", "8")),
        ("niveau_bourse_min", validated(7, 7).data("niveau_bourse_min", "canari")),
        ("echelon_bourse", validated(8, 8).without("echelon_bourse")),
        ("entity_type", validated(9, 9).data("entity_type", "canari")),
        ("code_insee_entity", validated(10, 10).data("code_insee_entity", "6912")),
        ("entity_type", validated(11, 11).without("entity_type").without("code_insee_entity")),
        (
            "manual_code_insee_communes",
            validated(12, 12)
                .without("entity_type")
                .without("code_insee_entity")
                .data("manual_code_insee_communes", "canari"),
        ),
        (
            "premiere_date_transmission",
            validated(13, 13).data("premiere_date_transmission", "2026-02-30"),
        ),
        ("echelon_bourse", validated(14, 14).data("echelon_bourse", 3)),
    ];
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let fields: Vec<&str> = cases.iter().map(|(field, _)| *field).collect();
    for (_, demande) in cases {
        upstream.add(demande);
    }
    for id in [15, 16, 17] {
        upstream.add(validated(id, id));
    }
    upstream.with(|upstream| {
        upstream.edit(15, |shown| shown["state"] = json!("refused"));
        upstream.edit(16, |shown| shown["last_validated_at"] = json!("canari"));
        upstream.edit(17, |shown| shown["definition_id"] = json!(7));
    });
    upstream.add(validated(20, 20));
    let fields: Vec<&str> =
        fields.into_iter().chain(["state", "last_validated_at", "definition_id"]).collect();
    let summary = Run::cycle(&upstream, &database).any_stderr().output().success();
    assert_eq!((summary.created, summary.rejected), (1, 17));
    assert_eq!(summary.watermark, Some(minute(1)));
    let rejections = database.rejections();
    for (id, field) in (1..).zip(fields) {
        let found = rejections.iter().find(|row| row.demande_id == Some(id));
        let reasons = &found.unwrap_or_else(|| panic!("D{id}")).reasons;
        let named = reasons.iter().any(|reason| reason.contains(field));
        assert!(named, "D{id}: {field} is not in {reasons:?}");
        assert!(!format!("{reasons:?}").contains("canari"), "{reasons:?}");
    }
}

#[test]
fn the_watermark_stays_behind_the_clock_of_datapass() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.with(|upstream| upstream.clock = Clock::Fixed(minute(30)));
    upstream.add(validated(1, 10));
    upstream.add(validated(2, 40));
    let run = || Run::cycle(&upstream, &database).any_stderr();
    let first = run().output().success();
    assert_eq!((first.created, first.watermark), (2, Some(minute(10))));
    upstream.with(|upstream| upstream.remove(2));
    let second = run().output().success();
    assert_eq!(second.watermark, Some(minute(10)));
    upstream.with(|upstream| upstream.remove(1));
    upstream.add(validated(3, -600));
    let back = run().output().success();
    assert_eq!((back.watermark, back.late), (Some(minute(10)), 1));
}

#[test]
fn a_revalidated_row_is_left_as_it_is() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    let run = || Run::cycle(&upstream, &database).any_stderr();
    run().output().success();
    let before = database.snapshot()["proactivite_requests"].clone();
    upstream.with(|upstream| {
        upstream.validate(1, minute(500));
        // What is in the table is existing, before it is validated.
        upstream.edit(1, |shown| shown["organisation"]["siret"] = json!("1"));
    });
    let summary = run().output().success();
    assert_eq!((summary.existing, summary.revalidated), (1, 1));
    assert_eq!((summary.rejected, summary.watermark), (0, Some(minute(500))));
    assert_eq!(database.snapshot()["proactivite_requests"], before);
}

#[test]
fn one_public_id_under_two_demandes_makes_one_row() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 20).public_id(Some("ABC123")));
    upstream.add(validated(2, 10).public_id(Some("ABC123")));
    let run = Run::cycle(&upstream, &database).any_stderr();
    let summary = run.output().success();
    assert_eq!((summary.created, summary.existing), (1, 1));
    assert_eq!(database.requests()[0].datapass_demande_id, Some(2));
}

#[test]
fn requests_carry_what_they_need_and_no_more() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for id in 1..=100 {
        upstream.add(validated(id, id));
    }
    for concurrency in ["1", "2", "4"] {
        upstream.take_requests();
        let run = Run::cycle(&upstream, &database).args([
            "--page-size",
            "50",
            "--concurrency",
            concurrency,
        ]);
        run.any_stderr().output().success();
        let requests = upstream.take_requests();
        let most = requests.iter().map(|request| request.in_flight).max();
        assert!(most <= concurrency.parse().ok(), "{concurrency}: {most:?}");
        for request in &requests {
            let agent = request.header("user-agent").unwrap_or_default();
            assert_eq!(agent, concat!("datapass-pull/", env!("CARGO_PKG_VERSION")));
            assert_eq!(request.header("accept"), Some("application/json"));
            let is_token = request.endpoint == Endpoint::Token;
            assert_eq!(request.header("authorization").is_none(), is_token);
            assert_eq!(request.field("client_secret").is_some(), is_token);
        }
    }
}

#[test]
fn a_redirect_is_refused_and_not_followed() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let target = DataPass::start();
    for on in [On::tokens(..), On::pages(..)] {
        upstream.clear_rules();
        upstream.fault(on, Fault::Redirect(target.api_base_url()));
        let run = Run::cycle(&upstream, &database);
        run.output().permanent("redirect");
    }
    assert!(target.requests().is_empty());
}

#[test]
fn all_missing_settings_are_named_together_and_an_empty_one_is_unset() {
    let run = Run::new::<&str>([]).env("DATAPASS_CLIENT_ID", "").any_stderr();
    let outcome = run.output();
    outcome.permanent("configuration");
    for name in [
        "DATAPASS_AUTH_URL",
        "DATAPASS_API_BASE_URL",
        "DATAPASS_CLIENT_ID",
        "DATAPASS_CLIENT_SECRET",
        "DATABASE_URL",
    ] {
        assert!(outcome.stderr.contains(name), "{name}: {}", outcome.stderr);
    }
}

#[test]
fn a_closed_output_changes_nothing() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    // The reader of the pipe is gone before the program starts.
    let shell = "exec 4> >(exec 0<&-); wait $!; exec \"$@\" >&4 2>&4";
    let run = Run::cycle(&upstream, &database).through(["bash", "-c", shell, "bash"]);
    assert_eq!(run.output().code(), 0);
    assert_eq!(database.count("proactivite_requests"), 1);
}

#[test]
fn a_server_that_ignores_the_offset_is_found_out() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let rows: Vec<Value> = (1..=10).rev().map(|id| validated(id, id).to_json()).collect();
    let rows = Value::from(rows).to_string();
    upstream.fault(On::pages(..), Fault::json(&rows));
    let run = |size| {
        let run = Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
        run.args(["--page-size", size])
    };
    let before = database.snapshot();
    run("10").output().permanent("no_paging");
    assert_eq!(database.snapshot(), before);
    let short = run("100").stderr("WARN datapass-pull: The server does not page");
    assert_eq!(short.output().success().created, 10);
}

#[test]
fn a_drip_ends_at_the_deadline() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    let before = database.snapshot();
    let pause = Duration::from_millis(200);
    upstream.fault(On::pages(..), Fault::SlowBody(1, pause));
    let run = Run::cycle(&upstream, &database).args(["--timeout", "2s"]);
    let outcome = run.spawn().wait_within(Duration::from_secs(5));
    let slow = outcome.transient("deadline");
    assert!(slow.duration_ms >= 1_900, "{slow:?}");
    assert_eq!(database.snapshot(), before);
}

#[test]
fn a_column_that_the_cycle_does_not_fill_undoes_it() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    database.exec("alter table proactivite_requests add column owner text not null");
    let before = database.snapshot();
    let outcome = Run::cycle(&upstream, &database).any_stderr().output();
    outcome.permanent("database_refused");
    assert_eq!(database.snapshot(), before);
    let runs = database.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["outcome"], "permanent");
    assert_eq!(runs[0]["reason"], "database_refused");
    assert_eq!((&runs[0]["seen"], &runs[0]["pages"]), (&json!(1), &json!(1)));
}

#[test]
fn old_runs_are_pruned() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    database.exec(
        "insert into datapass_pull_runs (outcome, started_at)
         values ('success', now() - interval '401 days'),
                ('success', now() - interval '399 days')",
    );
    Run::cycle(&upstream, &database).any_stderr().output().success();
    assert_eq!(database.count("datapass_pull_runs"), 2);
}

#[test]
fn definitions_that_cannot_be_read_are_a_warning() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.fault(On::definitions(..), Fault::Status(404, &[]));
    let run = Run::cycle(&upstream, &database)
        .stderr("Cannot find out whether the account sees the definition");
    assert_eq!(run.output().success().seen, 0);
}

/// A run that stands still between two statements, as on a machine that sleeps, must not keep the
/// others from the watermark for as long as a whole cycle may take.
#[test]
fn a_transaction_is_idle_for_a_minute_at_most() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(
        "create table noted (setting text);
         create function note() returns trigger language plpgsql as $$ begin
             insert into noted values (current_setting('idle_in_transaction_session_timeout'));
             return new;
         end $$;
         create trigger note before insert on datapass_pull_runs
             for each row execute function note()",
    );
    for (timeout, seconds) in [("6h", 60.0..=60.0), ("50s", 1.0..=50.0)] {
        let run = Run::cycle(&upstream, &database).args(["--timeout", timeout]);
        run.output().success();
        let taken = "delete from noted returning extract(epoch from setting::interval)::float8";
        let noted: f64 = database.client().query_one(taken, &[]).unwrap().get(0);
        assert!(seconds.contains(&noted), "{timeout}: {noted} s");
    }
}
