//! The private servers: fresh databases, and nothing left over.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::harness::{Cluster, Database, PgBouncer, eventually};

#[test]
fn every_database_is_fresh_and_dropped() {
    let first = Database::empty();
    let second = Database::empty();
    first.exec("create table proactivite_requests (id bigserial, t text)");
    assert!(first.has_table("proactivite_requests"));
    assert!(!second.has_table("proactivite_requests"));

    let before = first.snapshot();
    first.exec("insert into proactivite_requests (t) values ('a')");
    assert_ne!(first.snapshot(), before);
    assert_eq!(first.count("proactivite_requests"), 1);
    assert_eq!(first.ids_consumed("proactivite_requests"), 1);
    assert_eq!(first.dead_rows("proactivite_requests"), 0);
    first.exec("begin; insert into proactivite_requests (t) values ('b'); rollback");
    assert_eq!(first.ids_consumed("proactivite_requests"), 2);
    assert_eq!(first.dead_rows("proactivite_requests"), 1);

    let role = first.role(None);
    let name = first.name().to_owned();
    drop(first);
    let left = "select count(*) from pg_database where datname = $1";
    let mut client = second.client();
    assert_eq!(client.query_one(left, &[&name]).unwrap().get::<_, i64>(0), 0);
    let left = "select count(*) from pg_roles where rolname = $1";
    assert_eq!(client.query_one(left, &[&role]).unwrap().get::<_, i64>(0), 0);
}

#[test]
fn inserts_are_refused_on_demand() {
    let db = Database::empty();
    db.exec("create table t (id int)");
    db.refuse_inserts("t", "53100", 2);
    let mut client = db.client();
    client.execute("insert into t values (1)", &[]).unwrap();
    let error = client.execute("insert into t values (2)", &[]).unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("53100"));
    db.allow_inserts("t");
    client.execute("insert into t values (2)", &[]).unwrap();
}

#[test]
fn a_failed_command_of_a_server_fails_the_test_and_stops_it() {
    let (is_alive, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        let _dropped_last = is_alive;
        Cluster::disposable().stop("nonsense");
    });
    let ended = ended.recv_timeout(Duration::from_secs(60));
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_cluster_is_stopped_killed_and_restarted() {
    let cluster = Cluster::with().setting("log_statement", "all").start();
    let db = cluster.empty();
    db.exec("create table t as select 1 as one");
    for stop in [|cluster: &Cluster| cluster.stop("immediate"), Cluster::kill] {
        stop(&cluster);
        // A killed postmaster frees its port a moment later.
        eventually("the server is down", || Client::connect(&db.url(), NoTls).is_err());
        cluster.start_again();
        assert_eq!(db.count("t"), 1);
    }
    // A role that has a password needs it.
    let role = db.role(Some("it's: a/pass?word"));
    Client::connect(&db.url_as(&role, "it's: a/pass?word"), NoTls).unwrap();
    let error = Client::connect(&db.url_as(&role, "wrong"), NoTls).map(drop).unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("28P01"));

    let dir = cluster.dir();
    drop(db);
    drop(cluster);
    assert!(!dir.exists());
}

#[test]
fn the_pooler_shares_server_connections_between_transactions() {
    let db = Database::empty();
    let pooler = PgBouncer::start(&db);
    let mut clients: Vec<Client> =
        (0..6).map(|_| Client::connect(&pooler.url(), NoTls).unwrap()).collect();
    let mut servers: Vec<i32> = clients
        .iter_mut()
        .map(|client| {
            let rows = client.simple_query("select pg_backend_pid()").unwrap();
            match rows.iter().find_map(|message| match message {
                postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            }) {
                Some(pid) => pid.parse().unwrap(),
                None => panic!("no row"),
            }
        })
        .collect();
    servers.sort_unstable();
    servers.dedup();
    assert!(servers.len() <= 2, "six clients use the servers {servers:?}");
}

/// Starts a cluster and a pooler in a child process, kills it with SIGKILL, and looks for leftovers.
/// The child process is this same test, which a variable selects.
#[test]
#[allow(clippy::print_stdout)] // The child prints the names of its servers for the parent.
fn servers_are_removed_after_a_sigkill_of_their_owner() {
    const OWNER: &str = "HARNESS_SELFTEST_OWNER";
    if std::env::var_os(OWNER).is_some() {
        let cluster = Cluster::disposable();
        let db = cluster.empty();
        let pooler = PgBouncer::start(&db);
        println!("\nowned {} {} {}", cluster.dir().display(), cluster.port(), pooler.port());
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "harness_selftest::servers::servers_are_removed_after_a_sigkill_of_their_owner",
        ])
        .arg("--nocapture")
        .env(OWNER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("owned "))
        .expect("the owner started its servers");
    let words: Vec<&str> = line.split(' ').collect();
    let dir = PathBuf::from(words[1]);
    let ports: Vec<u16> = words[2..].iter().map(|port| port.parse().unwrap()).collect();
    let listens = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
    assert!(dir.exists() && ports.iter().all(listens), "the servers are up");

    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the cluster's folder is gone", || !dir.exists());
    eventually("the ports are closed", || !ports.iter().any(listens));
}
