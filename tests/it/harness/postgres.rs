//! Real PostgreSQL: one private cluster for the test process, a database of its own for each test,
//! and disposable clusters for the tests that stop, kill or fill one.
//!
//! With `TEST_DATABASE_URL` (a superuser's URL) that server is used instead of the shared cluster.
//! Disposable clusters are always private.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Client, NoTls};
use url::Url;

use super::process_guard::ProcessGuard;
use super::run::Run;
use super::wait::eventually;

/// A private cluster; stopped and removed when dropped, or when this process dies.
///
/// Every user on the loopback interface and the socket is trusted, but members of the role
/// `scram_users` need their password over TCP. The server's time zone is Europe/Paris.
#[derive(Debug)]
pub struct Cluster {
    guard: ProcessGuard,
    prefix: String,
    template: OnceLock<String>,
}

/// The settings of a cluster to start.
#[derive(Debug, Default)]
pub struct ClusterBuilder {
    args: Vec<String>,
}

impl ClusterBuilder {
    /// Sets a server setting.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.args.extend(["-c".to_owned(), format!("{name}={value}")]);
        self
    }

    /// Copies a file into the data folder, readable by the server alone.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.args.extend(["-f".to_owned(), path.as_ref().display().to_string()]);
        self
    }

    /// Puts a line at the top of `pg_hba.conf`.
    pub fn hba(mut self, line: &str) -> Self {
        self.args.extend(["-H".to_owned(), line.to_owned()]);
        self
    }

    /// Mounts a file system of that size (`8m`) for [`Cluster::small`]; needs root.
    pub fn small(mut self, size: &str) -> Self {
        self.args.extend(["-t".to_owned(), size.to_owned()]);
        self
    }

    /// Starts the cluster.
    pub fn start(self) -> Cluster {
        Cluster {
            guard: ProcessGuard::start("postgres", &self.args, &[]),
            prefix: "t".to_owned(),
            template: OnceLock::new(),
        }
    }
}

impl Cluster {
    /// Starts a cluster for one test alone.
    pub fn disposable() -> Self {
        ClusterBuilder::default().start()
    }

    /// Starts to describe a cluster for one test alone.
    pub fn with() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// Returns the TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.guard.property("port").unwrap().parse().unwrap()
    }

    /// Returns the cluster's folder; the Unix socket lies in it, the data in `data`.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from(self.guard.property("dir").unwrap())
    }

    /// Returns the folder of PostgreSQL's programs.
    pub fn bindir(&self) -> PathBuf {
        PathBuf::from(self.guard.property("bindir").unwrap())
    }

    /// Returns the folder on a small file system, for a tablespace that fills up.
    pub fn small(&self) -> PathBuf {
        PathBuf::from(self.guard.property("small").expect("started without a small file system"))
    }

    /// Stops the server: `immediate`, `fast` or `smart`.
    pub fn stop(&self, mode: &str) {
        self.guard.command(&format!("stop {mode}"));
    }

    /// Starts it again on the same port.
    pub fn start_again(&self) {
        self.guard.command("start");
    }

    /// Kills the postmaster with SIGKILL.
    pub fn kill(&self) {
        self.guard.command("kill");
    }

    /// Restarts the server as a hot standby, which follows no other server.
    pub fn restart_as_standby(&self) {
        self.stop("fast");
        self.guard.command("standby");
        self.start_again();
    }

    /// Restarts the server as a primary.
    pub fn restart_as_primary(&self) {
        self.stop("fast");
        self.guard.command("primary");
        self.start_again();
    }

    /// Makes the server re-read its settings.
    pub fn reload(&self) {
        self.guard.command("reload");
    }

    /// Makes an empty database in this cluster.
    pub fn empty(&self) -> Database {
        self.server().database("template0")
    }

    /// Makes a database with the tables of `datapass-pull migrate`.
    pub fn migrated(&self) -> Database {
        self.server().migrated()
    }

    fn server(&self) -> Server<'_> {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port());
        Server { admin: Url::parse(&url).unwrap(), prefix: &self.prefix, template: &self.template }
    }
}

/// Where databases are made: the shared server or a disposable cluster.
struct Server<'a> {
    admin: Url,
    prefix: &'a str,
    template: &'a OnceLock<String>,
}

enum Shared {
    Private(Cluster),
    /// The guard drops our databases and roles when this process ends.
    Given {
        _guard: ProcessGuard,
        admin: Url,
        prefix: String,
        template: OnceLock<String>,
    },
}

fn shared() -> Server<'static> {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let shared = SHARED.get_or_init(|| match std::env::var("TEST_DATABASE_URL") {
        Ok(url) if !url.is_empty() => {
            let prefix = format!("dpt{}x{:06x}", std::process::id(), fastrand::u32(..1 << 24));
            Shared::Given {
                _guard: ProcessGuard::start("postgres", &["--guard", &format!("{prefix}_")], &[]),
                admin: Url::parse(&url).expect("TEST_DATABASE_URL is not a postgres:// URL"),
                prefix,
                template: OnceLock::new(),
            }
        }
        _ => Shared::Private(Cluster::disposable()),
    });
    match shared {
        Shared::Private(cluster) => cluster.server(),
        Shared::Given { admin, prefix, template, .. } => {
            Server { admin: admin.clone(), prefix, template }
        }
    }
}

