//! The WebAssembly toolchain, and the ready-made plugins it builds.
//!
//! A guest is built for `wasm32-unknown-unknown` and linked by `wasm-component-ld`, which comes with every Rust toolchain
//! and makes a component without imports at once. What a toolchain may lack is the standard library of that target:
//! rustup has it; where rustup cannot download, `guest_toolchain.sh` makes one out of Debian's packages.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::{Shell, cargo, shell};

const TARGET: &str = "wasm32-unknown-unknown";
const PLUGINS: &[&str] = &["by-section", "by-key", "json-schema"];
/// Guests that misbehave, examples of the kit.
const TEST_GUESTS: &[&str] = &["panics", "reads_the_clock"];
/// Seconds that rustup may try to reach its server.
const RUSTUP_S_MAX: &str = "180";
/// How every component begins: magic, version 13, layer 1.
const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

/// What Cargo must be told to build guests.
pub(crate) struct GuestEnv {
    variables: Vec<(&'static str, OsString)>,
}

impl GuestEnv {
    fn apply(&self, command: Shell) -> Shell {
        self.variables.iter().fold(command, |command, (name, value)| command.env(name, value))
    }
}

/// Gets what guests need to compile.
pub(crate) fn setup(root: &Path) -> Result<()> {
    toolchain(root).map(drop)
}

/// Finds a compiler with the guests' standard library, or makes one. Quick where that was done before.
pub(crate) fn toolchain(root: &Path) -> Result<GuestEnv> {
    let sysroot = PathBuf::from(rustc(root, &["--print", "sysroot"])?.trim());
    let host = rustc(root, &["--version", "--verbose"])?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not tell its host")?;
    let tools = sysroot.join("lib/rustlib").join(host).join("bin");

    let linker = tools.join("wasm-component-ld");
    if !linker.is_file() {
        bail!("{} is missing; a Rust toolchain from rustup has it", linker.display());
    }
    let lld = tools.join("gcc-ld/wasm-ld").into_os_string().into_string();
    let lld = lld.map_err(|path| anyhow::anyhow!("{} is no text", path.display()))?;
    let mut variables = vec![
        ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker.into_os_string()),
        // Of all ways to pass flags the one that no variable of the user's shell can override.
        ("CARGO_ENCODED_RUSTFLAGS", format!("-Clink-arg=--wasm-ld-path={lld}").into()),
        // A directory of their own: another compiler may be at work here than for the host.
        ("CARGO_TARGET_DIR", root.join("target/guests").into_os_string()),
    ];

    if !has_std(&sysroot) {
        rustup_add(root);
    }
    if !has_std(&sysroot) {
        let made = root.join("target/guest-toolchain");
        if !has_std(&made.join("usr")) {
            println!("rustup has no {TARGET} here; making one from Debian's packages (about 140 MB, half a minute)");
            let script = root.join("xtask/src/guest_toolchain.sh");
            shell("bash", &[])
                .args(&[script.to_string_lossy(), made.to_string_lossy(), tools.to_string_lossy()])
                .show()?;
        }
        variables.push(("RUSTC", made.join("rustc").into_os_string()));
    }
    Ok(GuestEnv { variables })
}

/// Builds every ready-made plugin to `target/plugins/<name>.wasm`, and the guests of the tests to `target/plugins/tests/`.
pub(crate) fn build(root: &Path) -> Result<Vec<PathBuf>> {
    let environment = toolchain(root)?;
    let compile = |what: &[&str]| {
        let command = cargo(root, &["build", "--profile", "plugin", "--target", TARGET]).args(what);
        environment.apply(command).show()
    };
    let plugins = root.join("target/plugins");
    fs::create_dir_all(plugins.join("tests"))?;
    let made = root.join("target/guests").join(TARGET).join("plugin");
    let mut built = Vec::new();
    for name in PLUGINS {
        compile(&["--package", name])?;
        let component = made.join(format!("{}.wasm", name.replace('-', "_")));
        built.push(place(&component, plugins.join(format!("{name}.wasm")))?);
    }
    for name in TEST_GUESTS {
        compile(&["--package", "ottla-plugin", "--example", name])?;
        place(&made.join("examples").join(format!("{name}.wasm")), plugins.join(format!("tests/{name}.wasm")))?;
    }
    Ok(built)
}

/// Puts a component where it is looked for.
fn place(component: &Path, plugin: PathBuf) -> Result<PathBuf> {
    let bytes = fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
    if !bytes.starts_with(COMPONENT_HEADER) {
        bail!("{} is not a component; was it linked by wasm-component-ld?", component.display());
    }
    // Renamed into place, so that an upload at the same time does not read half of it.
    let fresh = plugin.with_extension("wasm.fresh");
    fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, &plugin))?;
    Ok(plugin)
}

fn rustc(root: &Path, arguments: &[&str]) -> Result<String> {
    shell("rustc", arguments).at(root).quiet()
}

/// Asks rustup for it. Whether that worked is seen by what is there afterwards.
fn rustup_add(root: &Path) {
    let _ = shell("timeout", &[RUSTUP_S_MAX, "rustup", "target", "add", TARGET]).at(root).works();
}

/// Whether this toolchain has the guests' standard library.
fn has_std(sysroot: &Path) -> bool {
    let libraries = fs::read_dir(sysroot.join("lib/rustlib").join(TARGET).join("lib"));
    libraries.is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
    })
}
