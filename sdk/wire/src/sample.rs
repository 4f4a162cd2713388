//! Random messages for tests: any byte string becomes a valid value of any message in any version.
//!
//! Property tests and fuzz targets feed bytes; shrinking the bytes shrinks the message. Fields that the version does not
//! have stay at their defaults, so that a value survives a round trip unchanged.

use std::borrow::Cow;

use uuid::Uuid;

use crate::{ErrorCode, Str};

/// Bytes that decide what a sampled value looks like. Once they are used up, everything is zero and empty.
#[derive(Debug, Clone)]
pub struct Entropy<'a> {
    rest: &'a [u8],
    version: i16,
}

/// A type with random values.
pub trait Sample<'a>: Sized {
    /// A value that the version can express.
    fn sample(entropy: &mut Entropy<'a>) -> Self;
}

impl<'a> Entropy<'a> {
    /// Entropy for a message of `version`.
    pub const fn new(bytes: &'a [u8], version: i16) -> Self {
        Self { rest: bytes, version }
    }

    /// Samples a part that has a version of its own.
    pub fn at_version<T>(&mut self, version: i16, sample: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.version, version);
        let value = sample(self);
        self.version = outer;
        value
    }

    /// The version to sample for.
    pub const fn version(&self) -> i16 {
        self.version
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// Mostly small, sometimes past the point where a compact length takes two bytes.
    fn length(&mut self) -> usize {
        let byte = usize::from(self.byte());
        if byte < 0xf0 { byte % 9 } else { (byte - 0xf0) * 20 }
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl<'a> Sample<'a> for $integer {
            fn sample(entropy: &mut Entropy<'a>) -> Self {
                // Half of them are the values that schemas use as defaults.
                match entropy.byte() {
                    0..=63 => 0,
                    64..=127 => (0 as $integer).wrapping_sub(1),
                    _ => Self::from_be_bytes(entropy.array()),
                }
            }
        }
    )*};
}
integers!(i8, i16, i32, i64, u16, u32);

impl<'a> Sample<'a> for bool {
    fn sample(entropy: &mut Entropy<'a>) -> Self {
        entropy.byte() & 1 == 1
    }
}

impl<'a> Sample<'a> for Uuid {
    fn sample(entropy: &mut Entropy<'a>) -> Self {
        Self::from_bytes(entropy.array())
    }
}

impl<'a> Sample<'a> for ErrorCode {
    fn sample(entropy: &mut Entropy<'a>) -> Self {
        Self::from_code(i16::sample(entropy))
    }
}

impl<'a> Sample<'a> for Str<'a> {
    fn sample(entropy: &mut Entropy<'a>) -> Self {
        let length = entropy.length();
        Cow::Owned(entropy.bytes(length).iter().map(|&byte| char::from(byte)).collect())
    }
}

impl<'a> Sample<'a> for &'a [u8] {
    fn sample(entropy: &mut Entropy<'a>) -> Self {
        let length = entropy.length();
        entropy.bytes(length)
    }
}

impl<'a, T: Sample<'a>> Sample<'a> for Vec<T> {
    fn sample(entropy: &mut Entropy<'a>) -> Self {
        // Nothing comes from nothing: without this, the end of the entropy would still make elements.
        let count = entropy.length().min(40).min(entropy.rest.len());
        (0..count).map(|_| T::sample(entropy)).collect()
    }
}

impl<'a, T: Sample<'a>> Sample<'a> for Option<T> {
    fn sample(entropy: &mut Entropy<'a>) -> Self {
        (!entropy.byte().is_multiple_of(4)).then(|| T::sample(entropy))
    }
}
