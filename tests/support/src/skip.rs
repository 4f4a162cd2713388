//! Saying that a test cannot run here, and why. `cargo xtask test` counts it as skipped and prints the reason.

use std::fs::OpenOptions;
use std::io::Write;

/// Names the file that collects reasons.
const SKIPS_VARIABLE: &str = "OTTLA_SKIPS";

/// Notes that `test` did not run. The caller returns right after.
pub fn test(test: &str, why: &str) {
    eprintln!("skipped {test}: {why}");
    let Some(path) = std::env::var_os(SKIPS_VARIABLE) else { return };
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path) {
        // One write per line, so that lines of tests on other threads stay whole.
        file.write_all(format!("{test}: {why}\n").as_bytes()).ok();
    }
}
