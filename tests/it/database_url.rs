//! What `DATABASE_URL` may hold, against real servers.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use datapass_pull::db::{connect, url};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postgres::Client;

use crate::harness::{Cluster, DataPass, Database, Demande, Run};

/// Every printable character of ASCII, and what SASLprep must leave, change or forget.
fn odd_password() -> String {
    (' '..='~').chain("é漢🗝\u{212b}e\u{301}\u{a0}\u{ad}".chars()).collect()
}

fn encoded(text: &str) -> String {
    // Byte by byte, letters and digits too: that must read back as well.
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn connected(text: &str) -> Client {
    let url = url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    connect::connect(&url, Duration::from_secs(20))
        .unwrap_or_else(|failure| panic!("{text}: {}", failure.error_chain()))
}

fn shown(client: &mut Client, setting: &str) -> String {
    let row = client.query_one("select current_setting($1)", &[&setting]);
    row.unwrap().get(0)
}

#[test]
fn sockets_and_both_families_lead_to_the_server() {
    let cluster = Cluster::with().setting("listen_addresses", "127.0.0.1,::1").start();
    let database = cluster.migrated();
    let (name, port) = (database.name(), cluster.port());
    let dir = cluster.dir().display().to_string();
    let mut addresses = vec![
        format!(
            "postgres://postgres@{}:{port}/{name}",
            utf8_percent_encode(&dir, NON_ALPHANUMERIC)
        ),
        format!("postgres://postgres@:{port}/{name}?host={dir}"),
        format!("postgresql:///{name}?host={dir}&port={port}&user=postgres"),
        format!("postgres://postgres@:{port}/{name}?host={dir}&sslmode=verify-full"),
        format!("postgres://postgres@127.0.0.1:{port}/{name}"),
        format!("postgres://postgres@localhost:{port}/{name}?sslmode=disable"),
        format!("postgres://postgres@nowhere.invalid:{port}/{name}?hostaddr=127.0.0.1"),
        format!("postgres://postgres@:{port}/{name}?hostaddr=127.0.0.1"),
    ];
    let sixth = format!("postgres://postgres@[::1]:{port}/{name}");
    let run = |url: &str| Run::new(["status"]).env("DATABASE_URL", url).output();
    if TcpListener::bind("[::1]:0").is_ok() {
        addresses.push(sixth);
        addresses.push(format!("postgres://postgres@/{name}?host=::1&port={port}"));
    } else {
        // A kernel without IPv6 still shows that it was asked.
        let outcome = run(&sixth);
        outcome.assert_code(2);
        assert!(outcome.stderr.contains(&format!("[::1]:{port}")), "{}", outcome.stderr);
    }
    for url in addresses {
        let outcome = run(&url);
        assert_eq!(outcome.code(), 0, "{url}: {}", outcome.stderr);
    }
}

#[test]
fn a_cycle_passes_over_what_is_down_or_read_only() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let (host, port) = database.host_and_port();
    let name = database.name();
    let standby = Cluster::disposable();
    let mut admin =
        connected(&format!("postgres://postgres@127.0.0.1:{}/postgres", standby.port()));
    admin.batch_execute(&format!("create database {name}")).unwrap();
    let read_only = format!("alter database {name} set default_transaction_read_only = on");
    admin.batch_execute(&read_only).unwrap();
    let hosts = format!("127.0.0.1:1,localhost:{}", standby.port());
    for (hosts, query) in [
        (format!("{hosts},{host}:{port}"), "target_session_attrs=read-write"),
        (format!("{host}:{port},{hosts}"), "target_session_attrs=primary"),
        (format!("{hosts},{host}:{port}"), ""),
    ] {
        Run::cycle(&upstream, &database)
            .env("DATABASE_URL", format!("postgres://postgres@{hosts}/{name}?{query}"))
            .args(["--enqueue", "none"])
            .output()
            .success();
    }
    assert_eq!(database.requests().len(), 1);
    // None is left to write to: that passes, as a failover does.
    let outcome = Run::cycle(&upstream, &database)
        .env("DATABASE_URL", format!("postgres://postgres@{hosts}/{name}"))
        .args(["--max-retries", "0"])
        .output();
    outcome.transient("database_unavailable");
    for text in ["127.0.0.1:1: ", "does not allow writes"] {
        assert!(outcome.stderr.contains(text), "{text}: {}", outcome.stderr);
    }
    let any = format!("postgres://postgres@{hosts}/{name}?target_session_attrs=any");
    assert_eq!(shown(&mut connected(&any), "transaction_read_only"), "on");
    // What an operator must fix ends the search.
    let outcome = Run::cycle(&upstream, &database)
        .env("DATABASE_URL", format!("postgres://postgres@{hosts},{host}:{port}/nowhere"))
        .output();
    outcome.permanent("database_login");
    assert!(!outcome.stderr.contains(&format!("{host}:{port}")), "{}", outcome.stderr);
}

