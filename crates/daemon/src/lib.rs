//! Placeholder until its first feature lands.
