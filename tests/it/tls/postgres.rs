//! Each `sslmode` with real PostgreSQL servers.

use std::path::Path;
use std::time::Duration;

use datapass_pull::db::{connect, url};
use datapass_pull::error::{Exit, Failure, Reason};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postgres::Client;
use rcgen::{BasicConstraints, Certificate, IsCa, KeyPair};

use super::{Authority, named};
use crate::harness::postgres::ClusterBuilder;
use crate::harness::{Cluster, DataPass, Database, Run, eventually};

/// The only name in the servers' certificates.
const NAME: &str = "db.test";

/// Describes a server with a certificate of an authority for [`NAME`].
fn server(authority: &Authority, first_year: i32, last_year: i32) -> ClusterBuilder {
    let (certificate, key) = authority.sign(&named(NAME, first_year, last_year));
    with_certificate(authority.dir.path(), &certificate, &key)
}

fn with_certificate(dir: &Path, certificate: &Certificate, key: &KeyPair) -> ClusterBuilder {
    let (pem_file, key_file) = (dir.join("server.crt"), dir.join("server.key"));
    std::fs::write(&pem_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    Cluster::with().file(pem_file).file(key_file).setting("ssl", "on")
}

/// Connects to the loopback address under a host name.
fn attempt(port: u16, name: &str, settings: &str) -> Result<Client, Failure> {
    let text = format!("postgres://postgres@{name}:{port}/postgres?hostaddr=127.0.0.1&{settings}");
    connect::connect(&url::parse(&text).unwrap(), Duration::from_secs(20))
}

#[track_caller]
fn encrypted(port: u16, name: &str, settings: &str) -> bool {
    let mut client = attempt(port, name, settings)
        .unwrap_or_else(|failure| panic!("{settings}: {}", failure.error_chain()));
    client
        .query_one("select ssl from pg_stat_ssl where pid = pg_backend_pid()", &[])
        .unwrap()
        .get(0)
}

#[track_caller]
fn refused(port: u16, name: &str, settings: &str) -> Failure {
    match attempt(port, name, settings) {
        Ok(_) => panic!("connected with {settings}"),
        Err(failure) => failure,
    }
}

/// Changes settings of a running server, and waits until new sessions have them.
fn set(cluster: &Cluster, settings: &[(&str, &str)]) {
    let connected = || attempt(cluster.port(), NAME, "sslmode=disable").unwrap();
    for (name, value) in settings {
        let change = format!("alter system set {name} = '{value}'");
        connected().batch_execute(&change).unwrap();
    }
    cluster.reload();
    for (name, value) in settings {
        let is_set = "select lower(current_setting($1)) = lower($2)";
        eventually(name, || {
            let row = connected().query_one(is_set, &[name, value]);
            row.unwrap().get(0)
        });
    }
}

fn with_roots(mode: &str, file: &Path) -> String {
    format!("sslmode={mode}&sslrootcert={}", file.display())
}

#[test]
fn each_sslmode_verifies_what_libpq_verifies() {
    let (ours, other) = (Authority::new(), Authority::new());
    let cluster = server(&ours, 2001, 2100).start();
    let port = cluster.port();

    assert!(!encrypted(port, NAME, "sslmode=disable"));
    for settings in ["", "sslmode=prefer", "sslmode=require"] {
        assert!(encrypted(port, NAME, settings), "{settings}");
        assert!(encrypted(port, "wrong.test", settings), "{settings}");
    }
    assert!(encrypted(port, NAME, &with_roots("prefer", &other.file())));
    for (mode, name_counts) in [("require", false), ("verify-ca", false), ("verify-full", true)] {
        assert!(encrypted(port, NAME, &with_roots(mode, &ours.file())), "{mode}");
        if name_counts {
            let failure = refused(port, "wrong.test", &with_roots(mode, &ours.file()));
            assert_eq!(failure.reason, Reason::Certificate, "{}", failure.error_chain());
            assert_eq!(failure.exit(), Exit::Permanent);
            for name in ["wrong.test", NAME] {
                assert!(failure.message.contains(name), "{}", failure.message);
            }
        } else {
            assert!(encrypted(port, "wrong.test", &with_roots(mode, &ours.file())), "{mode}");
        }
        let failure = refused(port, NAME, &with_roots(mode, &other.file()));
        assert_eq!(failure.reason, Reason::Certificate, "{mode}: {}", failure.error_chain());
        let text = with_roots(mode, Path::new("/nowhere.pem"));
        let problem = url::parse(&format!("postgres://{NAME}?{text}")).unwrap_err();
        assert!(problem.to_string().contains("sslrootcert"), "{problem}");
    }
    // The certificate does not contain the IP address.
    let settings = with_roots("verify-full", &ours.file());
    let failure = refused(port, "127.0.0.1", &settings);
    assert_eq!(failure.reason, Reason::Certificate, "{}", failure.error_chain());
}

#[test]
fn each_certificate_is_accepted_where_libpq_accepts_it() {
    const ACCEPTED: &str = "";
    let (ours, other) = (Authority::new(), Authority::new());
    let key = KeyPair::generate().unwrap();
    let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut cluster = server(&ours, 2001, 2100);
    // A self-signed certificate is its own root; PostgreSQL's documentation marks it as an authority.
    let cases = [
        ("expired", false, IsCa::NoCa, (2001, 2002), "expired"),
        ("future", false, IsCa::NoCa, (2090, 2100), "not valid yet"),
        ("own", true, IsCa::NoCa, (2001, 2100), ACCEPTED),
        ("own_expired", true, IsCa::NoCa, (2001, 2002), "expired"),
        ("own_ca", true, is_ca, (2001, 2100), ACCEPTED),
        ("own_ca_expired", true, is_ca, (2001, 2002), "expired"),
    ];
    let file = |name: &str| ours.dir.path().join(format!("{name}.crt"));
    let key_file = ours.dir.path().join("all.key");
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    for (name, self_signed, is_ca, years, _) in &cases {
        let mut params = named(NAME, years.0, years.1);
        params.is_ca = *is_ca;
        let certificate = match self_signed {
            true => params.self_signed(&key),
            false => params.signed_by(&key, &ours.issuer),
        };
        std::fs::write(file(name), certificate.unwrap().pem()).unwrap();
        cluster = cluster.file(file(name));
    }
    let cluster = cluster.file(key_file).start();
    let port = cluster.port();
    set(&cluster, &[("ssl_key_file", "all.key"), ("ssl_cert_file", "expired.crt")]);

    for (name, self_signed, _, _, expected) in cases {
        set(&cluster, &[("ssl_cert_file", &format!("{name}.crt"))]);
        assert!(encrypted(port, "wrong.test", "sslmode=require"), "{name}");
        let roots = if self_signed { file(name) } else { ours.file() };
        for mode in ["verify-ca", "verify-full"] {
            let own = with_roots(mode, &roots);
            if expected == ACCEPTED {
                assert!(encrypted(port, NAME, &own), "{name} {mode}");
                if mode == "verify-ca" {
                    assert!(encrypted(port, "wrong.test", &own), "{name}");
                } else {
                    let failure = refused(port, "wrong.test", &own);
                    assert_eq!(failure.reason, Reason::Certificate, "{}", failure.error_chain());
                    assert!(failure.message.contains("wrong.test"), "{}", failure.message);
                }
            } else {
                let failure = refused(port, NAME, &own);
                assert_eq!(failure.reason, Reason::Certificate, "{}", failure.error_chain());
                assert!(failure.message.contains(expected), "{}", failure.message);
            }
            let failure = refused(port, NAME, &with_roots(mode, &other.file()));
            assert_eq!(failure.reason, Reason::Certificate, "{}", failure.error_chain());
        }
    }
}

/// OpenSSL accepts these certificates, the TLS library does not. Without verification they are
/// accepted; the connection never falls back to plain text because of them.
#[test]
fn an_unsupported_certificate_is_reported_with_its_kind() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/certificates");
    let file = |name: &str| Path::new(fixtures).join(format!("{name}.pem"));
    let cases = [
        ("v1", "X.509 version 1"),
        ("p521", "P-521"),
        ("pss", "RSASSA-PSS"),
        ("by521", "signed in an unsupported way"),
    ];
    let ours = Authority::new();
    let mut cluster = server(&ours, 2001, 2100);
    for (name, _) in cases {
        // Certificate and key are in one file.
        cluster = cluster.file(file(name));
    }
    let cluster = cluster.start();
    let port = cluster.port();
    for (name, expected) in cases {
        let pem = format!("{name}.pem");
        set(&cluster, &[("ssl_cert_file", &pem), ("ssl_key_file", &pem)]);
        for mode in ["sslmode=prefer", "sslmode=require"] {
            assert!(encrypted(port, NAME, mode), "{name} {mode}");
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            let failure = refused(port, NAME, &with_roots(mode, &file("authorities")));
            assert_eq!(failure.reason, Reason::Certificate, "{}", failure.error_chain());
            for words in [expected, "re-issue it"] {
                assert!(failure.message.contains(words), "{}", failure.message);
            }
            assert!(!failure.error_chain().contains("Other"), "{}", failure.error_chain());
        }
    }
}