impl Server<'_> {
    fn database(&self, template: &str) -> Database {
        self.database_with(&format!("template {template}"))
    }

    fn database_with(&self, options: &str) -> Database {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("{}_{}", self.prefix, NUMBER.fetch_add(1, Ordering::Relaxed));
        connect(&self.admin).batch_execute(&format!("create database {name} {options}")).unwrap();
        let mut url = self.admin.clone();
        url.set_path(&name);
        Database { admin: self.admin.clone(), url, name, template: false }
    }

    fn migrated(&self) -> Database {
        let template = self.template.get_or_init(|| {
            let mut made = self.database("template0");
            Run::new(["migrate"]).database(&made).output().assert_success();
            made.template = true;
            made.name.clone()
        });
        self.database(template)
    }
}

fn connect(url: &Url) -> Client {
    Client::connect(url.as_str(), NoTls).unwrap_or_else(|error| {
        panic!("no connection to {}: {error:?}", url.host_str().unwrap_or_default())
    })
}

/// Returns the URL of a database with another search path.
pub fn with_search_path(url: &str, path: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    url.query_pairs_mut().append_pair("options", &format!("-csearch_path={path}"));
    url.to_string()
}

/// A database of one test; dropped with it.
#[derive(Debug)]
pub struct Database {
    admin: Url,
    url: Url,
    name: String,
    template: bool,
}

impl Database {
    /// Makes an empty database on the shared server.
    pub fn empty() -> Self {
        shared().database("template0")
    }

    /// Makes an empty database with another encoding than UTF-8.
    pub fn empty_in(encoding: &str) -> Self {
        shared().database_with(&format!("template template0 encoding {encoding} locale 'C'"))
    }

    /// Makes a database with the tables of `datapass-pull migrate` on the shared server.
    pub fn migrated() -> Self {
        shared().migrated()
    }

    /// Makes a copy as of now, like a restored backup; no client may be connected.
    pub fn copy(&self) -> Self {
        let server = shared();
        assert_eq!(server.admin, self.admin, "only of the shared server");
        server.database(&self.name)
    }

    /// Returns the superuser's URL of this database.
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    /// Returns the URL with another user and password, `""` for none.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let mut url = self.url.clone();
        url.set_username(user).unwrap();
        url.set_password((!password.is_empty()).then_some(password)).unwrap();
        url.to_string()
    }

    /// Returns the database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the server's host and port.
    pub fn host_and_port(&self) -> (String, u16) {
        (self.url.host_str().unwrap().to_owned(), self.url.port().unwrap_or(5432))
    }

    /// Returns a new connection as the superuser.
    pub fn client(&self) -> Client {
        connect(&self.url)
    }

    /// Runs statements as the superuser.
    pub fn exec(&self, sql: &str) {
        self.client().batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Makes a role that may log in and nothing else; returns its name, unique on the server. If
    /// a password is given, the role needs it over TCP (on a private cluster).
    pub fn role(&self, password: Option<&str>) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("{}_role{}", self.name, NUMBER.fetch_add(1, Ordering::Relaxed));
        self.exec(&format!("create role {name} login"));
        if let Some(password) = password {
            let password = password.replace('\'', "''");
            self.exec(&format!(
                "set standard_conforming_strings = on; alter role {name} password '{password}';
                 do $$ begin grant scram_users to {name}; exception when undefined_object then end $$"
            ));
        }
        name
    }

    /// Makes every insert into a table fail with an SQLSTATE, from the `nth` new row on (from 1).
    pub fn refuse_inserts(&self, table: &str, sqlstate: &str, nth: u32) {
        self.exec(&format!(
            "create sequence refusals_{table};
             create function refuse_{table}() returns trigger language plpgsql as $$ begin
                 if nextval('refusals_{table}') >= {nth} then
                     raise exception 'refused by the test' using errcode = '{sqlstate}';
                 end if;
                 return new;
             end $$;
             create trigger refuse_{table} before insert on {table}
                 for each row execute function refuse_{table}()"
        ));
    }

    /// Lets inserts through again.
    pub fn allow_inserts(&self, table: &str) {
        self.exec(&format!("drop function refuse_{table} cascade; drop sequence refusals_{table}"));
    }

    /// Waits until another session of this database matches `condition`, an expression over
    /// `pg_stat_activity`.
    #[track_caller]
    pub fn await_session(&self, condition: &str) {
        self.await_sessions(condition, |count| count > 0);
    }

    /// Waits until no other session of this database matches `condition`. A server notices the
    /// end of a connection a moment later.
    #[track_caller]
    pub fn await_no_session(&self, condition: &str) {
        self.await_sessions(condition, |count| count == 0);
    }

    #[track_caller]
    fn await_sessions(&self, condition: &str, is_expected: impl Fn(i64) -> bool) {
        let query = format!(
            "select count(*) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and {condition}"
        );
        let mut client = self.client();
        eventually(condition, || is_expected(client.query_one(&query, &[]).unwrap().get(0)));
    }

    /// Terminates every other session of this database; returns how many there were.
    pub fn terminate_others(&self) -> i64 {
        self.client()
            .query_one(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()",
                &[],
            )
            .unwrap()
            .get(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.template {
            return;
        }
        // A test may have stopped the server; the databases are removed with its cluster.
        let Ok(mut client) = Client::connect(self.admin.as_str(), NoTls) else {
            return;
        };
        let _ =
            client.batch_execute(&format!("drop database if exists {} with (force)", self.name));
        let roles = client
            .query(
                "select rolname from pg_roles where starts_with(rolname, $1)",
                &[&format!("{}_role", self.name)],
            )
            .unwrap_or_default();
        for role in roles {
            let _ = client.batch_execute(&format!("drop role {}", role.get::<_, &str>(0)));
        }
    }
}
