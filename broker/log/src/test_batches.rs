//! Batches for the unit tests of this crate.

use ottla_wire::record::{BatchBuilder, Codec};

/// An uncompressed batch of one record with this value.
pub(crate) fn batch_of(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(1, None, Some(value), std::iter::empty()).unwrap();
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    bytes
}

/// The same with a value of `value_bytes` bytes, all of them `tag`.
pub(crate) fn batch(tag: u8, value_bytes: usize) -> Vec<u8> {
    batch_of(&vec![tag; value_bytes])
}
