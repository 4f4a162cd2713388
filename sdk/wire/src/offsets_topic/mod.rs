//! The records of `__consumer_offsets`, as Kafka 4.4 writes and reads them.
//!
//! Key and value begin with a 16-bit number. That of the key says what kind of record it is, and the rest of the key is
//! never flexible. That of the value is the version of the value. A record without a value is a tombstone.
//!
//! | key | record | value versions | written in | source |
//! |---|---|---|---|---|
//! | 0, 1 | [`OffsetCommitKey`], [`OffsetCommitValue`] | 0-4 | 4 | KIP-211, KIP-320, KIP-848; 1 if it says when it expires |
//! | 2 | [`GroupMetadataKey`], [`GroupMetadataValue`] | 0-4 | 3 | KIP-345, KIP-915 |
//! | 3 | [`ConsumerGroupKey`], [`ConsumerGroupMetadataValue`] | 0 | 0 | KIP-848, KIP-1101 |
//! | 4 | [`ConsumerGroupKey`], [`ConsumerGroupPartitionMetadataValue`] | 0 | only tombstones since 4.1 | KIP-848 |
//! | 5 | [`ConsumerGroupMemberKey`], [`ConsumerGroupMemberMetadataValue`] | 0 | 0 | KIP-848 |
//! | 6 | [`ConsumerGroupKey`], [`ConsumerGroupTargetAssignmentMetadataValue`] | 0 | 0 | KIP-848, KIP-1263 |
//! | 7 | [`ConsumerGroupMemberKey`], [`ConsumerGroupTargetAssignmentMemberValue`] | 0 | 0 | KIP-848 |
//! | 8 | [`ConsumerGroupMemberKey`], [`ConsumerGroupCurrentMemberAssignmentValue`] | 0 | 0 | KIP-848 |
//! | 16 | [`ConsumerGroupRegularExpressionKey`], [`ConsumerGroupRegularExpressionValue`] | 0 | 0 | KIP-848 |
//!
//! Keys 9 to 15 and 17 on belong to share groups and streams groups: [`GroupRecord::decode`] says `None` for them, and a
//! broker that loads the topic leaves them where they are.

mod classic;
mod consumer;

pub use classic::*;
pub use consumer::*;

use crate::{ApiVersion, DecodeError, DecodeFault, Reader, Wire, Writer};

macro_rules! group_records {
    ($(
        $(#[$doc:meta])*
        $name:ident = $number:literal: $key:ident<'a> => $value:ident $(<$lifetime:lifetime>)?,
        versions 0 ..= $max:literal, flexible $flexible:literal .., written in $written:literal;
    )*) => {
        /// A record of `__consumer_offsets`.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum GroupRecord<'a> {$(
            $(#[$doc])*
            $name {
                /// What the record is about.
                key: $key<'a>,
                /// What is true from now on; `None` is a tombstone: nothing is.
                value: Option<$value $(<$lifetime>)?>,
            },
        )*}

        impl<'a> GroupRecord<'a> {
            /// Reads a record. `value` is `None` for a tombstone. The answer is `None` for a record of another kind: of a
            /// share group, a streams group, or a later Kafka.
            pub fn decode(key: &'a [u8], value: Option<&'a [u8]>) -> Result<Option<Self>, DecodeError> {
                let (number, mut key) = numbered(key, "record key")?;
                Ok(Some(match number {
                    $($number => Self::$name {
                        key: Wire::decode(&mut key)?,
                        value: value.map(|value| versioned(value, stringify!($value), $max, $flexible)).transpose()?,
                    },)*
                    // The first key of a commit: as the second one.
                    0 => Self::OffsetCommit {
                        key: Wire::decode(&mut key)?,
                        value: value.map(|value| versioned(value, "OffsetCommitValue", 4, 4)).transpose()?,
                    },
                    _ => return Ok(None),
                }))
            }

            /// Appends the key.
            pub fn encode_key(&self, out: &mut Vec<u8>) {
                match self {$(
                    Self::$name { key, .. } => {
                        out.extend_from_slice(&i16::to_be_bytes($number));
                        key.encode(&mut Writer::new(out, 0, false));
                    }
                )*}
            }

            /// Appends the value in the version that Kafka 4.4 writes, or says that the record is a tombstone.
            #[must_use = "without a value the record is a tombstone"]
            pub fn encode_value(&self, out: &mut Vec<u8>) -> bool {
                match self {
                    // An expiry of its own exists in version 1 alone.
                    Self::OffsetCommit { value: Some(value), .. } if value.expire_timestamp != -1 => {
                        out.extend_from_slice(&1_i16.to_be_bytes());
                        value.encode(&mut Writer::new(out, 1, false));
                        true
                    }
                    $(
                    Self::$name { value: Some(value), .. } => {
                        out.extend_from_slice(&i16::to_be_bytes($written));
                        value.encode(&mut Writer::new(out, $written, $written >= $flexible));
                        true
                    }
                    Self::$name { value: None, .. } => false,
                    )*
                }
            }
        }

        /// Samples for tests: one record of a kind that the first byte chooses.
        #[cfg(any(test, feature = "sample"))]
        impl<'a> crate::sample::Sample<'a> for GroupRecord<'a> {
            fn sample(entropy: &mut crate::sample::Entropy<'a>) -> Self {
                const KINDS: &[i16] = &[$($number),*];
                let kind = KINDS[usize::from(u16::sample(entropy)) % KINDS.len()];
                match kind {
                    $($number => Self::$name {
                        key: entropy.at_version(0, crate::sample::Sample::sample),
                        value: entropy.at_version($written, crate::sample::Sample::sample),
                    },)*
                    _ => unreachable!("a kind of the list above"),
                }
            }
        }
    };
}

