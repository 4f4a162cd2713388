//! Write Ottla plugins in Rust.
//!
//! A partitioner is a type that names the partition of each record:
//!
//! ```
//! use ottla_plugin::{Partitioner, Placement, Reads, Record, hash, partitioner};
//!
//! struct ByTenant;
//!
//! impl Partitioner for ByTenant {
//!     const READS: Reads = Reads::KEY;
//!
//!     fn new(_config: &str) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn partition(&self, record: &Record<'_>, partitions: u32) -> Placement {
//!         let tenant = record.key().unwrap_or_default().split(|&byte| byte == b'/').next().unwrap_or_default();
//!         hash::kafka_partition(tenant, partitions).into()
//!     }
//! }
//!
//! partitioner!(ByTenant);
//! # fn main() {
//! # let plugin = ottla_plugin::testing::load::<ByTenant>("").unwrap();
//! # let partition = |key| plugin.partition(ottla_plugin::testing::record().key(key), 6);
//! # assert_eq!(partition("acme/1"), partition("acme/2"));
//! # }
//! ```
//!
//! A serializer gives a [`Verdict`] on each record before it is stored:
//!
//! ```
//! use ottla_plugin::{Reads, Record, Refusal, Serializer, Verdict, serializer};
//!
//! struct NotEmpty;
//!
//! impl Serializer for NotEmpty {
//!     const READS: Reads = Reads::value_prefix(1);
//!     const CODES: &'static [&'static str] = &["empty"];
//!
//!     fn new(_config: &str) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn encode(&self, record: &Record<'_>) -> Verdict {
//!         match record.value() {
//!             Some([]) | None => Verdict::Reject(Refusal::new("empty", "a record needs a value here")),
//!             Some(_) => Verdict::Accept,
//!         }
//!     }
//! }
//!
//! serializer!(NotEmpty);
//! # fn main() {
//! # let plugin = ottla_plugin::testing::load_serializer::<NotEmpty>("").unwrap();
//! # assert_eq!(plugin.encode(ottla_plugin::testing::record().value("x")), Verdict::Accept);
//! # assert_ne!(plugin.encode(ottla_plugin::testing::record()), Verdict::Accept);
//! # }
//! ```
//!
//! Modules in the order in which a plugin meets them:
//!
//! 1. [`Partitioner`], [`Serializer`] and [`DeadLetterPolicy`]: the kinds of plugin, and [`Reads`] what they look at
//! 2. [`Batch`] and [`Record`] what they are given, [`Assets`] what is bound with them
//! 3. `answer`: what they say about records, as the contract wants it; a [`Refusal`] says why
//! 4. [`hash`] the hashes that other clients use as well
//! 5. [`testing`] runs the rule with `cargo test`, without a broker
//! 6. `guest` the component's side of the contract, and `last_words` what a panic tells the host; only there when building for
//!    WebAssembly

mod answer;
mod assets;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;
pub mod hash;
#[cfg(target_arch = "wasm32")]
mod last_words;
mod partitioner;
mod policy;
mod reads;
mod record;
mod serializer;
pub mod testing;

pub use answer::Refusal;
pub use assets::Assets;
pub use partitioner::{Partitioner, Placement, Placements};
pub use policy::{Action, Actions, DeadLetterPolicy};
pub use reads::Reads;
pub use record::{Batch, HeaderIter, Headers, Record, Records};
pub use serializer::{NewHeader, Rewrite, Serializer, Verdict, Verdicts};
