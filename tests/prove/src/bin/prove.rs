//! Fault tests with counts, seeds and canaries: `cargo xtask prove`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ottla_prove::main()
}