group_records! {
    /// A committed offset.
    OffsetCommit = 1: OffsetCommitKey<'a> => OffsetCommitValue<'a>, versions 0..=4, flexible 4.., written in 4;
    /// A classic group with its members.
    GroupMetadata = 2: GroupMetadataKey<'a> => GroupMetadataValue<'a>, versions 0..=4, flexible 4.., written in 3;
    /// The epoch of a consumer group.
    ConsumerGroupMetadata = 3: ConsumerGroupKey<'a> => ConsumerGroupMetadataValue, versions 0..=0, flexible 0.., written in 0;
    /// The topics of a consumer group, up to Kafka 4.0.
    ConsumerGroupPartitionMetadata = 4: ConsumerGroupKey<'a> => ConsumerGroupPartitionMetadataValue<'a>,
        versions 0..=0, flexible 0.., written in 0;
    /// A member of a consumer group: its subscription.
    ConsumerGroupMemberMetadata = 5: ConsumerGroupMemberKey<'a> => ConsumerGroupMemberMetadataValue<'a>,
        versions 0..=0, flexible 0.., written in 0;
    /// The group epoch that the target assignment of a consumer group was made for.
    ConsumerGroupTargetAssignmentMetadata = 6: ConsumerGroupKey<'a> => ConsumerGroupTargetAssignmentMetadataValue,
        versions 0..=0, flexible 0.., written in 0;
    /// What a member of a consumer group is to own.
    ConsumerGroupTargetAssignmentMember = 7: ConsumerGroupMemberKey<'a> => ConsumerGroupTargetAssignmentMemberValue,
        versions 0..=0, flexible 0.., written in 0;
    /// What a member of a consumer group owns.
    ConsumerGroupCurrentMemberAssignment = 8: ConsumerGroupMemberKey<'a> => ConsumerGroupCurrentMemberAssignmentValue,
        versions 0..=0, flexible 0.., written in 0;
    /// The topics that a regular expression matched.
    ConsumerGroupRegularExpression = 16: ConsumerGroupRegularExpressionKey<'a> => ConsumerGroupRegularExpressionValue<'a>,
        versions 0..=0, flexible 0.., written in 0;
}

/// The number in front, and a reader over the rest as a classic struct.
fn numbered<'a>(bytes: &'a [u8], place: &'static str) -> Result<(i16, Reader<'a>), DecodeError> {
    let mut reader = Reader::new(bytes, 0, false);
    let number = i16::decode(&mut reader).map_err(|error| error.within(place))?;
    Ok((number, reader))
}

fn versioned<'a, T: Wire<'a>>(
    bytes: &'a [u8],
    place: &'static str,
    version_max: i16,
    flexible_from: i16,
) -> Result<T, DecodeError> {
    let (version, reader) = numbered(bytes, place)?;
    if !(0..=version_max).contains(&version) {
        return Err(DecodeError::new(place, DecodeFault::UnsupportedVersion { version: ApiVersion(version) }));
    }
    T::decode(&mut Reader::new(reader.rest(), version, version >= flexible_from))
}
