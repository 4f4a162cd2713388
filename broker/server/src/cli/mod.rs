//! The command line.

pub mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Kafka-protocol broker that runs your WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (what `ottla` alone does, too)
    Serve(serve::ServeArgs),
    /// Compiles a plugin in a process of its own; the broker starts it itself
    #[command(name = "__compile", hide = true)]
    Compile {
        /// Handed on as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// The whole program.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        None => serve::run(&serve::ServeArgs::default()),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Compile { args }) => ottla_plugin_host::compile_child_main(args),
    }
}
