//! One file for each command.

pub mod apply;
pub mod completions;
pub mod explain;
pub mod grant;
pub mod list;
pub mod man;
pub mod migrate;
pub mod plan;
mod prepare;
pub mod report;
pub mod restart;
pub mod revoke;
mod tags;
pub mod uninstall;
pub mod verify;
