//! The harness behaves as the other tests assume.

mod fake_datapass;
mod servers;
mod summary;
