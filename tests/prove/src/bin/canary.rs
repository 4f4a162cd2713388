//! The same tests with a log that breaks the promise `OTTLA_CANARY` names: they must turn red.

use std::process::ExitCode;

fn main() -> ExitCode {
    ottla_prove::main()
}
