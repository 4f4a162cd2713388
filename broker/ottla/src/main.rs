//! The `ottla` binary: broker and command line in one.

use std::process::ExitCode;

fn main() -> ExitCode {
    ottla_cli::main()
}
