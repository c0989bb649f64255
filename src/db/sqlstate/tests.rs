//! Tests of the classification, against a server that answers as a test says.

use super::*;
use crate::db::tables;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use postgres::{Client, NoTls};

/// Connects to a server that answers the start-up packet with these bytes, then closes.
fn error_after(answer: Vec<u8>, settings: &str) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut packet = [0; 1024];
        let _ = stream.read(&mut packet).unwrap();
        stream.write_all(&answer).unwrap();
    });
    let text = format!("host=127.0.0.1 port={port} user=me {settings}");
    let error = Client::connect(&text, NoTls).err().unwrap();
    server.join().unwrap();
    error
}

/// Makes the error that a server sends with these fields (protocol, section 55.8).
fn server_error(fields: &[(u8, &str)]) -> Error {
    let mut body = Vec::new();
    for (kind, value) in [(b'S', "ERROR")].iter().chain(fields) {
        body.push(*kind);
        body.extend(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    error_after(message(b'E', &body), "")
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend(body);
    message
}

fn classified(error: &Error) -> (Reason, String) {
    let failure = super::failure(Stage::Create, "test", None, error);
    assert_eq!(failure.stage, Stage::Create);
    assert!(failure.message.starts_with("Cannot test: "));
    (failure.reason, failure.error_chain())
}

#[test]
fn every_code_has_its_reason() {
    use Reason::*;
    for (codes, expected) in [
        ("08000 08001 08003 08004 08006 08007 08P01", DatabaseUnavailable),
        ("57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 25006", DatabaseUnavailable),
        ("40000 40001 40002 40003 40P01", DatabaseBusy),
        ("53000 53100 53200 53300 53400 55P03 55006 57014 25P03 25P04", DatabaseBusy),
        ("28000 28P01 3D000", DatabaseLogin),
        ("42P01 42703", TablesMissing),
        ("0A000 21000 22001 22003 22021 22P02 22P05 23502 23505 23514", DatabaseRefused),
        ("25000 25001 25P01 25P02 26000 2BP01 3F000 42501 42601 42804", DatabaseRefused),
        ("42P05 44000 54000 55000 F0000 P0001 XX000 XX001 99999", DatabaseRefused),
    ] {
        for code in codes.split(' ') {
            assert_eq!(reason(code), expected, "{code}");
        }
    }
    assert_eq!(reason(""), DatabaseRefused);
    assert_eq!(reason("é"), DatabaseRefused);
}

#[test]
fn values_are_never_shown() {
    for code in ["22P02", "23505", "23502", "P0001", "44000", "XX000", "21000"] {
        let error = server_error(&[
            (b'C', code),
            (b'M', "CANARY"),
            (b'D', "CANARY"),
            (b'H', "CANARY"),
            (b'W', "CANARY"),
            (b't', "proactivite_requests"),
            (b'c', "siret"),
            (b'n', "some_check"),
        ]);
        let (reason, text) = classified(&error);
        assert_eq!(reason, Reason::DatabaseRefused);
        assert_eq!(
            text,
            format!(
                "Cannot test: PostgreSQL answered SQLSTATE {code}, table proactivite_requests, \
                 column siret, constraint some_check"
            )
        );
    }
    // What a trigger raises under a harmless code.
    for field in [(b'W', "PL/pgSQL function f() line 1"), (b'R', "exec_stmt_raise")] {
        let error = server_error(&[(b'C', "42501"), (b'M', "CANARY"), field]);
        assert!(!classified(&error).1.contains("CANARY"));
    }
    let error = server_error(&[
        (b'C', "23505"),
        (b'M', "CANARY"),
        (b'n', "CANARY"),
        (b'R', "exec_stmt_raise"),
    ]);
    assert!(!classified(&error).1.contains("CANARY"));
    let error = server_error(&[
        (b'C', "28P01"),
        (b'M', "no\nway\u{202e}"),
        (b'D', "CANARY"),
        (b'H', "CANARY"),
    ]);
    assert_eq!(
        classified(&error),
        (
            Reason::DatabaseLogin,
            "Cannot test: PostgreSQL answered SQLSTATE 28P01, no way ".to_owned()
        )
    );
}

#[test]
fn missing_tables_and_privileges_are_reported_with_a_remedy() {
    let (reason, text) = classified(&server_error(&[
        (b'C', "42P01"),
        (b'M', "la relation « datapass_pull_runs » n'existe pas"),
    ]));
    assert_eq!(reason, Reason::TablesMissing);
    assert!(text.ends_with("run `datapass-pull migrate`"), "{text}");

    let (reason, text) = classified(&server_error(&[
        (b'C', "42703"),
        (b'M', "column \"x\" of relation \"good_jobs\" does not exist"),
    ]));
    assert_eq!(reason, Reason::DatabaseRefused);
    assert!(!text.contains("migrate"), "{text}");

    let (reason, text) = classified(&server_error(&[
        (b'C', "42501"),
        (b'M', "droit refusé pour la table datapass_pull_rejections"),
    ]));
    assert_eq!(reason, Reason::DatabaseRefused);
    assert!(text.contains("needs SELECT, INSERT, UPDATE on datapass_pull_rejections"), "{text}");
    let (_, text) = classified(&server_error(&[
        (b'C', "42501"),
        (b'M', "permission denied for sequence proactivite_requests_id_seq"),
    ]));
    assert!(text.contains("USAGE on its sequence"), "{text}");
}

#[test]
fn only_conflicts_are_retried() {
    for (code, expected) in [
        ("40001", true),
        ("40P01", true),
        ("40003", false),
        ("55P03", false),
        ("57P01", false),
        ("23505", false),
    ] {
        let error = server_error(&[(b'C', code), (b'M', "x")]);
        assert_eq!(is_conflict(&error), expected, "{code}");
    }
}

/// PgBouncer's own words, as they are in its source.
#[test]
fn a_login_refused_by_pgbouncer_is_permanent_and_other_errors_are_transient() {
    use Reason::*;
    for (message, expected, shown) in [
        ("password authentication failed", DatabaseLogin, "password authentication failed"),
        ("SASL authentication failed", DatabaseLogin, "SASL authentication failed"),
        (
            "PAM authentication failed for user \"canari\"",
            DatabaseLogin,
            "(PAM authentication failed)",
        ),
        ("no such user: CANARY", DatabaseLogin, "no such user"),
        ("no such database: CANARY", DatabaseLogin, "no such database"),
        ("database \"CANARY\" is disabled", DatabaseLogin, "database is disabled"),
        ("not allowed", DatabaseLogin, "not allowed"),
        (
            "unsupported startup parameter: options=-c CANARY",
            Configuration,
            "startup parameter options:",
        ),
        (
            "unsupported startup parameter in options: search_path",
            Configuration,
            "startup parameter search_path:",
        ),
        (
            "unsupported options startup parameter: only '-c config=val' is allowed",
            Configuration,
            "startup parameter options:",
        ),
        (
            "transaction blocks not allowed in statement pooling mode",
            DatabaseRefused,
            "set its pool_mode to transaction or session",
        ),
        (
            "Transaction blocks not allowed in statement pooling mode",
            DatabaseRefused,
            "set its pool_mode to transaction or session",
        ),
        ("SSL required", DatabaseTls, "requires TLS"),
        (
            "server login has been failing, try again later (server_login_retry)",
            DatabaseUnavailable,
            "SQLSTATE 08P01, server login has been failing",
        ),
        ("query_wait_timeout", DatabaseUnavailable, "query_wait_timeout"),
        ("no more connections allowed (max_client_conn)", DatabaseUnavailable, "max_client_conn"),
        ("invalid message format", DatabaseUnavailable, "invalid message format"),
    ] {
        let (reason, text) = classified(&server_error(&[(b'C', "08P01"), (b'M', message)]));
        assert_eq!(reason, expected, "{message}");
        assert!(text.contains(shown), "{message}: {text}");
        assert!(!text.contains("CANARY"), "{text}");
    }
}

#[test]
fn a_refused_value_is_located_without_being_shown() {
    // Class 22 has no fields for table and column.
    let table = tables::written_by("insert into proactivite_requests (siret) select 1");
    let error = server_error(&[
        (b'C', "22001"),
        (b'M', "value too long for type character varying(9)"),
        (b'D', "CANARY"),
    ]);
    let failure = super::failure(Stage::Create, "create rows", table, &error);
    assert_eq!(
        failure.message,
        "Cannot create rows: PostgreSQL answered SQLSTATE 22001, value too long for type character \
         varying(9), table proactivite_requests; `datapass-pull check` compares its columns"
    );
    let error = server_error(&[(b'C', "22003"), (b'M', "value \"CANARY\" is out of range")]);
    let failure = super::failure(Stage::Create, "create rows", table, &error);
    assert_eq!(
        failure.message,
        "Cannot create rows: PostgreSQL answered SQLSTATE 22003, table proactivite_requests; \
         `datapass-pull check` compares its columns"
    );

    // A sequence that was not restored with its table.
    let duplicate = |constraint: &str| {
        let error = server_error(&[
            (b'C', "23505"),
            (b'M', "CANARY"),
            (b't', "proactivite_requests"),
            (b'n', constraint),
        ]);
        classified(&error).1
    };
    assert!(duplicate("proactivite_requests_pkey").ends_with(
        "constraint proactivite_requests_pkey; the sequence of its id is behind the table, as after \
         a restore: run select setval(pg_get_serial_sequence('proactivite_requests', 'id'), \
         (select max(id) from proactivite_requests))"
    ));
    assert!(duplicate("index_on_siret").ends_with("constraint index_on_siret"));
}

#[test]
fn the_written_table_is_found() {
    for (sql, expected) in [
        (
            "with x as (insert into proactivite_requests (a) values (1)) select",
            Some("proactivite_requests"),
        ),
        ("INSERT INTO \"public\".\"good_jobs\" (id)", Some("good_jobs")),
        ("update datapass_pull_watermarks\nset id = 1", Some("datapass_pull_watermarks")),
        ("select 1 from proactivite_requests", None),
    ] {
        assert_eq!(tables::written_by(sql), expected, "{sql}");
    }
}

#[test]
fn errors_without_a_code_are_classified() {
    let refused = Client::connect("host=127.0.0.1 port=1 user=me", NoTls);
    let refused = refused.err().unwrap();
    let unknown = Client::connect("host=host.invalid user=me", NoTls).err().unwrap();
    for (error, expected, words) in [
        (&refused, Reason::DatabaseUnavailable, "refused"),
        (&unknown, Reason::DatabaseUnavailable, "lookup"),
        (&error_after(Vec::new(), ""), Reason::DatabaseUnavailable, ""),
        (
            // A key that means nothing at this point.
            &error_after(message(b'n', &[]), ""),
            Reason::DatabaseUnavailable,
            "unexpected message",
        ),
        (&error_after(message(b'E', b"no fields"), ""), Reason::DatabaseUnavailable, ""),
        (
            // Authentication by a clear-text password, of which there is none.
            &error_after(message(b'R', &3_u32.to_be_bytes()), ""),
            Reason::DatabaseLogin,
            "password missing",
        ),
        (
            // GSSAPI.
            &error_after(message(b'R', &7_u32.to_be_bytes()), ""),
            Reason::DatabaseLogin,
            "authentication",
        ),
        (&error_after(b"N".to_vec(), "sslmode=require"), Reason::DatabaseTls, "no TLS"),
        (
            &"nonsense=CANARY".parse::<postgres::Config>().unwrap_err(),
            Reason::Configuration,
            "DATABASE_URL",
        ),
    ] {
        let (reason, text) = classified(error);
        assert_eq!(reason, expected, "{text}");
        assert!(text.contains(words), "{text}");
        assert!(!text.contains("CANARY"), "{text}");
        assert!(!is_conflict(error), "{text}");
    }
}

#[test]
fn long_messages_are_truncated() {
    assert_eq!(printable(&"é".repeat(300)).chars().count(), 300);
    assert_eq!(printable(&"é".repeat(301)).chars().count(), 301);
    assert!(printable(&"é".repeat(301)).ends_with('…'));
}
