//! Lists the demandes.

pub mod decode;
