//! `sslmode` against real servers whose certificates come from a throw-away authority.

use std::path::{Path, PathBuf};
use std::time::Duration;

use datapass_pull::db::{address, connect};
use datapass_pull::error::{Failure, Kind, Reason};
use postgres::Client;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use super::harness::postgres::ClusterBuilder;
use super::harness::{Cluster, Database, Run};

/// The only name in the servers' certificates.
const NAME: &str = "db.test";

/// An authority and a folder for what it signs.
struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(
            dir.path().join("ca.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        let issuer = Issuer::new(params, key);
        Self { dir, issuer }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Describes a server with a certificate for [`NAME`] that ends in that year.
    fn server(&self, last_year: i32) -> ClusterBuilder {
        let key = KeyPair::generate().unwrap();
        let certificate = named(last_year).signed_by(&key, &self.issuer).unwrap();
        server(self.dir.path(), &certificate.pem(), &key)
    }
}

fn named(last_year: i32) -> CertificateParams {
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params
}

fn server(dir: &Path, pem: &str, key: &KeyPair) -> ClusterBuilder {
    let (pem_file, key_file) = (dir.join("server.crt"), dir.join("server.key"));
    std::fs::write(&pem_file, pem).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    Cluster::with()
        .file(pem_file)
        .file(key_file)
        .setting("ssl", "on")
}

/// Connects under a host name, whatever it resolves to.
fn attempt(port: u16, name: &str, settings: &str) -> Result<Client, Failure> {
    let text = format!(
        "host={name} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres {settings}"
    );
    connect::connect(&address::parse(&text).unwrap(), Duration::from_secs(20))
}

#[track_caller]
fn encrypted(port: u16, name: &str, settings: &str) -> bool {
    let mut client = attempt(port, name, settings)
        .unwrap_or_else(|failure| panic!("{settings}: {}", failure.story()));
    client
        .query_one(
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
            &[],
        )
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

fn with_roots(mode: &str, file: &Path) -> String {
    format!("sslmode={mode} sslrootcert={}", file.display())
}

#[test]
fn each_sslmode_checks_what_libpq_says() {
    let (ours, other) = (Authority::new(), Authority::new());
    let cluster = ours.server(2100).start();
    let port = cluster.port();

    assert!(!encrypted(port, NAME, "sslmode=disable"));
    for settings in ["", "sslmode=prefer", "sslmode=require"] {
        assert!(encrypted(port, NAME, settings), "{settings}");
        assert!(encrypted(port, "wrong.test", settings), "{settings}");
    }
    assert!(encrypted(port, NAME, &with_roots("prefer", &other.file())));
    for (mode, name_counts) in [
        ("require", false),
        ("verify-ca", false),
        ("verify-full", true),
    ] {
        assert!(
            encrypted(port, NAME, &with_roots(mode, &ours.file())),
            "{mode}"
        );
        if name_counts {
            let failure = refused(port, "wrong.test", &with_roots(mode, &ours.file()));
            assert_eq!(failure.reason, Reason::Certificate, "{}", failure.story());
            assert_eq!(failure.kind(), Kind::Permanent);
            for name in ["wrong.test", NAME] {
                assert!(failure.message.contains(name), "{}", failure.message);
            }
        } else {
            assert!(
                encrypted(port, "wrong.test", &with_roots(mode, &ours.file())),
                "{mode}"
            );
        }
        let failure = refused(port, NAME, &with_roots(mode, &other.file()));
        assert_eq!(
            failure.reason,
            Reason::Certificate,
            "{mode}: {}",
            failure.story()
        );
        let failure = refused(port, NAME, &with_roots(mode, Path::new("/nowhere.pem")));
        assert_eq!(failure.reason, Reason::Configuration);
        assert!(
            failure.message.contains("/nowhere.pem"),
            "{}",
            failure.message
        );
    }
    // The address alone is no name of the certificate.
    let settings = with_roots("verify-full", &ours.file());
    let text = format!("host=127.0.0.1 port={port} user=postgres {settings}");
    let address = address::parse(&text).unwrap();
    let failure = connect::connect(&address, Duration::from_secs(20))
        .err()
        .unwrap();
    assert_eq!(failure.reason, Reason::Certificate, "{}", failure.story());
}

#[test]
fn an_expired_certificate_is_refused_where_it_counts() {
    let ours = Authority::new();
    let cluster = ours.server(2002).start();
    assert!(encrypted(cluster.port(), NAME, "sslmode=require"));
    for mode in ["verify-ca", "verify-full"] {
        let failure = refused(cluster.port(), NAME, &with_roots(mode, &ours.file()));
        assert_eq!(failure.reason, Reason::Certificate, "{}", failure.story());
        assert!(failure.message.contains("expired"), "{}", failure.message);
    }
}

#[test]
fn a_self_signed_certificate_is_its_own_root() {
    let other = Authority::new();
    for (year, is_ca, taken) in [
        (2100, IsCa::NoCa, true),
        (2100, IsCa::Ca(BasicConstraints::Unconstrained), true),
        (2002, IsCa::Ca(BasicConstraints::Unconstrained), false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = named(year);
        params.is_ca = is_ca;
        let pem = params.self_signed(&key).unwrap().pem();
        let cluster = server(dir.path(), &pem, &key).start();
        let own = with_roots("verify-ca", &dir.path().join("server.crt"));
        if taken {
            assert!(encrypted(cluster.port(), NAME, &own));
            assert!(encrypted(cluster.port(), "wrong.test", &own));
        } else {
            let failure = refused(cluster.port(), NAME, &own);
            assert!(failure.message.contains("expired"), "{}", failure.message);
        }
        let failure = refused(
            cluster.port(),
            NAME,
            &with_roots("verify-ca", &other.file()),
        );
        assert_eq!(failure.reason, Reason::Certificate, "{}", failure.story());
    }
}

#[test]
fn a_server_without_tls_is_refused_when_it_is_demanded() {
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
        assert_eq!(failure.reason, Reason::DatabaseTls, "{}", failure.story());
        assert_eq!(failure.kind(), Kind::Permanent);
    }
    // A socket has no TLS and needs none.
    let text = format!(
        "postgres://postgres@{}:{}/postgres?sslmode=verify-full",
        cluster.dir().display().to_string().replace('/', "%2F"),
        cluster.port()
    );
    connect::connect(&address::parse(&text).unwrap(), Duration::from_secs(20)).unwrap();
}

#[test]
fn prefer_falls_back_when_tls_leads_nowhere() {
    let ours = Authority::new();
    let cluster = ours
        .server(2100)
        .hba("hostssl all plain all reject")
        .hba("hostnossl all plain all trust")
        .setting("ssl_min_protocol_version", "TLSv1")
        .start();
    let mut client = attempt(cluster.port(), NAME, "").unwrap();
    client.batch_execute("create role plain login").unwrap();
    assert!(!encrypted(cluster.port(), NAME, "user=plain"));
    let failure = refused(cluster.port(), NAME, "user=plain sslmode=require");
    assert_eq!(failure.reason, Reason::DatabaseLogin, "{}", failure.story());

    // A server whose newest version we do not speak.
    client
        .batch_execute("alter system set ssl_max_protocol_version = 'TLSv1.1'")
        .unwrap();
    cluster.reload();
    // The reload has come through once a new session sees it.
    while !attempt(cluster.port(), NAME, "sslmode=disable")
        .unwrap()
        .query_one(
            "select current_setting('ssl_max_protocol_version') = 'TLSv1.1'",
            &[],
        )
        .unwrap()
        .get::<_, bool>(0)
    {}
    assert!(!encrypted(cluster.port(), NAME, "sslmode=prefer"));
    let failure = refused(cluster.port(), NAME, "sslmode=require");
    assert_eq!(failure.reason, Reason::Tls, "{}", failure.story());
    assert_eq!(failure.kind(), Kind::Transient);
}

#[test]
fn a_password_is_bound_to_the_channel() {
    let ours = Authority::new();
    let cluster = ours.server(2100).start();
    let db = cluster.empty();
    let password = r#"it's "a\ p@ss:w/rd?#%&é"#;
    let role = db.role(Some(password));
    let login = |password: &str, settings: &str| {
        let quoted = password.replace('\\', r"\\").replace('\'', r"\'");
        let settings = format!("user={role} password='{quoted}' {settings}");
        attempt(cluster.port(), NAME, &settings).map(drop)
    };
    login(password, "sslmode=require channel_binding=require").unwrap();
    login(password, "sslmode=disable").unwrap();
    for (password, settings) in [
        (password, "sslmode=disable channel_binding=require"),
        ("CANARY", "sslmode=require"),
    ] {
        let failure = login(password, settings).unwrap_err();
        assert_eq!(failure.reason, Reason::DatabaseLogin, "{}", failure.story());
        assert!(!failure.story().contains("CANARY"));
    }
}

#[test]
fn the_system_roots_serve_when_no_file_is_named() {
    let ours = Authority::new();
    let cluster = ours.server(2100).start();
    let url = |name: &str, query: &str| {
        format!(
            "postgres://postgres@{name}:{}/postgres?hostaddr=127.0.0.1&{query}",
            cluster.port()
        )
    };
    let migrate = |url: String, roots: &Path| {
        Run::new(["migrate"])
            .env("DATABASE_URL", url)
            .env("SSL_CERT_FILE", roots)
            .any_stderr()
    };
    for query in [
        "sslmode=verify-full",
        "sslmode=verify-ca",
        "sslrootcert=system",
    ] {
        migrate(url(NAME, query), &ours.file())
            .output()
            .assert_success();
    }
    migrate(url("wrong.test", "sslrootcert=system"), &ours.file())
        .output()
        .assert_code(1);
    // In a bare container there are none; that is a message, and no panic.
    let none = migrate(url(NAME, "sslmode=verify-full"), Path::new("/nowhere.pem"))
        .env("SSL_CERT_DIR", "/nowhere")
        .output();
    none.assert_code(1);
    migrate(url(NAME, "sslmode=require"), Path::new("/nowhere.pem"))
        .output()
        .assert_success();
}

#[test]
fn the_first_host_that_serves_is_taken() {
    let db = Database::empty();
    let (_, port) = db.host_and_port();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let parse = |hosts: &str, query: &str| {
        let text = format!("postgres://postgres@{hosts}/{}?{query}", db.name());
        address::parse(&text).unwrap()
    };
    let limit = Duration::from_secs(20);
    let both = format!("127.0.0.1:{closed},localhost:{port}");
    let mut client = connect::connect(&parse(&both, ""), limit).unwrap();
    let shown = client
        .query_one("select current_setting('application_name')", &[])
        .unwrap();
    assert!(shown.get::<_, &str>(0).starts_with("datapass-pull/"));

    let failure = connect::connect(&parse(&format!("127.0.0.1:{closed}"), ""), limit);
    assert_eq!(failure.err().unwrap().reason, Reason::DatabaseUnavailable);

    // A standby is passed over, and is not good enough alone.
    db.exec(&format!(
        "alter database {} set default_transaction_read_only = on",
        db.name()
    ));
    let failure = connect::connect(&parse(&both, ""), limit).err().unwrap();
    assert_eq!(
        failure.reason,
        Reason::DatabaseUnavailable,
        "{}",
        failure.story()
    );
    assert!(
        failure.message.contains("does not allow writes"),
        "{}",
        failure.message
    );
    assert!(failure.message.contains("refused"), "{}", failure.message);
    connect::connect(&parse(&both, "target_session_attrs=any"), limit).unwrap();

    // What a person must mend ends it.
    let wrong = parse(
        &format!("127.0.0.1:{port},localhost:{port}"),
        "dbname=nowhere",
    );
    let failure = connect::connect(&wrong, limit).err().unwrap();
    assert_eq!(failure.reason, Reason::DatabaseLogin);
    assert_eq!(
        failure.message.matches("Cannot connect").count(),
        1,
        "{}",
        failure.message
    );
}
