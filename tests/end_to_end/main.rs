//! The real bootstraps, deployed from infra/ onto a local AWS by the AWS
//! command line. Each test has an account of its own, and judges by what AWS
//! and the event bus say; never by logs, nor by time.

mod clusters;
mod delivery;
mod foreign;
mod grants;
mod inside;
mod operations;
mod orphans;
mod sweeps;
mod world;
