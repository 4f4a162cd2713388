//! What the fuzz targets do, as plain functions: one [`Target`] per decoder.
//!
//! `cargo +nightly fuzz run <binary>` feeds them without end. The same functions run on stable, with a bound on memory, in
//! `sdk/wire/tests/bounded.rs`, so that every change is tried on some thousand damaged inputs per decoder.
//!
//! Every target has three parts: `decode` only decodes (its memory is measured), `check` decodes and looks at what came
//! out, `sample` makes valid input out of random bytes, to be damaged by the caller.

#![forbid(unsafe_code)]

mod groups;
mod messages;
mod records;

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// The binary that runs it: an API's request and response share one.
    pub binary: &'static str,
    /// Decodes and drops the result.
    pub decode: fn(&[u8]),
    /// Decodes and panics if the result contradicts itself.
    pub check: fn(&[u8]),
    /// Valid input, as random as `entropy`.
    pub sample: fn(entropy: &[u8]) -> Vec<u8>,
    /// The most that `decode` may allocate for an input of this length.
    pub memory_bytes_max: fn(usize) -> usize,
}

/// All targets.
pub fn targets() -> impl Iterator<Item = Target> {
    messages::TARGETS.iter().chain(records::TARGETS).chain(groups::TARGETS).copied()
}

/// What the fuzzer calls: `binary` is the name of the running one, `list_offsets` for `ListOffsets`.
///
/// # Panics
/// If the decoder misbehaves; that is what the fuzzer looks for.
pub fn fuzz(binary: &str, input: &[u8]) {
    let binary = binary.replace('_', "");
    for target in targets().filter(|target| target.binary.eq_ignore_ascii_case(&binary)) {
        (target.check)(input);
    }
}
