//! Where the things under test and the tools around them are. All of it is made by `cargo xtask test`.

use std::path::{Path, PathBuf};

/// The top of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The broker under test: `target/release/ottla`.
pub fn ottla() -> PathBuf {
    built("release/ottla", "cargo build --release --package ottla")
}

/// The broker that breaks the promise named by `OTTLA_CANARY`, which the test of that promise must catch.
pub fn ottla_canary() -> PathBuf {
    let how = "cargo build --release --package ottla --bin ottla-canary --features canary";
    built("release/ottla-canary", how)
}

/// A ready-made plugin, `name` without `.wasm`.
pub fn plugin(name: &str) -> PathBuf {
    built(&format!("plugins/{name}.wasm"), "cargo xtask plugins")
}

/// The Python with stock clients in it.
pub fn python() -> PathBuf {
    built("venv/bin/python", "cargo xtask setup")
}

/// The Python with nothing but our wheel (and pytest) in it.
pub fn python_with_wheel() -> PathBuf {
    built("venv-ottla/bin/python", "cargo xtask wheel")
}

/// Where npm put its packages.
pub fn node_modules() -> PathBuf {
    built("node/node_modules", "cargo xtask setup")
}

/// A client in Go, built from `tests/clients/go/`.
pub fn go_client(name: &str) -> PathBuf {
    built(&format!("go/{name}"), "cargo xtask setup")
}

/// Whether the clients in Go could be built.
pub fn has_go_clients() -> bool {
    ["franz", "sarama", "segmentio"].iter().all(|name| root().join("target/go").join(name).exists())
}

/// The program around rskafka, a package of its own in `tests/clients/rskafka/`.
pub fn rskafka() -> PathBuf {
    built("rskafka/release/client-rskafka", "cargo xtask setup")
}

/// Client programs of these tests: `tests/clients/`.
pub fn client(name: &str) -> PathBuf {
    root().join("tests/clients").join(name)
}

fn built(path: &str, how: &str) -> PathBuf {
    let path = root().join("target").join(path);
    assert!(path.exists(), "{} is not there: run `cargo xtask test` once, or `{how}`", path.display());
    path
}
