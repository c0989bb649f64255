//! Encodings of HTTP bodies: compression, byte-order marks, and bodies that are not JSON.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::*;
use crate::tls::{Authority, named, upstream as tls_upstream};

/// Makes a fake DataPass with one demande, and a database.
fn scene() -> (DataPass, Database) {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    (upstream, database)
}

fn run(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database).args(["--enqueue", "none", "--max-retries", "0"])
}

/// Compresses a body into this many gzip members.
fn gzip(body: &[u8], members: usize) -> Vec<u8> {
    let compressed = body.chunks(body.len().div_ceil(members)).map(|part| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    });
    compressed.collect::<Vec<_>>().concat()
}

/// Makes a fault that compresses the body and sends this `Content-Encoding`.
fn compressed(coding: &'static str, members: usize) -> Fault {
    Fault::edit(move |response| {
        response.body = gzip(&response.body, members);
        response.set_header("Content-Encoding", coding);
    })
}

#[test]
fn gzip_is_accepted_under_both_names_in_any_case_with_any_number_of_members() {
    let (upstream, database) = scene();
    for (coding, members) in
        [("gzip", 1), ("GZIP", 1), ("x-gzip", 1), ("X-GZip", 3), ("gzip", 2), ("identity, gzip", 1)]
    {
        for on in [On::tokens(..), On::pages(..)] {
            upstream.clear_rules();
            upstream.fault(on, compressed(coding, members));
            let summary = run(&upstream, &database).output().success();
            assert_eq!(summary.seen, 1, "{coding} {members}");
        }
    }
    upstream.clear_rules();
    let plain = Fault::edit(|response| response.set_header("Content-Encoding", "Identity"));
    upstream.fault(On::pages(..), plain);
    assert_eq!(run(&upstream, &database).output().success().seen, 1);
    for request in upstream.requests() {
        assert_eq!(request.header("accept-encoding"), Some("gzip"));
    }
}

#[test]
fn an_unsupported_content_encoding_is_permanent_and_named() {
    let (upstream, database) = scene();
    for (coding, name) in [
        ("br", "br"),
        ("Deflate", "deflate"),
        ("gzip, zstd", "zstd"),
        ("gzip, gzip", "gzip twice"),
        ("canari", "(unknown)"),
    ] {
        for on in [On::tokens(..), On::pages(..)] {
            upstream.clear_rules();
            upstream.fault(on, compressed(coding, 1));
            let outcome = run(&upstream, &database).output();
            outcome.permanent("wrong_shape");
            let message = format!("the body has the Content-Encoding {name}; only gzip");
            assert!(outcome.stderr.contains(&message), "{}", outcome.stderr);
        }
    }
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn a_compressed_body_that_is_truncated_or_corrupt_is_transient() {
    let (upstream, database) = scene();
    let damages: [(&str, Damage); 4] = [
        ("truncated", |body| body.truncate(body.len() - 9)),
        ("corrupt", |body| body[20] ^= 0xff),
        ("wrong checksum", |body| *body.last_mut().unwrap() ^= 1),
        ("empty", Vec::clear),
    ];
    for (name, damage) in damages {
        for on in [On::tokens(..), On::pages(..)] {
            upstream.clear_rules();
            let fault = Fault::edit(move |response| {
                response.body = gzip(&response.body, 2);
                damage(&mut response.body);
                response.set_header("Content-Encoding", "gzip");
            });
            upstream.fault(on, fault);
            let outcome = run(&upstream, &database).output();
            outcome.transient("bad_body");
            let message = "the body could not be read to its end";
            assert!(outcome.stderr.contains(message), "{name}: {}", outcome.stderr);
        }
    }
}

#[test]
fn a_byte_order_mark_before_json_is_removed() {
    let (upstream, database) = scene();
    let marked = || Fault::edit(|response| drop(response.body.splice(..0, *b"\xef\xbb\xbf")));
    upstream.fault(On::tokens(..), marked());
    upstream.fault(On::definitions(..), marked());
    upstream.with(|state| state.clear());
    run(&upstream, &database).output().success();
    assert_eq!(upstream.requests_of(Endpoint::Definitions).len(), 1);
    // The check found the definition.
    let check = Run::new(["check"]).upstream(&upstream).database(&database);
    let outcome = check.any_stderr().output();
    assert!(outcome.stdout.contains("ok   definition"), "{}", outcome.stdout);
}

#[test]
fn a_byte_order_mark_in_a_secret_or_certificate_file_is_removed() {
    let (authority, database) = (Authority::new(), Database::migrated());
    let upstream = tls_upstream(&authority, &named("localhost", 2001, 2100), "localhost");
    let marked = |name: &str, content: &str| {
        let path = authority.file().with_file_name(name);
        std::fs::write(&path, format!("\u{feff}{content}\r\n")).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    };
    let certificate = std::fs::read_to_string(authority.file()).unwrap();
    run(&upstream, &database)
        .env_remove("DATAPASS_CLIENT_SECRET")
        .env("DATAPASS_CLIENT_SECRET_FILE", marked("secret", &upstream.credentials().1))
        .env("DATAPASS_CA_FILE", marked("marked.pem", &certificate))
        .output()
        .success();
}

#[test]
fn a_response_whose_status_allows_no_body_is_permanent() {
    let (upstream, database) = scene();
    for status in [204, 205] {
        for on in [On::tokens(..), On::pages(..)] {
            upstream.clear_rules();
            let empty = Fault::Response(status, "application/json", Vec::new());
            upstream.fault(on, empty);
            let outcome = run(&upstream, &database).output();
            outcome.permanent("wrong_shape");
            let message = format!(" answered {status}: it has no body");
            assert!(outcome.stderr.contains(&message), "{}", outcome.stderr);
        }
    }
}

#[test]
fn a_form_encoded_token_is_permanent() {
    let (upstream, database) = scene();
    for kind in ["application/x-www-form-urlencoded", "text/plain"] {
        let body = "access_token=canari&scope=public+read&token_type=bearer";
        upstream.clear_rules();
        upstream.fault(On::tokens(..), Fault::Response(200, kind, body.into()));
        let outcome = run(&upstream, &database).output();
        outcome.permanent("wrong_shape");
        let message = "the body is form-encoded, not JSON";
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    }
}
