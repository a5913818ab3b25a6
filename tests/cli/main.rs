//! The command line against the in-process fake: what a person sees on each stream, what a program reads, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod applying;
mod docs;
mod explaining;
mod granting;
mod help;
mod listing;
mod migrating;
mod person;
mod planning;
mod reporting;
mod restarting;
mod trouble;
mod uninstalling;
mod verifying;
