//! What a partitioner is.

use crate::answer::{Refusal, Refusals};
use crate::assets::Assets;
use crate::reads::Reads;
use crate::record::{Batch, Record};

/// Names the partition of every record. Make it a plugin with [`partitioner!`](crate::partitioner!).
///
/// The same record should always get the same answer: the broker may throw an instance away and start another at any
/// time, and several may serve one topic at once. There is no clock, no randomness, no file and no network inside.
pub trait Partitioner: Sized {
    /// Which parts of a record are looked at. Reading less makes the plugin faster.
    const READS: Reads;

    /// The codes that refusals may have: letters a to z, digits, `.` and `-`, at most 48 of them each.
    const CODES: &'static [&'static str] = &[];

    /// More pairs for the manifest, such as `("config.schema", "{…}")` or `("limits.memory-bytes", "1048576")`. Name,
    /// version and description of the crate are there anyway.
    const MANIFEST: &'static [(&'static str, &'static str)] = &[];

    /// Takes the topic's `ottla.partitioner.config`, the empty text where none is set. An error refuses the configuration
    /// and is shown to the user who set it.
    fn new(config: &str) -> Result<Self, String>;

    /// The same with the assets that `MANIFEST` asks for.
    fn with_assets(config: &str, _assets: Assets<'_>) -> Result<Self, String> {
        Self::new(config)
    }

    /// The partition of one record: a number below `partitions`, or another [`Placement`].
    fn partition(&self, record: &Record<'_>, partitions: u32) -> Placement;

    /// The partitions of a batch, for rules that look at more than one record: one placement for each, in their order. An
    /// error fails the batch.
    fn partition_batch(&self, batch: &Batch<'_>, placements: &mut Placements) -> Result<(), String> {
        for record in batch {
            placements.push(self.partition(&record, batch.partitions()));
        }
        Ok(())
    }
}

/// Where a record goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// To this partition.
    At(u32),
    /// It stays where its producer put it.
    Stays,
    /// Nowhere: its producer gets an error.
    Refused(Refusal),
}

impl From<u32> for Placement {
    fn from(partition: u32) -> Self {
        Self::At(partition)
    }
}

/// The placements of a batch.
#[derive(Debug, Default)]
pub struct Placements {
    pub(crate) partitions: Vec<i32>,
    pub(crate) refusals: Refusals,
}

impl Placements {
    /// With room for so many records.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // only a component answers
    pub(crate) fn with_capacity(records: usize) -> Self {
        Self { partitions: Vec::with_capacity(records), refusals: Refusals::default() }
    }

    /// Where the next record goes.
    pub fn push(&mut self, placement: impl Into<Placement>) {
        let number = match placement.into() {
            // One that no topic has: the host says which record it was.
            Placement::At(partition) => i32::try_from(partition).unwrap_or(i32::MAX),
            Placement::Stays => -1,
            Placement::Refused(refusal) => {
                self.refusals.set(self.partitions.len(), &refusal);
                -2
            }
        };
        self.partitions.push(number);
    }
}

/// Makes a type that implements [`Partitioner`] the plugin of this crate, whose `crate-type` must be
/// `cdylib`. On other targets than WebAssembly it only checks the type, so that `cargo test` works.
#[macro_export]
macro_rules! partitioner {
    ($plugin:ty) => {
        $crate::__plugin!($plugin, Partitioner, partitioner, {
            fn partition(
                context: Pairs,
                record_count: u32,
                partition_count: u32,
                columns: ::std::vec::Vec<Column>,
            ) -> ::std::result::Result<Answer, ::std::string::String> {
                PLUGIN.with_borrow(|plugin| {
                    kind::partition(plugin.as_ref(), &context, record_count, partition_count, &columns)
                })
            }
        });
    };
}

/// What the macros of the three kinds have in common. Not for users.
#[doc(hidden)]
#[macro_export]
macro_rules! __plugin {
    ($plugin:ty, $trait:ident, $kind:ident, {$($work:tt)*}) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&str) -> ::std::result::Result<$plugin, ::std::string::String> = <$plugin as $crate::$trait>::new;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::guest::Pairs;
            use $crate::guest::$kind as kind;
            use $crate::guest::$kind::{Answer, Column, Guest};

            ::std::thread_local! {
                static PLUGIN: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            struct Exports;

            impl Guest for Exports {
                fn manifest() -> Pairs {
                    kind::manifest::<$plugin>(&[
                        ("name", ::std::env!("CARGO_PKG_NAME")),
                        ("version", ::std::env!("CARGO_PKG_VERSION")),
                        ("description", ::std::env!("CARGO_PKG_DESCRIPTION")),
                    ])
                }

                fn init(
                    config: ::std::string::String,
                    assets: ::std::vec::Vec<(::std::string::String, ::std::vec::Vec<u8>)>,
                ) -> ::std::result::Result<Pairs, ::std::string::String> {
                    PLUGIN.with_borrow_mut(|plugin| kind::init(plugin, &config, &assets))
                }

                $($work)*
            }

            $crate::guest::$kind::export!(Exports with_types_in $crate::guest::$kind);
        };
    };
}
