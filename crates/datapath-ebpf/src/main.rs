//! Placeholder until its first feature lands.
fn main() {}