#[test]
fn a_server_without_tls_is_refused_if_tls_is_required() {
    let ours = Authority::new();
    let cluster = Cluster::disposable();
    for settings in ["", "sslmode=prefer", "sslmode=disable"] {
        assert!(!encrypted(cluster.port(), NAME, settings));
    }
    for settings in [
        "sslmode=require".to_owned(),
        with_roots("verify-ca", &ours.file()),
        with_roots("verify-full", &ours.file()),
    ] {
        let failure = refused(cluster.port(), NAME, &settings);
        assert_eq!(failure.reason, Reason::DatabaseTls, "{}", failure.error_chain());
        assert_eq!(failure.exit(), Exit::Permanent);
    }
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=require", cluster.port());
    Run::cycle(&DataPass::start(), &Database::empty())
        .env("DATABASE_URL", url)
        .output()
        .permanent("database_tls");
    // A Unix socket needs no TLS.
    let text = format!(
        "postgres://postgres@{}:{}/postgres?sslmode=verify-full",
        cluster.dir().display().to_string().replace('/', "%2F"),
        cluster.port()
    );
    connect::connect(&url::parse(&text).unwrap(), Duration::from_secs(20)).unwrap();
}

#[test]
fn prefer_falls_back_to_plain_text_when_tls_fails() {
    let ours = Authority::new();
    let cluster = server(&ours, 2001, 2100)
        .hba("hostssl all plain all reject")
        .hba("hostnossl all plain all trust")
        .setting("ssl_min_protocol_version", "TLSv1")
        .start();
    let mut client = attempt(cluster.port(), NAME, "").unwrap();
    client.batch_execute("create role plain login").unwrap();
    assert!(!encrypted(cluster.port(), NAME, "user=plain"));
    let failure = refused(cluster.port(), NAME, "user=plain&sslmode=require");
    assert_eq!(failure.reason, Reason::DatabaseLogin, "{}", failure.error_chain());

    // A server with TLS versions that we do not support
    set(&cluster, &[("ssl_max_protocol_version", "TLSv1.1")]);
    assert!(!encrypted(cluster.port(), NAME, "sslmode=prefer"));
    let failure = refused(cluster.port(), NAME, "sslmode=require");
    assert_eq!(failure.reason, Reason::Tls, "{}", failure.error_chain());
    assert_eq!(failure.exit(), Exit::Transient);
}