#[test]
fn a_silent_host_leaves_the_next_one_its_turn() {
    let database = Database::empty();
    let (host, port) = database.host_and_port();
    // The kernel accepts connections to the first, and none of them gets an answer; it drops what
    // comes to the second once its queue is full.
    let silent = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [accepting, dropping] = silent.each_ref().map(|it| it.local_addr().unwrap());
    let connect = || TcpStream::connect_timeout(&dropping, Duration::from_millis(200)).ok();
    let _queue: Vec<TcpStream> = std::iter::from_fn(connect).collect();
    let hosts = format!("{accepting},{dropping},{host}:{port}");
    for query in ["sslmode=disable", "sslmode=prefer", "hostaddr=127.0.0.1,127.0.0.1,127.0.0.1"] {
        let name = database.name();
        let text = format!("postgres://postgres@{hosts}/{name}?connect_timeout=1&{query}");
        assert_eq!(shown(&mut connected(&text), "transaction_read_only"), "off");
    }
}

#[test]
fn settings_travel_in_options() {
    let database = Database::empty();
    database.exec(r#"create schema other; create schema "two words""#);
    let url = |options: &str| format!("{}?options={options}", database.url());
    let other = url("-csearch_path%3Dother%2Cpublic");
    Run::new(["migrate"]).env("DATABASE_URL", &other).output().assert_success();
    let upstream = DataPass::start();
    upstream.add(Demande::cnous(1));
    Run::cycle(&upstream, &database)
        .env("DATABASE_URL", other)
        .args(["--enqueue", "none"])
        .output()
        .success();
    assert_eq!(database.count("other.proactivite_requests"), 1);

    for (options, expected) in [
        ("-csearch_path=other", [r#"other"#, "0"]),
        ("-csearch_path%3Dother%20-c%20statement_timeout%3D5s", ["other", "5s"]),
        ("-c%20search_path=other,public%20--statement-timeout=7s", ["other,public", "7s"]),
        (r#"-csearch_path%3D%22two%5C%20words%22"#, [r#""two words""#, "0"]),
        ("-c%20statement_timeout=1s%20-c%20statement_timeout=2s", [r#""$user", public"#, "2s"]),
    ] {
        let mut client = connected(&url(options));
        for (setting, expected) in ["search_path", "statement_timeout"].iter().zip(expected) {
            assert_eq!(shown(&mut client, setting), expected, "{options}");
        }
    }
    let options = r#"-csearch_path=%22two%5C%20words%22%20-c%20work_mem=1MB"#;
    let mut client = connected(&url(options));
    assert_eq!(shown(&mut client, "search_path"), "\"two words\"");
    assert_eq!(shown(&mut client, "work_mem"), "1MB");
    assert!(shown(&mut client, "application_name").starts_with("datapass-pull/"));
}

#[test]
fn odd_names_and_passwords_survive() {
    let cluster = Cluster::disposable();
    let database = cluster.empty();
    let password = odd_password();
    let role = database.role(Some(&password));
    let (odd_role, odd_base) = (r#"o'dd @/?#[]%\ "é"#, r#"b/a?s'e &=%20\ "é"#);
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    database.exec(&format!("alter role {role} rename to {}", quoted(odd_role)));
    let literal = password.replace('\'', "''");
    database.exec(&format!("alter role {} password '{literal}'", quoted(odd_role)));
    database.exec(&format!("create database {} owner {}", quoted(odd_base), quoted(odd_role)));

    let port = cluster.port();
    let url = |password: &str| {
        format!(
            "postgres://{}:{}@127.0.0.1:{port}/{}",
            encoded(odd_role),
            encoded(password),
            encoded(odd_base)
        )
    };
    let mut client = connected(&url(&password));
    let row = client.query_one("select current_user::text, current_database()::text", &[]);
    let row = row.unwrap();
    assert_eq!((row.get(0), row.get(1)), (odd_role, odd_base));
    // Wrong by one character, the server refuses it, and no piece of it is shown.
    let wrong = format!("{password}!");
    let outcome = Run::new(["status"]).env("DATABASE_URL", url(&wrong)).output();
    outcome.assert_code(1);
    for piece in ["*+,-./0123", "%2A%2B", "🗝"] {
        assert!(!outcome.stderr.contains(piece), "{}", outcome.stderr);
    }
    // In a file, as Kubernetes and systemd give it.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, url(&password) + "\n").unwrap();
    Run::new(["migrate"])
        .env("DATABASE_URL_FILE", &file)
        .stderr("every user may read or write the file")
        .output()
        .assert_success();
}
