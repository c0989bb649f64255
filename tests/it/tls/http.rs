//! Both HTTP hosts with TLS: trusted certificates, and how each refusal is reported.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use super::{Authority, named};
use crate::harness::*;

/// The host name of the fake server.
const NAME: &str = "localhost";

/// Starts a fake DataPass with a certificate of an authority.
pub fn upstream(authority: &Authority, params: &CertificateParams, host: &str) -> DataPass {
    let (certificate, key) = authority.sign(params);
    start_with(&certificate, &key, host)
}

/// Starts a fake DataPass with this certificate.
fn start_with(certificate: &Certificate, key: &KeyPair, host: &str) -> DataPass {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    DataPass::start_tls(Arc::new(config), host)
}

#[test]
fn a_private_root_is_trusted_in_addition_to_the_roots_of_the_system() {
    let (ours, other) = (Authority::new(), Authority::new());
    let database = Database::migrated();
    for host in [NAME, "127.0.0.1"] {
        let upstream = upstream(&ours, &named(host, 2001, 2100), host);
        upstream.add(Demande::cnous(1));
        let run = || Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
        run().output().permanent("certificate");
        // An empty variable is the same as an unset one: the system's roots are used.
        let unset = run().env("SSL_CERT_FILE", "").env("SSL_CERT_DIR", "");
        unset.output().permanent("certificate");
        run().env("DATAPASS_CA_FILE", other.file()).output().permanent("certificate");
        assert!(upstream.requests().is_empty());
        assert_eq!(run().env("DATAPASS_CA_FILE", ours.file()).output().success().seen, 1);
        run()
            .env("SSL_CERT_FILE", ours.file())
            .env("DATAPASS_CA_FILE", other.file())
            .output()
            .success();
    }
    assert_eq!(database.count("proactivite_requests"), 1);
}

#[test]
fn a_self_signed_certificate_may_be_its_own_root() {
    let (ours, database) = (Authority::new(), Database::migrated());
    let key = KeyPair::generate().unwrap();
    // `openssl req -x509` marks such a certificate as an authority.
    let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (name, is_ca, last_year, refusal) in [
        (NAME, IsCa::NoCa, 2100, None),
        (NAME, is_ca, 2100, None),
        (NAME, is_ca, 2002, Some("expired")),
        ("api.test", is_ca, 2100, Some("api.test")),
    ] {
        let mut params = named(name, 2001, last_year);
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap();
        let file = ours.dir.path().join("own.pem");
        std::fs::write(&file, certificate.pem()).unwrap();
        let upstream = start_with(&certificate, &key, NAME);
        let run = || Run::cycle(&upstream, &database);
        run().output().permanent("certificate");
        let outcome = run().env("DATAPASS_CA_FILE", &file).output();
        match refusal {
            None => assert_eq!(outcome.success().seen, 0),
            Some(refusal) => {
                outcome.permanent("certificate");
                assert!(outcome.stderr.contains(refusal), "{}", outcome.stderr);
            }
        }
    }
}

#[test]
fn a_refused_certificate_of_either_host_is_permanent_and_explained() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (plain, database) = (DataPass::start(), Database::migrated());
    for (authority, params, parts) in [
        (&other, named(NAME, 2001, 2100), &["UnknownIssuer", "DATAPASS_CA_FILE"][..]),
        (&ours, named("api.test", 2001, 2100), &[NAME, "api.test"]),
        (&ours, named(NAME, 2001, 2002), &["expired"]),
        (&ours, named(NAME, 2090, 2100), &["not valid yet"]),
    ] {
        let refused = upstream(authority, &params, NAME);
        for (variable, url, path) in [
            ("DATAPASS_AUTH_URL", refused.auth_url(), "/api/oauth/token"),
            ("DATAPASS_API_BASE_URL", refused.api_base_url(), "/demandes"),
        ] {
            let outcome = Run::cycle(&plain, &database)
                .env(variable, url)
                .env("DATAPASS_CA_FILE", ours.file())
                .output();
            outcome.permanent("certificate");
            for part in parts.iter().chain(&[path]) {
                assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
            }
        }
        assert!(refused.requests().is_empty(), "a secret was sent");
    }
}

#[test]
fn any_other_failed_handshake_is_transient() {
    let ours = Authority::new();
    let (plain, database) = (DataPass::start(), Database::migrated());
    for (response, reason) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "tls"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "tls"),
        // A handshake_failure alert
        (b"\x15\x03\x03\x00\x02\x02\x28", "tls"),
        // Only the head of a record
        (b"\x16\x03\x03\x00\x7a\x02", "connection"),
        (b"", "connection"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{NAME}:{}/", listener.local_addr().unwrap().port());
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(response);
            }
        });
        for variable in ["DATAPASS_AUTH_URL", "DATAPASS_API_BASE_URL"] {
            let run = Run::cycle(&plain, &database)
                .env(variable, &url)
                .env("DATAPASS_CA_FILE", ours.file())
                .args(["--max-retries", "0"]);
            run.output().transient(reason);
        }
        server.join().unwrap();
    }
}

#[test]
fn an_invalid_file_of_roots_is_reported_with_the_other_settings() {
    let ours = Authority::new();
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let file = |name: &str, text: &str| {
        let path = ours.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (_, key) = ours.sign(&named(NAME, 2001, 2100));
    let pem = std::fs::read_to_string(ours.file()).unwrap();
    for path in [
        Path::new("/nowhere.pem").to_owned(),
        ours.dir.path().to_owned(),
        file("empty.pem", ""),
        file("text.pem", "no certificate\n"),
        file("key.pem", &key.serialize_pem()),
        file("cut.pem", &pem[..pem.len() / 2]),
    ] {
        let outcome = Run::cycle(&upstream, &database)
            .env("DATAPASS_CA_FILE", &path)
            .env("DATAPASS_CLIENT_ID", "")
            .output();
        outcome.permanent("configuration");
        for name in ["DATAPASS_CA_FILE names", "DATAPASS_CLIENT_ID"] {
            assert!(outcome.stderr.contains(name), "{}", outcome.stderr);
        }
    }
    // Missing roots of the system are reported before anything is contacted too.
    let outcome = Run::cycle(&upstream, &database)
        .env("DATAPASS_API_BASE_URL", format!("https://{NAME}:1/"))
        .env("SSL_CERT_FILE", "/nowhere.pem")
        .env("SSL_CERT_DIR", "/nowhere")
        .output();
    outcome.permanent("configuration");
    assert!(outcome.stderr.contains("DATAPASS_CA_FILE"), "{}", outcome.stderr);
    assert!(upstream.requests().is_empty());
    assert_eq!(database.count("datapass_pull_runs"), 0);
}
