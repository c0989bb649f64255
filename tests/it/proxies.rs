//! HTTP proxies: their variables, hosts without a proxy, and how each failure is reported.

use std::path::PathBuf;

use crate::harness::*;
use crate::tls::{Authority, named, upstream as tls_upstream};

/// A host name that does not resolve, so that only a proxy reaches it.
const HOST: &str = "datapass.invalid";

/// Describes a dry run against [`HOST`], which the proxy connects to `upstream`.
fn cycle(upstream: &DataPass, database: &Database, scheme: &str) -> Run {
    Run::cycle(upstream, database)
        .env("DATAPASS_ALLOW_HTTP", "1")
        .env("DATAPASS_AUTH_URL", format!("{scheme}://{HOST}/api/oauth/token"))
        .env("DATAPASS_API_BASE_URL", format!("{scheme}://{HOST}/api/v1"))
        .args(["--dry-run", "--max-retries", "0"])
}

fn env_file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

/// The requests of a cycle that a proxy for http receives.
const PLAIN: [&str; 3] = [
    "POST http://datapass.invalid/api/oauth/token",
    "GET http://datapass.invalid/api/v1/demandes?state%5B%5D=validated&limit=1000&offset=0",
    "GET http://datapass.invalid/api/v1/definitions",
];

#[test]
fn each_proxy_variable_is_read_in_either_case_and_from_the_env_file() {
    let database = Database::migrated();
    let authority = Authority::new();
    let plain = DataPass::start();
    let secure = tls_upstream(&authority, &named(HOST, 2001, 2100), HOST);
    for (scheme, upstream, expected) in
        [("http", &plain, &PLAIN[..]), ("https", &secure, &["CONNECT datapass.invalid:443"])]
    {
        let proxy = HttpProxy::start(upstream.address());
        let away = "http://127.0.0.1:1";
        let run = || cycle(upstream, &database, scheme).env("DATAPASS_CA_FILE", authority.file());
        for name in [format!("{scheme}_proxy"), "all_proxy".to_owned()] {
            for name in [name.to_uppercase(), name] {
                // Neither a CGI variable nor the proxy of the other scheme has an effect.
                let other = if scheme == "http" { "HTTPS" } else { "HTTP" };
                let run = run()
                    .env("REQUEST_METHOD", "GET")
                    .env(format!("{other}_PROXY"), "socks5://canari")
                    .env(&name, format!("canari:can%61ri@{}", proxy.address()));
                run.output().success();
                let requests = proxy.take_requests();
                let lines: Vec<&str> = requests.iter().map(|it| it.line.as_str()).collect();
                assert_eq!(lines, expected, "{name}");
                for request in requests {
                    let basic = Some("Basic Y2FuYXJpOmNhbmFyaQ==");
                    assert_eq!(request.authorization.as_deref(), basic, "{name}");
                }
            }
        }
        let (_folder, file) = env_file(&format!("HTTPS_PROXY={away}\nALL_PROXY={away}\n"));
        let run = || run().arg("--env-file").arg(&file);
        let name = format!("{scheme}_proxy");
        // The environment overrides the file, whatever the case of the names.
        run().env(&name, proxy.address()).output().success();
        let by_file = run().env(&name, "");
        by_file.stderr("through the proxy http://127.0.0.1:1").output().transient("connection");
        assert_eq!(proxy.take_lines(), expected);
        // The variable of a scheme overrides `ALL_PROXY`.
        let run = cycle(upstream, &database, scheme).env("ALL_PROXY", away);
        let run = run.env("DATAPASS_CA_FILE", authority.file());
        run.env(&name, proxy.address()).output().success();
        assert_eq!(proxy.take_lines(), expected);
    }
}

#[test]
fn no_proxy_is_used_for_a_loopback_host() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let proxy = HttpProxy::start(upstream.address());
    let mut run = Run::cycle(&upstream, &database);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        run = run.env(name, proxy.address());
    }
    run.clone().output().success();
    assert!(proxy.take_requests().is_empty());
    // A proxy that is not used is not validated.
    run.env("ALL_PROXY", "socks5://canari").output().success();

    // The host of the other URL may need the proxy.
    let run = cycle(&upstream, &database, "http").env("http_proxy", proxy.address());
    run.env("DATAPASS_AUTH_URL", upstream.auth_url()).output().success();
    assert_eq!(proxy.take_lines(), PLAIN[1..]);
}

#[test]
fn no_proxy_variable_names_hosts_without_a_proxy() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let proxy = HttpProxy::start(upstream.address());
    let run = || cycle(&upstream, &database, "http").env("HTTP_PROXY", proxy.address());
    for no_proxy in ["*", "a.test, .invalid", "DataPass.Invalid.", "datapass.invalid:80"] {
        for name in ["NO_PROXY", "no_proxy"] {
            let outcome = run().env(name, no_proxy).output();
            outcome.transient("connection");
            assert!(!outcome.stderr.contains("proxy"), "{}", outcome.stderr);
            assert!(proxy.take_requests().is_empty(), "{name} {no_proxy}");
        }
    }
    run().env("NO_PROXY", "datapass.invalid:81").output().success();
    assert_eq!(proxy.take_lines(), PLAIN);
    let (_folder, file) = env_file("NO_PROXY=datapass.invalid\n");
    let outcome = run().arg("--env-file").arg(file).output();
    outcome.transient("connection");
    // The unit tests cover networks in more detail.
    let run = run().env("DATAPASS_AUTH_URL", "http://127.0.0.2:1/token");
    run.env("NO_PROXY", "127.0.0.0/8").output().transient("connection");
    assert!(proxy.take_requests().is_empty());
}

