//! What goes between the compile child and its parent.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::contract::interface;
use crate::limits::Limits;
use crate::manifest::Kind;

pub(super) const JOB: &str = "job.json";
pub(super) const REPORT: &str = "report.json";
pub(super) const CODE: &str = "code";
pub(super) const OUTPUT: &str = "output.txt";

/// What the child has to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) component: PathBuf,
    pub(super) limits: Limits,
    /// The parent's engine; a child of another build must not compile for it.
    pub(super) engine: String,
}

/// What the child found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    Compiled { pairs: Vec<(String, String)> },
    Refused(ComponentRefusal),
    OutOfMemory,
    OtherEngine { found: String },
}

/// What is wrong with a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum ComponentRefusal {
    #[error("it is not a valid component: {reason}")]
    Invalid { reason: String },
    #[error("it imports {}, and nothing is granted to plugins of this kind{}", list(.imports), hint(.imports))]
    UngrantedImports { imports: Vec<String> },
    #[error(
        "it is built against {found}, this host speaks {supported}; build it again with the plugin kit of this release \
         (for Rust: the crate ottla-plugin, then `cargo build --release --target wasm32-unknown-unknown`) and push it again \
         under the same name{}",
        if .found.contains("-draft") { "; the drafts of the contract ended with 0.1, and what they changed is listed in plugins/wit" } else { "" }
    )]
    OtherContract { found: String, supported: String },
    #[error(
        "it is not a plugin of a known kind: it does not export {missing}; its exports are {}",
        if .exports.is_empty() { "none".to_owned() } else { list(.exports) }
    )]
    WrongWorld { missing: String, exports: Vec<String> },
    #[error("it exports the interfaces of {}; a plugin is of one kind", list(.kinds))]
    SeveralKinds { kinds: Vec<String> },
    #[error("a function of {interface} has other types than the contract: {reason}")]
    WrongSignature { interface: String, reason: String },
    #[error("it cannot tell its manifest: {reason}")]
    ManifestCall { reason: String },
    #[error("its manifest is refused: {reason}")]
    Manifest { reason: String },
    #[error("it fails on the empty configuration: {reason}; a configuration that it needs is asked for with an error")]
    InitCall { reason: String },
    #[error(
        "it fails on each of {samples} sample records: {reason}; what it does not understand is refused with an error"
    )]
    SampleCalls { samples: usize, reason: String },
}

impl ComponentRefusal {
    /// A component of a contract that this host does not speak.
    pub(crate) fn other_contract(found: String) -> Self {
        Self::OtherContract { found, supported: Kind::ALL.map(interface).join(", ") }
    }
}

fn list(names: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown = names.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn hint(imports: &[String]) -> &'static str {
    if imports.iter().any(|name| name.starts_with("wasi:")) {
        "; for Rust, build for wasm32-unknown-unknown instead of a wasi target"
    } else {
        ""
    }
}
