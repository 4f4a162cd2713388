//! Write Ottla plugins in Rust.
//!
//! A partitioner is a type that names the partition of each record:
//!
//! ```
//! use ottla_plugin::{Partitioner, Reads, Record, hash, partitioner};
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
//!     fn partition(&self, record: &Record<'_>, partitions: u32) -> u32 {
//!         let tenant = record.key().unwrap_or_default().split(|&byte| byte == b'/').next().unwrap_or_default();
//!         hash::kafka_partition(tenant, partitions)
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
//! Modules in the order in which a plugin meets them:
//!
//! 1. [`Partitioner`] what a plugin is, and [`Reads`] what it looks at
//! 2. [`Batch`] and [`Record`] what it is given
//! 3. [`hash`] the hashes that other clients use as well
//! 4. [`testing`] runs the rule with `cargo test`, without a broker
//! 5. `guest` the component's side of the contract, and `last_words` what a panic tells the host; only there when building for
//!    WebAssembly

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;
pub mod hash;
#[cfg(target_arch = "wasm32")]
mod last_words;
mod partitioner;
mod reads;
mod record;
pub mod testing;

pub use partitioner::Partitioner;
pub use reads::Reads;
pub use record::{Batch, HeaderIter, Headers, Record, Records};
