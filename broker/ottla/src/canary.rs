//! The same binary built to break the promise that `OTTLA_CANARY` names: tests of that promise must turn red with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ottla_cli::main()
}
