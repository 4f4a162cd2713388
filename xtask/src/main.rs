//! Every chore has one name: `cargo xtask <chore>`.
//!
//! | module | owns |
//! |---|---|
//! | `shell` | running a command, with its words shown and its time bounded |
//! | `setup` | what the machine must have before anything is tested |
//! | `guests` | the WebAssembly toolchain and the ready-made plugins |
//! | `wheel` | the Python wheel, and the clean environment it is tested in |
//! | `suite` | running one suite and counting what it says |
//! | `prove` | the fault tests and their canaries |
//! | `interop` | the suites of other projects |
//! | `layers`, `imports` | what may depend on what |
//! | `check` | every suite in order, and the summary |

mod bare;
mod check;
mod guests;
mod imports;
mod interop;
mod layers;
mod prove;
mod setup;
mod shell;
mod suite;
mod wheel;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const HELP: &str = "\
Every chore of this project has one name.

    cargo xtask setup              install what tests need; safe to run again
    cargo xtask test               everything a change must pass, from a clean clone to a counted summary
    cargo xtask test NAME…         only the suites whose name contains one of NAME (`test list` shows them)
    cargo xtask plugins            build the ready-made plugins to target/plugins/<name>.wasm
    cargo xtask wheel              build the Python wheel to target/wheels/ and install it into target/venv-ottla
    cargo xtask lint [NAME…]       rustfmt, clippy, rustdoc, the layers of crates and cargo-deny, without any test
    cargo xtask prove [--size commit|night|release] [TEST…] [--seed N] [--cases N] [--json FILE]
                                   fault tests with counts, seeds and canaries (`prove list` shows them)
    cargo xtask bench [log|net|plugin|groups|growth|start|kafka] [--quick|--full] [--json FILE]
                                   Ottla against the raw ceilings of this machine and Apache Kafka, as ratios
    cargo xtask interop [NAME…]    test suites of other projects against Ottla, from their published packages (network, Java)
    cargo xtask bare [--keep]      the README's two commands in a fresh minimal Debian (root, network, about an hour);
                                   --keep uses the one of before

`setup` needs Debian or Ubuntu with rustup's Rust, Python 3.11 or newer, a C compiler and apt-get; it asks apt-get
(through sudo where it is not root) for kcat, strace and other tools that are missing, and keeps the rest under target/.
`test` runs `setup` first. Logs of every suite stay in target/test-logs/.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let root = root()?;
    let (chore, rest) = match arguments {
        [] => ("help", &[][..]),
        [chore, rest @ ..] => (chore.as_str(), rest),
    };
    match chore {
        "help" | "--help" | "-h" => print!("{HELP}"),
        "setup" => {
            let missing = setup::run(&root)?;
            if !missing.is_empty() {
                bail!("{} of the things tests need could not be installed (see above)", missing.len());
            }
        }
        "test" => return check::test(&root, rest),
        "lint" => return Ok(check::lint(&root, rest)),
        "plugins" => {
            guests::build(&root)?;
        }
        "wheel" => {
            let wheel = wheel::build(&root)?;
            wheel::install(&root, &wheel)?;
            println!("{}", wheel.display());
        }
        "bare" => bare::run(&root, rest)?,
        "interop" => return interop::run(&root, rest),
        "prove" => return prove::run(&root, rest),
        "bench" => {
            shell::cargo(&root, &["build", "--release", "--package", "ottla"]).show()?;
            guests::build(&root)?;
            shell::cargo(&root, &["run", "--release", "--package", "ottla-bench", "--"]).args(rest).show()?;
        }
        other => {
            eprint!("{HELP}");
            bail!("there is no chore called `{other}`");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The top of the checkout: chores work from any directory inside it.
fn root() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).context("xtask has no parent directory")
}
