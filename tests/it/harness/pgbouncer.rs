//! Debian's PgBouncer in transaction mode in front of a database.

use super::postgres::Database;
use super::process_guard::ProcessGuard;

/// A private PgBouncer with two server connections; stopped when dropped, or when this process
/// dies.
#[derive(Debug)]
pub struct PgBouncer {
    guard: ProcessGuard,
    name: String,
}

impl PgBouncer {
    /// Starts one in front of the server of a database. Every client that connects to it is that
    /// server's superuser.
    pub fn start(database: &Database) -> Self {
        Self::with(database, "")
    }

    /// Starts one with additional lines of its configuration.
    pub fn with(database: &Database, settings: &str) -> Self {
        let env = [("SERVER_URL", &*database.url()), ("SETTINGS", settings)];
        let guard = ProcessGuard::start::<&str>("pgbouncer", &[], &env);
        Self { guard, name: database.name().to_owned() }
    }

    /// Returns the URL of the database through the pooler.
    pub fn url(&self) -> String {
        format!("postgres://anybody@127.0.0.1:{}/{}", self.port(), self.name)
    }

    /// Returns the TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.guard.property("port").unwrap().parse().unwrap()
    }
}
