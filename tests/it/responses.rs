//! How a cycle reacts to responses of DataPass: access to the definition, retries, tokens.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::harness::datapass::{Clock, DEFINITION, Endpoint};
use crate::harness::*;

/// Makes a demande whose id gives its time of creation.
fn demande(id: i64) -> Demande {
    let start: DateTime<Utc> = at("2026-05-18T10:00:00.123Z");
    Demande::cnous(id)
        .created(start + TimeDelta::minutes(id - 100_000))
        .validated(start + TimeDelta::minutes(id))
}

/// Starts a fake DataPass with this many demandes.
fn datapass(demandes: i64) -> DataPass {
    let upstream = DataPass::start();
    (1..=demandes).for_each(|id| upstream.add(demande(id)));
    upstream
}

fn cycle(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database).env("DATAPASS_ENQUEUE", "none")
}

fn count(upstream: &DataPass, kind: Endpoint) -> usize {
    upstream.requests_of(kind).len()
}

#[test]
fn only_a_listed_demande_of_the_definition_proves_access_to_it() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let without_it = Fault::json(r#"[{"id":"api_particulier","name":"canari"}]"#);
    let run = || cycle(&upstream, &database).any_stderr().output();
    let before = database.snapshot();
    upstream.fault(On::definitions(..), without_it.clone());

    upstream.add(Demande::other(1));
    run().permanent("no_definition");
    upstream.add(demande(2));
    upstream.with(|upstream| upstream.edit(2, |shown| shown["definition_id"] = 7.into()));
    assert_eq!(run().permanent("no_definition").seen, 2);
    assert_eq!(database.snapshot(), before);
    assert_eq!(count(&upstream, Endpoint::Definitions), 2);

    upstream.with(|upstream| upstream.edit(2, |shown| shown["definition_id"] = DEFINITION.into()));
    assert_eq!(run().success().created, 1);
    assert_eq!(count(&upstream, Endpoint::Definitions), 2, "no request for a listed definition");
}

#[test]
fn each_request_is_retried_max_retries_times() {
    let database = Database::migrated();
    for (on, kind, reason) in [
        (On::tokens(..), Endpoint::Token, "server_error"),
        (On::pages(2..), Endpoint::Listing, "server_error"),
    ] {
        let upstream = datapass(30);
        upstream.fault(on, Fault::Status(502, &[]));
        let run = cycle(&upstream, &database)
            .args(["--max-retries", "1", "--page-size", "25"])
            .args(["--concurrency", "1"]);
        run.any_stderr().output().transient(reason);
        // The first page has no fault.
        let expected = if kind == Endpoint::Token { 2 } else { 3 };
        assert_eq!(count(&upstream, kind), expected, "{kind:?}");
    }
}

#[test]
fn a_signal_ends_the_wait_before_a_retry() {
    let (upstream, database) = (datapass(1), Database::migrated());
    for on in [On::tokens(..), On::pages(..)] {
        upstream.clear_rules();
        upstream.fault(on, Fault::Status(503, &[("Retry-After", "60")]));
        let mut terminal = cycle(&upstream, &database).on_terminal();
        terminal.wait_for("; retrying in 6");
        terminal.press("\x03");
        // The run ends before the wait does.
        let (code, screen) = terminal.end();
        assert_eq!(code, 2, "{screen}");
        assert!(screen.contains("reason=interrupted"), "{screen}");
    }
}

#[test]
fn a_response_that_is_too_large_is_reported_with_its_limit() {
    let (upstream, database) = (datapass(1), Database::migrated());
    for (on, limit) in [(On::page(1), "64 MiB"), (On::token(1), "4 MiB")] {
        upstream.fault(on, Fault::DecompressionBomb(65));
        let outcome = cycle(&upstream, &database).output();
        outcome.permanent("too_large");
        let expected = format!("larger than {limit} once decoded");
        assert!(outcome.stderr.contains(&expected), "{}", outcome.stderr);
    }
}

#[test]
fn a_refused_token_request_is_not_retried() {
    let database = Database::migrated();
    for (status, code) in [(401, 2), (400, 1), (403, 1), (422, 1)] {
        let upstream = datapass(1);
        upstream.fault(On::tokens(..), Fault::Status(status, &[]));
        let outcome = cycle(&upstream, &database).any_stderr().output();
        outcome.assert_code(code);
        assert_eq!(upstream.requests().len(), 1, "{status}");
    }
}

#[test]
fn retry_after_may_be_a_date_and_applies_to_429_and_503_only() {
    let database = Database::migrated();
    let cases = [
        (429, "Mon, 18 May 2026 10:00:03 GMT", 3000),
        (503, "Mon, 18 May 2026 10:00:03 GMT", 3000),
        // A date in the past
        (503, "Mon, 18 May 2026 09:00:00 GMT", 1000),
        (500, "3600", 1000),
        (408, "3600", 1000),
    ];
    let runs = cases.map(|(status, retry_after, _)| {
        let upstream = datapass(1);
        let fault = Fault::edit(move |response| {
            response.status = status;
            // The date is compared with the server's clock.
            response.set_header("Date", "Mon, 18 May 2026 10:00:00 GMT");
            response.set_header("Retry-After", retry_after);
        });
        upstream.fault(On::page(1), fault);
        let run = cycle(&upstream, &database).arg("--dry-run").any_stderr();
        (run.spawn(), upstream)
    });
    for ((status, retry_after, least_ms), (running, _upstream)) in cases.into_iter().zip(runs) {
        let took = running.wait().success().duration_ms;
        assert!(took >= least_ms, "{status} {retry_after}: {took} ms");
    }
}