#[test]
fn a_failure_names_method_path_host_and_proxy_without_credentials() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let proxy = HttpProxy::start(upstream.address());
    let through = format!("through the proxy http://{}", proxy.address());
    let run = |scheme| {
        let run = cycle(&upstream, &database, scheme);
        run.env("ALL_PROXY", format!("http://canari:canari@{}", proxy.address()))
    };
    let token = format!("POST /api/oauth/token at {HOST} {through}");
    let listing = format!("GET /api/v1/demandes (offset 0) at {HOST} {through}");
    upstream.fault(On::tokens(..), Fault::Status(503, &[]));
    let failed = run("http").stderr(format!("{token} answered 503"));
    failed.output().transient("server_error");
    upstream.clear_rules();
    upstream.fault(On::pages(..), Fault::TruncateBody(20));
    let failed = run("http").stderr(format!("{listing}: the body could not be read to its end"));
    upstream.add(Demande::cnous(1));
    failed.output().transient("bad_body");
    upstream.clear_rules();
    // The fake server does not support TLS.
    let failed = run("https").stderr(format!("{token}: no connection"));
    failed.output().transient("connection");

    let refusing = HttpProxy::responding("403 Forbidden");
    let through = format!("through the proxy http://{}", refusing.address());
    let failed = run("https").env("ALL_PROXY", refusing.address());
    let message = format!("{HOST} {through}: the proxy opened no connection");
    failed.stderr(message).output().transient("connection");

    // Without a proxy the message names none.
    upstream.fault(On::pages(..), Fault::Status(404, &[]));
    let outcome = Run::cycle(&upstream, &database).output();
    outcome.permanent("request_refused");
    let name = format!("GET /api/v1/demandes (offset 0) at {} answered 404", upstream.address());
    assert!(outcome.stderr.contains(&name), "{}", outcome.stderr);
}

#[test]
fn a_proxy_that_requires_credentials_is_permanent() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let proxy = HttpProxy::responding("407 Proxy Authentication Required");
    for scheme in ["http", "https"] {
        let run = cycle(&upstream, &database, scheme).args(["--max-retries", "5"]);
        let run = run.env("ALL_PROXY", format!("canari@{}", proxy.address()));
        let outcome = run.output();
        outcome.permanent("request_refused");
        for part in ["407", "the proxy requires credentials", HOST, &proxy.address()] {
            assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
        }
        assert_eq!(proxy.take_requests().len(), 1, "{scheme}");
    }
}

#[test]
fn a_proxy_in_use_is_validated_together_with_the_other_settings() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for (name, value) in [
        ("HTTPS_PROXY", "socks5://canari:canari@127.0.0.1:1080"),
        ("https_proxy", "ftp://canari"),
        ("ALL_PROXY", "http://canari:canari"),
        ("all_proxy", "canari canari"),
    ] {
        let run = || cycle(&upstream, &database, "https").any_stderr();
        let outcome = run()
            .env(name, value)
            .env("DATAPASS_PAGE_SIZE", "0")
            .env_remove("DATAPASS_API_BASE_URL")
            .output();
        outcome.permanent("configuration");
        let message = format!("{name} must be an http:// or https:// URL, or HOST:PORT");
        for part in [&message, "DATAPASS_PAGE_SIZE", "DATAPASS_API_BASE_URL"] {
            assert_eq!(outcome.stderr.matches(part).count(), 1, "{part}: {}", outcome.stderr);
        }
        // A host without a proxy does not need it.
        let direct = run().env(name, value).env("NO_PROXY", HOST).output();
        direct.transient("connection");
        let (_folder, file) = env_file(&format!("{name}='{value}'\n"));
        let outcome = run().arg("--env-file").arg(&file).output();
        outcome.permanent("configuration");
        let place = format!("{name} (in {file:?}) must be");
        assert!(outcome.stderr.contains(&place), "{}", outcome.stderr);
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_proxy_may_use_tls() {
    let (authority, database) = (Authority::new(), Database::migrated());
    let (upstream, params) = (DataPass::start(), named("localhost", 2001, 2100));
    let proxy = tls_upstream(&authority, &params, "localhost");
    let port = proxy.address().port();
    let run = cycle(&upstream, &database, "http");
    let run = || run.clone().env("HTTP_PROXY", format!("https://localhost:{port}"));
    let failed = run().output();
    failed.permanent("certificate");
    assert!(proxy.requests().is_empty());
    // The fake server is not a proxy, and responds with 404 to such a path.
    let failed = run().env("DATAPASS_CA_FILE", authority.file()).output();
    failed.permanent("token_refused");
    let through = format!("at {HOST} through the proxy https://localhost:{port} answered 404");
    assert!(failed.stderr.contains(&through), "{}", failed.stderr);
    assert_eq!(proxy.requests()[0].path, "http://datapass.invalid/api/oauth/token");
}
