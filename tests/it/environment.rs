//! What the environment of a cycle decides: proxies, plain http, quiet, which setting wins.

use crate::harness::*;

#[test]
fn a_proxy_is_never_asked_for_a_loopback_host() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let proxy = DataPass::start();
    let address = format!("http://{}", proxy.address());
    let mut run = Run::cycle(&upstream, &database).any_stderr();
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        run = run.env(name, &address);
    }
    run.output().success();
    assert!(proxy.requests().is_empty());
}

#[test]
fn a_proxy_is_asked_for_any_other_host() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let proxy = DataPass::start();
    let run = Run::cycle(&upstream, &database)
        .env("DATAPASS_ALLOW_HTTP", "1")
        .env("DATAPASS_AUTH_URL", "http://datapass.invalid/token")
        .env("http_proxy", format!("http://{}", proxy.address()))
        .args(["--max-retries", "0"]);
    assert_ne!(run.any_stderr().output().code(), 0);
    assert_eq!(proxy.requests().len(), 1);
    assert!(upstream.requests().is_empty());
}

#[test]
fn plain_http_is_refused_before_anything_is_contacted() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run =
        Run::cycle(&upstream, &database).env("DATAPASS_AUTH_URL", "http://datapass.invalid/t");
    let outcome = run.any_stderr().output();
    outcome.permanent("configuration");
    assert!(outcome.stderr.contains("DATAPASS_AUTH_URL"));
    assert!(upstream.requests().is_empty());
    assert_eq!(database.count("datapass_pull_runs"), 0);
}

#[test]
fn quiet_prints_nothing_on_success_and_the_summary_on_failure() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run = || Run::cycle(&upstream, &database).arg("-q");
    let quiet = run().output();
    assert_eq!((quiet.code(), quiet.stdout.as_str()), (0, ""));
    upstream.fault(On::tokens(..), Fault::Status(403, &[]));
    assert!(
        run()
            .any_stderr()
            .output()
            .stdout
            .starts_with("outcome=permanent reason=")
    );
}

#[test]
fn the_flag_wins_over_the_environment_and_that_over_the_file() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    std::fs::write(&file, "DATAPASS_PAGE_SIZE=7\nDATAPASS_FORMAT=json\n").unwrap();
    let limit = |run: Run| {
        upstream.take_requests();
        let outcome = run.arg("--env-file").arg(&file).output();
        outcome.success();
        assert!(outcome.stdout.starts_with('{'), "{}", outcome.stdout);
        upstream
            .requests()
            .iter()
            .find_map(|request| request.number("limit"))
    };
    let run = || Run::cycle(&upstream, &database);
    assert_eq!(limit(run()), Some(7));
    assert_eq!(limit(run().env("DATAPASS_PAGE_SIZE", "")), Some(7));
    let set = || run().env("DATAPASS_PAGE_SIZE", "8");
    assert_eq!(limit(set()), Some(8));
    assert_eq!(limit(set().args(["--page-size", "9"])), Some(9));
}

#[test]
fn a_wish_to_wait_beyond_the_deadline_ends_the_cycle_at_once() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.fault(
        On::pages(..),
        Fault::Status(503, &[("Retry-After", "86400")]),
    );
    let outcome = Run::cycle(&upstream, &database).any_stderr().output();
    assert_eq!(outcome.code(), 2);
    assert_eq!(upstream.requests().len(), 2);
}
