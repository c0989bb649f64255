//! What the tests share: a private PostgreSQL, a fake DataPass, and the binary under test.
//!
//! ```ignore
//! let upstream = DataPass::start();
//! upstream.add(Demande::cnous(1));
//! let db = Database::migrated();
//! let summary = Run::cycle(&upstream, &db).output().success();
//! assert_eq!(summary.created, 1);
//! ```

// Each module uses what it needs.
#![allow(dead_code, unused_imports)]

pub mod datapass;
pub mod http_proxy;
pub mod ingest;
mod isolation;
pub mod pgbouncer;
pub mod postgres;
mod process_guard;
pub mod proxy;
pub mod pypi;
pub mod run;
pub mod summary;
pub mod tables;
pub mod terminal;
mod wait;

pub use datapass::{DataPass, Demande, Endpoint, Fault, On, at, minute, validated};
pub use http_proxy::HttpProxy;
pub use isolation::{Isolation, isolation};
pub use pgbouncer::PgBouncer;
pub use postgres::{Cluster, Database, with_search_path};
pub use proxy::{Place, Proxy};
pub use run::{Outcome, Run, Running, clock_library, release_binary};
pub use summary::Summary;
pub use tables::{GOOD_JOBS_3_99, GOOD_JOBS_4, RejectionRow};
pub use terminal::Terminal;
pub use wait::{SchedulingDelay, eventually};
