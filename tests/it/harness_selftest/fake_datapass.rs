//! The fake DataPass behaves like the real one, and misbehaves on demand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use chrono::TimeDelta;
use flate2::read::MultiGzDecoder;
use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT_ENCODING, HeaderValue};
use serde_json::{Value, json};

use crate::harness::datapass::{Clock, Endpoint, Ties, paris, siret};
use crate::harness::{DataPass, Demande, Fault, On, at};

fn client() -> Client {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No root certificates: the tests use only plain HTTP.
    Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .default_headers(
            [(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))].into_iter().collect(),
        )
        .build()
        .unwrap()
}

fn ask_token(upstream: &DataPass, secret: &str, grant: &str) -> Response {
    let (id, _) = upstream.credentials();
    let form = [("grant_type", grant), ("client_id", &id), ("client_secret", secret)];
    client().post(upstream.auth_url()).form(&form).send().unwrap()
}

fn token(upstream: &DataPass) -> String {
    let response = ask_token(upstream, &upstream.credentials().1, "client_credentials");
    let body: Value = response.json().unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

fn get(upstream: &DataPass, token: &str, target: &str) -> reqwest::Result<Response> {
    client().get(format!("{}{target}", upstream.api_base_url())).bearer_auth(token).send()
}

fn ids(upstream: &DataPass, token: &str, query: &str) -> Vec<i64> {
    let response = get(upstream, token, &format!("/demandes?{query}")).unwrap();
    assert_eq!(response.status(), 200);
    let rows: Vec<Value> = response.json().unwrap();
    rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

#[test]
fn the_listing_is_newest_first_in_pages_up_to_the_largest_size() {
    let upstream = DataPass::start();
    for id in [3, 1, 12, 2, 11, 10, 9, 8, 7, 6, 5, 4] {
        upstream.add(Demande::cnous(id));
    }
    upstream.add(Demande::cnous(13).state("draft"));
    upstream.add(Demande::cnous(14).definition("not_ours"));
    let token = token(&upstream);
    let all: Vec<i64> = (1..=12).rev().collect();
    assert_eq!(ids(&upstream, &token, "state%5B%5D=validated"), all[..10]);
    assert_eq!(ids(&upstream, &token, "state[]=validated&limit=5&offset=10"), all[10..]);
    assert_eq!(ids(&upstream, &token, "state[]=validated&limit=5&offset=12"), [0_i64; 0]);
    assert_eq!(ids(&upstream, &token, "state[]=draft&state[]=revoked&limit=5"), [13]);
    upstream.with(|state| state.cap = 4);
    assert_eq!(ids(&upstream, &token, "state[]=validated&limit=1000"), all[..4]);
    upstream.with(|state| state.definitions.clear());
    assert_eq!(ids(&upstream, &token, "state[]=validated"), [0_i64; 0]);
}

#[test]
fn ties_swap_between_requests_on_demand() {
    let upstream = DataPass::start();
    let time = at("2026-02-01T00:00:00Z");
    upstream.add(Demande::cnous(1).created(time - TimeDelta::seconds(1)));
    for id in 2..=4 {
        upstream.add(Demande::cnous(id).created(time));
    }
    let token = token(&upstream);
    let orders = |_| ids(&upstream, &token, "state[]=validated");
    assert_eq!([0, 0].map(orders), [[4, 3, 2, 1], [4, 3, 2, 1]]);
    upstream.with(|state| state.ties = Ties::Swapping);
    assert_eq!([0, 0].map(orders), [[4, 3, 2, 1], [2, 3, 4, 1]]);
}

#[test]
fn tokens_expire_and_are_revoked() {
    let upstream = DataPass::start();
    upstream.with(|state| state.clock = Clock::Fixed(at("2026-03-01T12:00:00Z")));
    let good = token(&upstream);
    let status = |token: &str| get(&upstream, token, "/definitions").unwrap().status().as_u16();
    assert_eq!((status(&good), status("unknown")), (200, 401));
    upstream.with(|state| state.clock = Clock::Fixed(at("2026-03-01T13:59:59Z")));
    assert_eq!(status(&good), 200);
    upstream.with(|state| state.clock = Clock::Fixed(at("2026-03-01T14:00:00Z")));
    assert_eq!(status(&good), 401);
    let good = token(&upstream);
    upstream.with(|state| state.revoke_tokens());
    assert_eq!(status(&good), 422);
    upstream.with(|state| state.scope = false);
    assert_eq!(status(&token(&upstream)), 422);
    let response = get(&upstream, "unknown", "/demandes").unwrap();
    assert_eq!(response.headers()["date"], "Sun, 01 Mar 2026 14:00:00 GMT");
    let body: Value = response.json().unwrap();
    assert_eq!(body["errors"][0]["status"], "401");
}

#[test]
fn the_token_endpoint_refuses_as_doorkeeper_does() {
    let upstream = DataPass::start();
    let (_, secret) = upstream.credentials();
    let error = |secret: &str, grant: &str| {
        let response = ask_token(&upstream, secret, grant);
        let status = response.status().as_u16();
        let body: Value = response.json().unwrap();
        (status, body["error"].as_str().unwrap_or("none").to_owned())
    };
    assert_eq!(error("wrong", "client_credentials"), (401, "invalid_client".to_owned()));
    assert_eq!(error(&secret, "password"), (400, "unsupported_grant_type".to_owned()));
    assert_eq!(error(&secret, "client_credentials"), (200, "none".to_owned()));
    upstream.with(|state| state.expires_in = false);
    let body: Value = ask_token(&upstream, &secret, "client_credentials").json().unwrap();
    assert_eq!(body.get("expires_in"), None);
}

#[test]
fn a_demande_is_listed_only_while_it_is_validated() {
    let upstream = DataPass::start();
    upstream.add(Demande::cnous(1));
    upstream.add(Demande::cnous(2).never_validated());
    upstream.add(Demande::other(3));
    assert_eq!(upstream.with(|state| state.listed()), [3, 2, 1]);
    upstream.with(|state| {
        state.reopen(1);
        state.revoke(2);
        state.remove(3);
    });
    assert_eq!(upstream.with(|state| state.listed()), [0_i64; 0]);
    upstream.with(|state| {
        state.validate(1, at("2026-07-01T10:00:00.123456Z"));
        state.edit(1, |shown| shown["organisation"] = json!(42));
        state.add_raw(9, at("2020-01-01T00:00:00Z"), json!("nonsense"));
    });
    let response = get(&upstream, &token(&upstream), "/demandes?state[]=validated").unwrap();
    let rows: Vec<Value> = response.json().unwrap();
    assert_eq!(rows[0]["last_validated_at"], "2026-07-01T12:00:00.123+02:00");
    assert_eq!((&rows[0]["organisation"], &rows[1]), (&json!(42), &json!("nonsense")));
}

#[test]
fn times_and_check_digits_are_correct() {
    for (utc, shown) in [
        ("2026-03-29T00:59:59.999Z", "2026-03-29T01:59:59.999+01:00"),
        ("2026-03-29T01:00:00Z", "2026-03-29T03:00:00.000+02:00"),
        ("2026-10-25T00:59:59Z", "2026-10-25T02:59:59.000+02:00"),
        ("2026-10-25T01:00:00Z", "2026-10-25T02:00:00.000+01:00"),
        ("2025-06-19T17:36:36.2989Z", "2025-06-19T19:36:36.298+02:00"),
    ] {
        assert_eq!(paris(at(utc)), shown);
    }
    // DINUM's own number.
    assert_eq!(siret(1_300_252_650_001), "13002526500013");
}

#[test]
fn hooks_and_gates_apply_to_the_selected_requests_and_all_are_recorded() {
    let upstream = DataPass::start();
    (1..=3).for_each(|id| upstream.add(Demande::cnous(id)));
    let token = token(&upstream);
    let _ = ids(&upstream, &token, "limit=1");
    upstream.take_requests();
    upstream.before(On::page(2), |state| state.revoke(3));
    assert_eq!(ids(&upstream, &token, "limit=9"), [3, 2, 1]);
    assert_eq!(ids(&upstream, &token, "state[]=validated&limit=9"), [2, 1]);

    let gate = upstream.gate(On::page(1));
    thread::scope(|scope| {
        let held = scope.spawn(|| ids(&upstream, &token, "limit=2&offset=1"));
        gate.reached();
        assert!(!held.is_finished());
        upstream.with(|state| state.clear());
        gate.open();
        assert_eq!(held.join().unwrap(), [0_i64; 0]);
    });
    let requests = upstream.requests_of(Endpoint::Listing);
    assert_eq!(requests.len(), 3);
    assert_eq!((requests[2].number("limit"), requests[2].number("offset")), (Some(2), Some(1)));
    assert_eq!(requests[1].params("state[]"), ["validated"]);
    assert_eq!(requests[0].header("authorization"), Some(format!("Bearer {token}").as_str()));
}

#[test]
fn a_connection_is_kept_alive() {
    let upstream = DataPass::start();
    let mut socket = TcpStream::connect(upstream.address()).unwrap();
    for _ in 0..2 {
        socket.write_all(b"GET /api/v1/demandes HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut head = [0; 12];
        socket.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 401");
        let mut rest = Vec::new();
        while !rest.ends_with(b"}]}") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            rest.push(byte[0]);
        }
    }
    let connections: Vec<u64> = upstream.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [1, 1]);
}

/// Returns status and length of a response; none when a client cannot read it.
fn read(upstream: &DataPass, token: &str) -> Option<(u16, usize)> {
    let response = get(upstream, token, "/demandes?limit=9").ok()?;
    let status = response.status().as_u16();
    Some((status, decoded(response)?.len()))
}

fn decoded(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    match response.headers().contains_key("content-encoding") {
        true => MultiGzDecoder::new(response).read_to_end(&mut body).ok()?,
        false => response.read_to_end(&mut body).ok()?,
    };
    Some(body)
}

#[test]
fn a_fault_changes_only_the_selected_response() {
    let upstream = DataPass::start();
    (1..=9).for_each(|id| upstream.add(Demande::cnous(id)));
    let token = token(&upstream);
    let (_, whole) = read(&upstream, &token).unwrap();
    for (fault, expected) in [
        (Fault::CloseBeforeResponse, None),
        (Fault::TruncateBody(100), None),
        (Fault::WrongContentLength(10), None),
        (Fault::NotHttp(b"\x00\x01SSH-2.0\r\n\r\n".to_vec()), None),
        (Fault::InvalidChunkSize("zz"), None),
        (Fault::InvalidChunkSize("fffffffffffffffff"), None),
        (Fault::SlowBody(4000, Duration::from_millis(1)), Some((200, whole))),
        (Fault::Delay(Duration::from_millis(1)), Some((200, whole))),
        (Fault::json("{}"), Some((200, 2))),
        (Fault::Redirect("http://127.0.0.1:1/".to_owned()), Some((302, 0))),
        (Fault::edit(|response| response.body.truncate(7)), Some((200, 7))),
        (Fault::DecompressionBomb(3), Some((200, (3 << 20) + 2))),
    ] {
        let name = format!("{fault:?}");
        upstream.fault(On::page(1), fault);
        assert_eq!(read(&upstream, &token), expected, "{name}");
        assert_eq!(read(&upstream, &token), Some((200, whole)), "after {name}");
    }
    upstream.fault(On::pages(..), Fault::Status(429, &[("Retry-After", "7")]));
    let response = get(&upstream, &token, "/demandes").unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    upstream.clear_rules();
    upstream.with(|state| (state.gzip, state.date) = (true, false));
    let response = get(&upstream, &token, "/demandes?limit=9").unwrap();
    assert!(!response.headers().contains_key("date"));
    assert!(response.headers().contains_key("content-encoding"));
    assert_eq!(decoded(response).unwrap().len(), whole);
}

#[test]
fn a_missing_or_stalled_response_lasts_until_the_client_times_out() {
    let upstream = DataPass::start();
    (1..=9).for_each(|id| upstream.add(Demande::cnous(id)));
    let token = token(&upstream);
    for fault in [Fault::NoResponse, Fault::Stall(50)] {
        upstream.clear_rules();
        upstream.fault(On::pages(..), fault);
        let request = client()
            .get(format!("{}/demandes", upstream.api_base_url()))
            .bearer_auth(&token)
            .timeout(Duration::from_millis(200));
        let error = request.send().and_then(Response::bytes).unwrap_err();
        assert!(error.is_timeout());
    }
}