#[test]
fn a_token_that_expired_before_the_first_page_is_renewed_once() {
    let (upstream, database) = (datapass(3), Database::migrated());
    upstream.before(On::page(1), |upstream| upstream.expire_tokens());
    let run = || cycle(&upstream, &database).any_stderr().output();
    assert_eq!(run().success().created, 3);
    assert_eq!(count(&upstream, Endpoint::Token), 2);

    // Before the first page a 422 means that the scope is missing.
    upstream.clear_rules();
    upstream.take_requests();
    upstream.before(On::page(1), |upstream| upstream.revoke_tokens());
    run().permanent("request_refused");
    assert_eq!(count(&upstream, Endpoint::Token), 1);
    assert_eq!(count(&upstream, Endpoint::Listing), 1);
}

#[test]
fn concurrent_page_requests_share_one_new_token() {
    let (upstream, database) = (datapass(200), Database::migrated());
    let run = || {
        let run = cycle(&upstream, &database).args(["--page-size", "10"]);
        run.args(["--concurrency", "4"]).any_stderr().output()
    };
    upstream.before(On::page(5), |upstream| upstream.expire_tokens());
    assert_eq!(run().success().created, 200);
    assert_eq!(count(&upstream, Endpoint::Token), 2);

    // The new token expires too: no third one is requested.
    upstream.clear_rules();
    upstream.take_requests();
    upstream.before(On::page(5), |upstream| upstream.expire_tokens());
    upstream.before(On::page(20), |upstream| upstream.expire_tokens());
    run().transient("unauthorized");
    assert_eq!(count(&upstream, Endpoint::Token), 2);
}

#[test]
fn pages_bypass_caches_and_are_logged_with_status_rows_bytes_and_duration() {
    let (upstream, database) = (datapass(30), Database::migrated());
    let run = cycle(&upstream, &database).args(["--page-size", "25", "-v"]);
    let run = run.args(["--concurrency", "1", "--log-format", "json"]);
    let outcome = run.any_stderr().output();
    outcome.success();
    let requests = upstream.requests_of(Endpoint::Listing);
    for request in &requests {
        assert_eq!(request.header("cache-control"), Some("no-cache"));
    }
    let lines = outcome.stderr.lines();
    let events = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let pages: Vec<_> = events.filter(|event| event["bytes"].is_u64()).collect();
    assert_eq!(pages.len(), requests.len());
    assert_eq!(pages[0]["offset"], 0);
    for (page, request) in pages.iter().zip(&requests) {
        assert_eq!(page["offset"].as_u64(), request.number("offset").map(|it| it as u64));
        assert_eq!(page["status"], 200);
        // A demande of the harness has about two thousand bytes.
        let (rows, bytes) = (page["rows"].as_u64().unwrap(), page["bytes"].as_u64().unwrap());
        assert!((1_500 * rows..3_000 * rows).contains(&bytes), "{page}");
        let duration = page["duration_ms"].as_u64().unwrap();
        let offset = &page["offset"];
        let message = format!(
            "Page at offset {offset}: status 200, {rows} rows, {bytes} bytes, {duration} ms"
        );
        assert_eq!(page["message"], message);
    }
}

/// An entry is dated in the future only if it is dated later than the last page.
#[test]
fn an_approval_during_the_listing_is_not_dated_in_the_future() {
    let (upstream, database) = (datapass(30), Database::migrated());
    let begin = at("2026-08-01T10:00:00Z");
    upstream.with(|upstream| upstream.clock = Clock::Fixed(begin));
    upstream.before(On::page(2), move |upstream| {
        upstream.clock = Clock::Fixed(begin + TimeDelta::minutes(2));
        let oldest = demande(31).created(at("2020-01-01T10:00:00Z"));
        upstream.add(oldest.validated(begin + TimeDelta::minutes(1)));
    });
    let run = || cycle(&upstream, &database).args(["--page-size", "25", "--concurrency", "1"]);
    let summary = run().output().success();
    assert_eq!((summary.seen, summary.created), (31, 31));
    // It was validated after the listing began, so that the watermark stays before it.
    assert!(summary.watermark < Some(begin));
    upstream.clear_rules();
    upstream.with(|upstream| {
        upstream.edit(30, |shown| {
            shown["last_validated_at"] = "2026-08-01T12:03:00.000+02:00".into();
        })
    });
    let run = run().stderr("dated after DataPass' own clock");
    assert_eq!(run.output().success().watermark, Some(begin + TimeDelta::minutes(1)));
}

#[test]
fn requests_have_the_expected_headers_and_concurrency() {
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
fn a_redirect_is_permanent_and_not_followed() {
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
fn a_server_that_ignores_the_offset_is_detected() {
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
fn a_slow_response_ends_at_the_deadline() {
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
fn a_failed_request_for_definitions_is_a_warning() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.fault(On::definitions(..), Fault::Status(404, &[]));
    let run = Run::cycle(&upstream, &database)
        .stderr("Cannot find out whether the account sees the definition");
    assert_eq!(run.output().success().seen, 0);
}
