//! Parses, runs, and returns the exit code.
fn main() {}
