//! The real SDK clients, adapters, plan, guard, apply and report against the in-process fake, call by call.
//!
//! Each test compares the whole story of a message: how it ended, what was changed and found, every call that AWS saw,
//! every event and message that was sent. One call more or less, and the test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adapters;
mod agent_table;
mod agents;
mod batches;
mod clean_up;
mod endpoints;
mod explain;
mod explain_inside;
mod fleet;
mod guarded;
mod inside;
mod interleavings;
mod kubernetes;
mod orphans;
mod patterns;
mod races;
mod restarting;
mod roles;
mod standing;
mod sweeps;
mod trouble;
mod uninstall;
mod world;
