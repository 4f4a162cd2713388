//! Runs Ottla plugins: WebAssembly components that decide about records.
//!
//! A plugin is uploaded as bytes, admitted once and then called for batches of records. Modules in the order in which
//! an upload and then a record meet them:
//!
//! 1. [`Limits`] what a plugin may cost: bytes, memory, time
//! 2. [`Upload`] a component on its way in, named by its [`Digest`]
//! 3. `header` the first eight bytes: a component, or something else with an error that says what
//! 4. [`Manifest`] what a plugin says about itself, and what it [`Reads`]
//! 5. [`compile_child_main`] compiles and questions a component in a process of its own, under rlimits
//! 6. `vault` the files: uploads by digest, compiled code under a key that only this host has
//! 7. `engine` the wasmtime engine, created with the first plugin, and its clock
//! 8. `contract` the types of `plugins/wit`, and one face over its three worlds
//! 9. [`Host`] admits and loads
//! 10. [`Columns`] records, flattened to what a plugin reads
//! 11. `instance` one live guest with its memory and time limits
//! 12. `pool` warm instances, and whose turn it is
//! 13. `binding` a plugin with its configuration: what the kinds have in common
//! 14. `answer` what a guest says about records, checked
//! 15. [`Partitioner`], [`Serializer`] and [`DeadLetterPolicy`] answer for a topic
//!
//! It promises: nothing that a plugin does or is takes the process down, leaks memory or returns an answer that was not
//! checked. It never executes code that it did not compile itself, and knows neither the log nor any socket.

mod answer;
mod binding;
mod call_error;
mod columns;
mod compile;
mod contract;
mod cpu_time;
mod digest;
mod engine;
mod header;
mod host;
mod instance;
mod limits;
mod manifest;
mod partitioner;
mod policy;
mod pool;
mod reads;
mod serializer;
mod trap;
mod upload;
mod vault;

pub use answer::Refused;
pub use binding::Setup;
pub use call_error::CallError;
pub use columns::{Columns, ColumnsBuilder, Failure};
pub use compile::{CompileError, Compiler, ComponentRefusal, compile_child_main};
pub use digest::{Digest, ParseDigestError};
pub use header::NotAComponent;
pub use host::{AdmitError, Admitted, Host, HostOptions, LoadError};
pub use limits::Limits;
pub use manifest::{Function, Kind, Manifest, ManifestError, Shape};
pub use partitioner::{Context, Partitioner, REFUSED, STAYS};
pub use policy::{Action, DeadLetterPolicy, FailureContext};
pub use reads::{Fact, NAMED_HEADERS_MAX, Reads};
pub use serializer::{NewHeader, Rewrite, Serialized, Serializer, Verdict};
pub use upload::Upload;
pub use vault::{ComponentFault, VaultError, check_store};
