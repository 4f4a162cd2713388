//! The Python wheel: built by maturin into the shared target directory, installed into an environment of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::shell::shell;

/// Builds the wheel to `target/wheels/` and returns its path.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let wheels = root.join("target/wheels");
    let maturin = root.join("target/venv/bin/maturin");
    if !maturin.exists() {
        anyhow::bail!("maturin is not installed: run `cargo xtask setup` first");
    }
    fs::create_dir_all(&wheels)?;
    shell(maturin, &["build", "--release", "--quiet", "--manifest-path", "bindings/python/Cargo.toml", "--out"])
        .args(&[wheels.to_string_lossy()])
        .env("CARGO_TARGET_DIR", root.join("target"))
        .at(root)
        .quiet()?;
    newest(&wheels).context("maturin left no wheel in target/wheels")
}

/// Installs `wheel` into a new environment that has nothing but pytest and mypy beside it: what a user's machine has.
pub(crate) fn install(root: &Path, wheel: &Path) -> Result<()> {
    let venv = root.join("target/venv-ottla");
    let stamp = venv.join("installed");
    let wanted = wheel.to_string_lossy().into_owned();
    let python = venv.join("bin/python");
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let current = fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
        && changed(&stamp) >= changed(wheel)
        && shell(&python, &["-c", "import ottla, pytest, mypy"]).works();
    if current {
        return Ok(());
    }
    shell("python3", &["-m", "venv", "--clear"]).args(&[venv.to_string_lossy()]).quiet()?;
    shell(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pytest==9.2.0", "mypy==2.4.1"])
        .args(&[&wanted])
        .quiet()?;
    fs::write(stamp, wanted)?;
    Ok(())
}

fn newest(wheels: &Path) -> Option<PathBuf> {
    let age = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let files = fs::read_dir(wheels).ok()?.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "whl")).max_by_key(age)
}
