//! What a partitioner is.

use crate::reads::Reads;
use crate::record::{Batch, Record};

/// Names the partition of every record. Make it a plugin with [`partitioner!`](crate::partitioner!).
///
/// The same record should always get the same answer: the broker may throw an instance away and start another at any
/// time, and several may serve one topic at once. There is no clock, no randomness, no file and no network inside.
pub trait Partitioner: Sized {
    /// Which parts of a record are looked at. Reading less makes the plugin faster.
    const READS: Reads;

    /// More pairs for the manifest, such as `("config.schema", "{…}")` or `("limits.memory-bytes", "1048576")`. Name,
    /// version and description of the crate are there anyway.
    const MANIFEST: &'static [(&'static str, &'static str)] = &[];

    /// Takes the topic's `ottla.partitioner.config`, the empty text where none is set. An error refuses the configuration
    /// and is shown to the user who set it.
    fn new(config: &str) -> Result<Self, String>;

    /// The partition of one record, below `partitions`.
    fn partition(&self, record: &Record<'_>, partitions: u32) -> u32;

    /// The partitions of a batch, for rules that look at more than one record. An error fails the batch.
    fn partition_batch(&self, batch: &Batch<'_>) -> Result<Vec<u32>, String> {
        Ok(batch.records().map(|record| self.partition(&record, batch.partitions())).collect())
    }
}

/// Makes a type that implements [`Partitioner`] the plugin of this crate, whose `crate-type` must be
/// `cdylib`. On other targets than WebAssembly it only checks the type, so that `cargo test` works.
#[macro_export]
macro_rules! partitioner {
    ($plugin:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&str) -> ::std::result::Result<$plugin, ::std::string::String> =
            <$plugin as $crate::Partitioner>::new;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::guest::{Column, Guest, Pairs, glue};

            ::std::thread_local! {
                static PLUGIN: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            struct Exports;

            impl Guest for Exports {
                fn manifest() -> Pairs {
                    glue::manifest::<$plugin>(&[
                        ("name", ::std::env!("CARGO_PKG_NAME")),
                        ("version", ::std::env!("CARGO_PKG_VERSION")),
                        ("description", ::std::env!("CARGO_PKG_DESCRIPTION")),
                    ])
                }

                fn init(config: ::std::string::String) -> ::std::result::Result<(), ::std::string::String> {
                    PLUGIN.with_borrow_mut(|plugin| glue::init(plugin, &config))
                }

                fn partition(
                    context: Pairs,
                    record_count: u32,
                    partition_count: u32,
                    columns: ::std::vec::Vec<Column>,
                ) -> ::std::result::Result<::std::vec::Vec<u32>, ::std::string::String> {
                    PLUGIN.with_borrow(|plugin| {
                        glue::partition(plugin.as_ref(), &context, record_count, partition_count, &columns)
                    })
                }
            }

    $crate::guest::export!(Exports with_types_in $crate::guest);
        };
    };
}
