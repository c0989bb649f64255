//! PostgreSQL: where it is, how to connect, what its errors mean, and the shape of our tables.
//!
//! Works through PgBouncer in transaction mode: only the simple protocol and unnamed statements
//! (`batch_execute`, `*_typed`), no session state, every setting `LOCAL` to a transaction.

pub mod connect;
pub mod schema;
pub(crate) mod sqlstate;
pub(crate) mod tables;
pub(crate) mod transaction;
pub mod url;
