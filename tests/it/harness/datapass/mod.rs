//! A fake DataPass: a small stateful HTTP server on 127.0.0.1 that behaves like the real one, and
//! misbehaves when a test asks for it.
//!
//! Its listing has the real order, pages, page limits and filters on `state[]` and on the account's
//! access; its tokens expire and can be revoked. Tests change its [`Upstream`] at any time, also
//! between two given requests ([`DataPass::before`]), hold a request ([`DataPass::gate`]), and set
//! [`Fault`]s. It records every request.

mod api;
mod demande;
mod fault;
mod http;
mod server;
mod upstream;

pub use demande::{CANARY, DEFINITION, Demande, at, minute, paris, siret, validated};
pub use fault::{Endpoint, Fault, On};
pub use http::{Request, Response};
pub use server::{DataPass, Gate};
pub use upstream::{Clock, Ties, Upstream};
