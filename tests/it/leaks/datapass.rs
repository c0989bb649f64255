//! Leaks from responses of DataPass, or of a server in its place.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use super::{assert_no_leak, assert_no_leak_in_both, entry};
use crate::harness::datapass::Response;
use crate::harness::*;

#[test]
fn responses_of_datapass_leak_nothing() {
    let database = Database::migrated();
    let url = "https://canari:canari@nowhere.invalid/canari?token=canari#canari";
    let personal = json!([{"applicant": {"email": "canari@example.test"}}, "canari", 1, null]);
    let error = json!({"error": "invalid_client", "error_description": "canari", "canari": 1});
    let mut faults: Vec<(On, i32, Fault)> = Vec::new();
    for (status, token_code, page_code) in
        [(302, 1, 1), (400, 1, 1), (401, 2, 2), (403, 1, 1), (422, 1, 1), (429, 2, 2), (500, 2, 2)]
    {
        let response = move |on, code, body: &Value| {
            let body = body.to_string().into_bytes();
            let fault = Fault::edit(move |response: &mut Response| {
                *response = Response::new(status, "application/json", body.clone());
                for name in ["Location", "WWW-Authenticate", "Retry-After", "Date", "Set-Cookie"] {
                    response.set_header(name, if name == "Location" { url } else { "canari" });
                }
            });
            (on, code, fault)
        };
        faults.push(response(On::tokens(1..), token_code, &error));
        faults.push(response(On::pages(1..), page_code, &personal));
    }
    for (on, code, fault) in [
        (
            On::tokens(1..),
            1,
            Fault::Response(400, "application/json", br#"{"error": "canari"}"#.to_vec()),
        ),
        (On::tokens(1..), 1, Fault::json(r#"{"access_token": {"canari": "canari"}}"#)),
        (On::tokens(1..), 1, Fault::json(r#"{"access_token": "canari canari"}"#)),
        (On::tokens(1..), 1, Fault::json(r#"{"access_token": "canari\r\nX: canari"}"#)),
        (On::tokens(1..), 1, Fault::json(r#"{"access_token": "x", "token_type": "canari"}"#)),
        (On::tokens(1..), 2, Fault::json("{canari")),
        (On::pages(1..), 2, Fault::html()),
        (On::pages(1..), 2, Fault::json("canari")),
        (On::pages(1..), 1, Fault::json(r#"{"canari": "canari"}"#)),
        (On::pages(1..), 1, Fault::json(r#""canari""#)),
        (On::pages(1..), 2, Fault::json(r#"[{"id": 1, "canari": "canari"#)),
        (On::pages(1..), 2, Fault::json("[{\"canari\\qcanari\": 1}]")),
        (On::pages(1..), 2, Fault::TruncateBody(300)),
        (On::pages(1..), 2, Fault::WrongContentLength(300)),
        (On::pages(1..), 2, Fault::InvalidChunkSize("canari")),
        (On::pages(1..), 2, Fault::NotHttp(b"canari".to_vec())),
        (On::pages(1..), 2, Fault::NotHttp(b"HTTP/1.1 canari\r\n\r\n".to_vec())),
        (On::pages(1..), 2, Fault::NotHttp(b"HTTP/1.1 200 OK\r\ncanari\r\n\r\n".to_vec())),
        (On::definitions(1..), 0, Fault::json(r#"[{"id": {"canari": 1}}]"#)),
        (On::definitions(1..), 0, Fault::Response(500, "text/html", b"canari".to_vec())),
        (On::definitions(1..), 1, Fault::json(r#"[{"id": "canari", "name": "canari"}]"#)),
    ] {
        faults.push((on, code, fault));
    }
    for (on, code, fault) in faults {
        let name = format!("{on:?} {fault:?}");
        let upstream = DataPass::start();
        if !name.contains("Definitions") {
            upstream.add(entry(1));
        }
        upstream.fault(on, fault);
        assert_no_leak_in_both(&name, &upstream, &database, code, |run| run);
    }
}

/// Starts a server that sends the same bytes on each connection; returns its port.
fn serve_bytes(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(bytes);
        }
    });
    port
}

#[test]
fn the_credentials_of_a_proxy_do_not_leak() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let refusing = serve_bytes(
        b"HTTP/1.1 407 canari\r\nProxy-Authenticate: Basic realm=\"canari\"\r\n\
          Content-Length: 6\r\nConnection: close\r\n\r\ncanari",
    );
    let not_http = serve_bytes(b"canari canari\r\n\r\n");
    for (code, proxy) in [
        (2, "http://canari:canari@127.0.0.1:1".to_owned()),
        (1, format!("http://me:canari%40canari@127.0.0.1:{refusing}")),
        (2, format!("http://canari:canari@127.0.0.1:{not_http}")),
        (2, "http://canari:canari@nowhere.invalid:80".to_owned()),
        (1, "http://canari:canari@[::1".to_owned()),
        (1, "canari:canari@".to_owned()),
        (1, "socks5://canari:canari@127.0.0.1:1".to_owned()),
    ] {
        for scheme in ["http", "https"] {
            let run = Run::cycle(&upstream, &database)
                .env("DATAPASS_AUTH_URL", format!("{scheme}://nowhere.invalid/token"))
                .env("DATAPASS_API_BASE_URL", format!("{scheme}://nowhere.invalid/api"))
                .env("DATAPASS_ALLOW_HTTP", "1")
                .env("HTTP_PROXY", &proxy)
                .env("http_proxy", &proxy)
                .env("HTTPS_PROXY", &proxy);
            assert_no_leak(&format!("{scheme} by {proxy}"), &database, code, &run, "json");
        }
    }
}

/// Replaces every value with a canary, except those at the `kept` paths.
fn insert_canaries(value: &mut Value, path: &str, kept: &[&str]) {
    match value {
        Value::Object(map) => {
            map.insert("canari".to_owned(), json!("canari"));
            for (name, value) in map {
                insert_canaries(value, &format!("{path}.{name}"), kept);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|it| insert_canaries(it, path, kept)),
        _ if kept.contains(&path) => {}
        _ => *value = json!("canari\u{0}\n canari"),
    }
}

#[test]
fn an_entry_with_a_canary_in_every_field_does_not_leak() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let named = [".public_id", ".created_at"];
    let kept: BTreeMap<i64, Vec<&str>> = [
        (1, vec![".id"]),
        (2, vec![".id", ".definition_id"]),
        (3, vec![".id", ".definition_id", ".last_validated_at"]),
        (4, vec![".definition_id", ".last_validated_at"]),
        (5, vec![".id", ".definition_id", ".last_validated_at", ".state", ".organisation.siret"]),
    ]
    .into();
    for (id, kept) in kept {
        upstream.add(entry(id));
        let kept = [&kept[..], &named].concat();
        upstream.with(|upstream| upstream.edit(id, |shown| insert_canaries(shown, "", &kept)));
    }
    upstream.add(entry(6).public_id(None));
    upstream
        .with(|upstream| upstream.edit(6, |shown| insert_canaries(shown, "", &[".definition_id"])));
    let created = at("2026-05-01T10:00:00Z");
    upstream.with(|upstream| upstream.add_raw(7, created, json!(["canari"])));
    assert_no_leak_in_both("spoilt entries", &upstream, &database, 0, |run| run);
    // The first entry is of another definition.
    assert_eq!(database.rejections().len(), 6);
    for args in [&["status"][..], &["rejected", "list"]] {
        let run = Run::new(args.to_vec()).database(&database);
        assert_no_leak(&format!("{args:?}"), &database, 0, &run, "json");
    }
}
