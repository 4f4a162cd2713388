//! The WebAssembly toolchain, and the ready-made plugins it builds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell::{cargo, shell};

const TARGET: &str = "wasm32-unknown-unknown";
const PLUGINS: &[&str] = &["by-section"];

/// Gets what guests need to compile.
pub(crate) fn setup(_root: &Path) -> Result<()> {
    shell("rustup", &["target", "add", TARGET]).quiet().map(|_| ())
}

/// Builds every ready-made plugin to `target/plugins/<name>.wasm`.
pub(crate) fn build(root: &Path) -> Result<Vec<PathBuf>> {
    let plugins = root.join("target/plugins");
    fs::create_dir_all(&plugins)?;
    let mut built = Vec::new();
    for name in PLUGINS {
        cargo(root, &["build", "--profile", "plugin", "--target", TARGET, "--package", name]).show()?;
        let module = root.join("target").join(TARGET).join("plugin").join(format!("{}.wasm", name.replace('-', "_")));
        let plugin = plugins.join(format!("{name}.wasm"));
        fs::copy(&module, &plugin).with_context(|| format!("cannot copy {}", module.display()))?;
        built.push(plugin);
    }
    Ok(built)
}