#[test]
fn channel_binding_is_used_and_can_be_required() {
    let ours = Authority::new();
    let cluster = server(&ours, 2001, 2100).start();
    let db = cluster.empty();
    let password = r#"it's "a\ p@ss:w/rd?#%&é"#;
    let role = db.role(Some(password));
    let login = |password: &str, settings: &str| {
        let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC);
        let settings = format!("user={role}&password={encoded}&{settings}");
        attempt(cluster.port(), NAME, &settings).map(drop)
    };
    login(password, "sslmode=require&channel_binding=require").unwrap();
    login(password, "sslmode=disable").unwrap();
    for (password, settings) in
        [(password, "sslmode=disable&channel_binding=require"), ("CANARY", "sslmode=require")]
    {
        let failure = login(password, settings).unwrap_err();
        assert_eq!(failure.reason, Reason::DatabaseLogin, "{}", failure.error_chain());
        assert!(!failure.error_chain().contains("CANARY"));
    }
}

#[test]
fn a_cycle_reports_why_a_certificate_is_refused() {
    let (ours, other) = (Authority::new(), Authority::new());
    let cluster = server(&ours, 2001, 2100).start();
    let (upstream, database) = (DataPass::start(), cluster.migrated());
    let run = |name: &str, port: u16, settings: &str| {
        let text = format!(
            "postgres://postgres@{name}:{port}/{}?hostaddr=127.0.0.1&{settings}",
            database.name()
        );
        Run::cycle(&upstream, &database)
            .env("DATABASE_URL", text)
            .args(["--enqueue", "none"])
            .output()
    };
    let full = with_roots("verify-full", &ours.file());
    run(NAME, cluster.port(), &full).success();
    upstream.take_requests();

    let outcome = run("wrong.test", cluster.port(), &full);
    outcome.permanent("certificate");
    for name in ["wrong.test", NAME] {
        assert!(outcome.stderr.contains(name), "{name}: {}", outcome.stderr);
    }
    let outcome = run(NAME, cluster.port(), &with_roots("verify-full", &other.file()));
    outcome.permanent("certificate");
    assert!(outcome.stderr.contains("sslrootcert"), "{}", outcome.stderr);
    // A file that is not a certificate is a configuration error, before anything is contacted.
    let key = ours.dir.path().join("server.key");
    let outcome = run(NAME, 1, &with_roots("verify-full", &key));
    outcome.permanent("configuration");
    assert!(outcome.stderr.contains("sslrootcert"), "{}", outcome.stderr);
    assert!(upstream.requests().is_empty());
}

#[test]
fn the_system_roots_are_used_without_sslrootcert() {
    let ours = Authority::new();
    let cluster = server(&ours, 2001, 2100).start();
    let url = |name: &str, query: &str| {
        format!("postgres://postgres@{name}:{}/postgres?hostaddr=127.0.0.1&{query}", cluster.port())
    };
    let migrate = |url: String, roots: &Path| {
        Run::new(["migrate"]).env("DATABASE_URL", url).env("SSL_CERT_FILE", roots).any_stderr()
    };
    for query in ["sslmode=verify-full", "sslmode=verify-ca", "sslrootcert=system"] {
        migrate(url(NAME, query), &ours.file()).output().assert_success();
    }
    migrate(url("wrong.test", "sslrootcert=system"), &ours.file()).output().assert_code(1);
    // A minimal container has no roots; that is an error, not a panic.
    let none = migrate(url(NAME, "sslmode=verify-full"), Path::new("/nowhere.pem"))
        .env("SSL_CERT_DIR", "/nowhere")
        .output();
    none.assert_code(1);
    migrate(url(NAME, "sslmode=require"), Path::new("/nowhere.pem")).output().assert_success();
}
