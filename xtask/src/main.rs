//! podgrant's own commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod dist;
mod figures;
mod local_aws;
mod local_kubernetes;
mod run;

use bench::Bench;
use dist::Architecture;

/// podgrant's own commands. Each installs what it needs under target/, from package registries only.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays podgrant's whole job on a local AWS, and checks that all is as told.
    Demo {
        /// Leave the local AWS running, to look around in and to tag roles by hand.
        #[arg(long)]
        keep: bool,
    },
    /// Runs all tests: core, adapters, events, the local AWS's own, and end to end with the real bootstraps.
    Test {
        /// Only the tests whose names hold this (Rust tests only).
        filter: Option<String>,
    },
    /// Builds what is deployed: target/dist/<function>-<architecture>.zip, with checksums.
    Dist {
        /// For which architectures; arm64 needs `rustup target add aarch64-unknown-linux-gnu`.
        #[arg(long = "arch", value_enum, default_values = ["arm64", "x86_64"])]
        architectures: Vec<Architecture>,
    },
    /// Measures, and prints the figures: start, scale, planning, instructions.
    Bench {
        /// Which.
        #[arg(value_enum, default_values = ["start", "scale", "planning", "instructions"])]
        benches: Vec<Bench>,
        /// Fail where the work takes more instructions than the figures that are kept, by more than 10 %.
        #[arg(long)]
        check: bool,
        /// Keep the figures, to compare with: as a release does.
        #[arg(long, conflicts_with = "check")]
        keep: bool,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Demo { keep } => run::demo(keep),
        Command::Test { filter } => run::test(filter.as_deref()),
        Command::Bench { benches, check, keep } => bench::bench(&benches, check, keep),
        Command::Dist { architectures } => dist::dist(&architectures),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
