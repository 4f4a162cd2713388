//! The types of `plugins/wit`, one module per version of the contract.

/// Draft 0.1. Generated from the WIT text, so that the two cannot disagree.
#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::pedantic)]
mod draft_0_1 {
    wasmtime::component::bindgen!({
        path: "../wit/draft-0.1",
        world: "partitioner-plugin",
        ownership: Borrowing { duplicate_if_necessary: false },
    });
}

pub(crate) use draft_0_1::exports::ottla::plugin::partitioner::Column;
pub(crate) use draft_0_1::{PartitionerPlugin, PartitionerPluginIndices};

/// What a partitioner exports.
pub(crate) const PARTITIONER: &str = "ottla:plugin/partitioner@0.1.0-draft";
/// The functions in it.
pub(crate) const PARTITIONER_FUNCTIONS: [&str; 3] = ["manifest", "init", "partition"];
/// The name without its version, to recognise plugins built against another version of the contract.
pub(crate) const PACKAGE: &str = "ottla:plugin/";
