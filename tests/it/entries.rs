//! Entries and rows: what a row holds, why an entry is rejected, which entries have the same row.

use serde_json::{Value, json};

use crate::harness::datapass::Clock;
use crate::harness::*;

#[test]
fn a_row_in_an_upgraded_rails_table_holds_the_listed_values_with_utc_times() {
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
fn every_reason_to_reject_an_entry_names_its_field_without_the_value() {
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
fn the_watermark_is_never_later_than_the_clock_of_datapass_and_never_decreases() {
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
fn a_row_is_unchanged_when_its_entry_is_validated_again() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 10));
    let run = || Run::cycle(&upstream, &database).any_stderr();
    run().output().success();
    let before = database.snapshot()["proactivite_requests"].clone();
    upstream.with(|upstream| {
        upstream.validate(1, minute(500));
        // An entry with a row is existing, even if it is invalid now.
        upstream.edit(1, |shown| shown["organisation"]["siret"] = json!("1"));
    });
    let summary = run().output().success();
    assert_eq!((summary.existing, summary.revalidated), (1, 1));
    assert_eq!((summary.rejected, summary.watermark), (0, Some(minute(500))));
    assert_eq!(database.snapshot()["proactivite_requests"], before);
}

#[test]
fn two_demandes_with_the_same_public_id_create_one_row() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 20).public_id(Some("ABC123")));
    upstream.add(validated(2, 10).public_id(Some("ABC123")));
    let run = Run::cycle(&upstream, &database).any_stderr();
    let summary = run.output().success();
    assert_eq!((summary.created, summary.existing), (1, 1));
    assert_eq!(database.requests()[0].datapass_demande_id, Some(2));
}
