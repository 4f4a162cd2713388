//! `cargo xtask prove`: fault tests with counts, seeds and canaries. The tests are `ottla-prove`; this builds what it needs.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::shell::{SELECTION, Shell, cargo, shell};

/// Builds the broker, the tests, and both of them once more with promises that can be broken, then runs the tests.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<ExitCode> {
    // The tests of the workspace along with them: another selection would compile the large dependencies again.
    cargo(root, &["build", "--quiet", "--bins", "--tests"]).args(SELECTION).show().context("the build")?;
    canaries(root).show().context("the build of the canaries")?;
    let proven = program(root).args(words).show();
    Ok(if proven.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the broker and the tests with promises that can be broken. A test along with them, so that features unify as in
/// every other build.
pub(crate) fn canaries(root: &Path) -> Shell {
    let bins = ["build", "--quiet", "--bin", "ottla-canary", "--bin", "ottla-prove-canary"];
    let features = ["--features", "ottla/canary,ottla-prove/canary"];
    cargo(root, &bins).args(&features).args(&["--test", "no_ack_before_its_fdatasync"]).args(SELECTION)
}

/// The tests.
pub(crate) fn program(root: &Path) -> Shell {
    shell(root.join("target/release/ottla-prove"), &[]).at(root)
}
