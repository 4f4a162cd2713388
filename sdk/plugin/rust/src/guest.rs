//! The component's side of the contract, generated from the WIT text. Used by [`partitioner!`](crate::partitioner!) alone.

#![allow(missing_docs)]

#[allow(unsafe_code, clippy::all, clippy::pedantic)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../plugins/wit/draft-0.1",
        world: "partitioner-plugin",
        pub_export_macro: true,
    });
}

pub use bindings::export;
pub use bindings::exports;
pub use bindings::exports::ottla::plugin::partitioner::{Column, Guest};

/// Names and texts.
pub type Pairs = Vec<(String, String)>;

/// What the macro calls, so that it stays a few lines.
pub mod glue {
    use super::{Column, Pairs};
    use crate::{Batch, Partitioner, last_words};

    pub fn manifest<P: Partitioner>(about: &[(&str, &str)]) -> Pairs {
        last_words::keep();
        let reads = P::READS.text();
        [("kind", "partitioner"), ("shape", "may-route"), ("reads", reads.as_str())]
            .iter()
            .chain(
                about.iter().filter(|(name, text)| !text.is_empty() && !P::MANIFEST.iter().any(|(own, _)| own == name)),
            )
            .chain(P::MANIFEST)
            .map(|&(name, text)| (name.to_owned(), text.to_owned()))
            .collect()
    }

    pub fn init<P: Partitioner>(plugin: &mut Option<P>, config: &str) -> Result<(), String> {
        last_words::keep();
        *plugin = Some(P::new(config)?);
        Ok(())
    }

    pub fn partition<P: Partitioner>(
        plugin: Option<&P>,
        context: &Pairs,
        record_count: u32,
        partition_count: u32,
        columns: &[Column],
    ) -> Result<Vec<u32>, String> {
        let plugin = plugin.ok_or("partition was called before init")?;
        let columns = columns.iter().map(|column| (column.kind, &column.bytes[..], &column.lengths[..]));
        plugin.partition_batch(&Batch::new(P::READS, context, record_count, partition_count, columns))
    }
}
