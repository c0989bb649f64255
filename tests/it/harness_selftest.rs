//! The harness does what the other tests take for granted.

mod servers;
mod standin;
mod summary;
