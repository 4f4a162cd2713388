//! The same binary with fsync left out (feature `canary-no-fsync`): tests of durability must turn red with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ottla_broker::cli::main()
}
