//! Leaks from error messages of PostgreSQL, which may quote a row.

use super::{assert_no_leak, entry};
use crate::harness::*;

#[test]
fn errors_and_warnings_of_postgresql_do_not_leak_a_row() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_4);
    // Ids are not secret and are stored; here an id represents any value of a row.
    upstream.add(entry(1).public_id(Some("canari-1")));
    upstream.add(entry(2).public_id(Some("2")).siret("1"));
    let raise = |table: &str, when: &str, code: &str| {
        format!(
            "create function say() returns trigger language plpgsql as $$ begin
                 raise exception using errcode = '{code}', message = 'canari ' || new::text,
                     detail = 'canari', hint = 'canari', column = 'canari', table = 'canari',
                     constraint = 'canari', datatype = 'canari', schema = 'canari';
             end $$;
             create trigger say {when} on {table} for each row execute function say()"
        )
    };
    let drop_trigger = "drop function say cascade";
    let requests = "proactivite_requests";
    let altered = |what: &str| format!("alter table {requests} {what}");
    let mut cases: Vec<(i32, String, String)> = vec![
        (
            1,
            altered("add constraint c check (datapass_demande_id < 0)"),
            altered("drop constraint c"),
        ),
        (
            1,
            altered("add c bigint generated always as (datapass_authorization_id::bigint) stored"),
            altered("drop c"),
        ),
        (
            1,
            altered("alter datapass_authorization_id type varchar(3)"),
            altered("alter datapass_authorization_id type text"),
        ),
        (
            1,
            format!(
                "create unique index c on {requests} ((1));
                 insert into {requests} (datapass_authorization_id) values ('x')"
            ),
            format!("drop index c; delete from {requests}"),
        ),
        (
            1,
            "create function say() returns trigger language plpgsql as $$ begin
                 execute 'select ' || quote_ident(new.datapass_authorization_id);
             end $$;
             create trigger say before insert on proactivite_requests
                 for each row execute function say()"
                .to_owned(),
            drop_trigger.to_owned(),
        ),
    ];
    for (code, errcodes) in [
        (1, &["P0001", "23505", "22P02", "42501", "42P01", "42703", "28000", "3D000", "XX000"][..]),
        (2, &["40001", "08006", "53100", "55P03", "57014", "57P01", "25006", "58030"]),
    ] {
        for errcode in errcodes {
            let make = raise(requests, "before insert", errcode);
            cases.push((code, make, drop_trigger.to_owned()));
        }
    }
    for (table, when) in [
        ("good_jobs", "before insert"),
        ("datapass_pull_rejections", "before insert"),
        ("datapass_pull_runs", "before insert"),
        ("datapass_pull_watermarks", "before update"),
        (requests, "after insert"),
    ] {
        cases.push((1, raise(table, when, "P0001"), drop_trigger.to_owned()));
    }
    for ((code, make, undo), format) in cases.into_iter().zip(["text", "json"].into_iter().cycle())
    {
        database.exec(&make);
        let run = Run::cycle(&upstream, &database);
        assert_no_leak(&make, &database, code, &run, format);
        database.exec(&undo);
    }
    // Warnings and notices of the server are not logged.
    database.exec(
        "create function say() returns trigger language plpgsql as $$ begin
             raise warning 'canari %', new; raise notice 'canari'; raise log 'canari';
             return new;
         end $$;
         create trigger say before insert on datapass_pull_runs
             for each row execute function say()",
    );
    let run = Run::cycle(&upstream, &database).arg("--dry-run");
    assert_no_leak("a dry run", &database, 0, &run, "text");
    upstream.with(|upstream| upstream.remove(1));
    let run = Run::cycle(&upstream, &database);
    assert_no_leak("warnings", &database, 0, &run, "text");

    let rails = Database::empty();
    rails.exec(
        "create table proactivite_requests (id bigserial, external_request_id text);
         insert into proactivite_requests (external_request_id) values ('Canari'), ('Canari')",
    );
    for args in [&["migrate"][..], &["migrate", "--yes"]] {
        let outcome = Run::new(args.to_vec()).database(&rails).arg("-vvv").any_stderr().output();
        outcome.assert_code(1);
    }
}
