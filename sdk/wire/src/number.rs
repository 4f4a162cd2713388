//! Newtypes for the numbers that travel between parts, so that an offset is never taken for an epoch.

use std::fmt;

use crate::primitive::{DecodeError, Reader, Wire, Writer};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), none = $none:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// Kafka's way to say that there is none.
            pub const NONE: Self = Self($none);

            /// The bare number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::NONE
            }
        }

        impl From<$inner> for $name {
            fn from(number: $inner) -> Self {
                Self(number)
            }
        }

        impl From<$name> for $inner {
            fn from(number: $name) -> Self {
                number.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl<'a> Wire<'a> for $name {
            fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
                Wire::decode(r).map(Self)
            }
            fn encode(&self, w: &mut Writer<'_>) {
                self.0.encode(w);
            }
            fn bytes_min(version: i16, flexible: bool) -> usize {
                <$inner as Wire<'a>>::bytes_min(version, flexible)
            }
        }
    };
}

number! {
    /// The position of a record in a partition: 0, 1, 2, …
    Offset(i64), none = -1
}
number! {
    /// Counts the leaders of a partition; written into every batch (KIP-101).
    LeaderEpoch(i32), none = -1
}
number! {
    /// Names an idempotent producer (KIP-98).
    ProducerId(i64), none = -1
}
number! {
    /// Counts the incarnations of a producer; an older one is fenced (KIP-98).
    ProducerEpoch(i16), none = -1
}
number! {
    /// Numbers the records of one producer on one partition, so that a retry is recognised (KIP-98).
    Sequence(i32), none = -1
}

impl Offset {
    /// The offset `count` records later. Stops at the largest number instead of wrapping.
    #[must_use]
    pub const fn advance(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl Sequence {
    /// The sequence `count` records later: after 2^31 − 1 comes 0, never a negative number.
    #[must_use]
    pub const fn advance(self, count: i32) -> Self {
        Self((self.0 as u32).wrapping_add(count as u32) as i32 & i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(Sequence(0).advance(5), Sequence(5));
        assert_eq!(Sequence(i32::MAX).advance(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 2).advance(5), Sequence(2));
        assert_eq!(Sequence(7).advance(i32::MAX), Sequence(6));
    }

    #[test]
    fn offsets_stop_at_the_end_of_the_number_line() {
        assert_eq!(Offset(5).advance(3), Offset(8));
        assert_eq!(Offset(i64::MAX).advance(1), Offset(i64::MAX));
    }
}
