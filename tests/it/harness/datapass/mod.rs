//! A stand-in DataPass: a small stateful HTTP server on 127.0.0.1 that behaves as the real one
//! does, and misbehaves when a test asks for it.
//!
//! It lists in the real order, pages, caps, filters on `state[]` and on what the account may see;
//! its tokens expire and can be revoked. Tests change its [`Upstream`] at any time, also between
//! two given requests ([`DataPass::before`]), hold a request back ([`DataPass::gate`]), and set
//! [`Fault`]s. It records every request.

mod api;
mod demande;
mod fault;
mod http;
mod server;
mod upstream;

pub use demande::{CANARY, DEFINITION, Demande, at, minute, paris, siret, validated};
pub use fault::{Endpoint, Fault, On};
pub use http::{Answer, Request};
pub use server::{DataPass, Gate};
pub use upstream::{Clock, Ties, Upstream};
