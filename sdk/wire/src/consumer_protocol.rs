//! The embedded consumer protocol: what classic consumers say to each other inside JoinGroup's metadata and SyncGroup's
//! assignment (KIP-429, KIP-881).
//!
//! A 16-bit version, then a struct that is never flexible. A later version only ever adds fields behind those of the version
//! before, so that a reader takes a version it does not know for the last one it does.

use crate::{DecodeError, DecodeFault, Reader, Str, Wire, Writer};

/// The protocol type of groups that speak it.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The last version that this codec knows.
pub const CONSUMER_PROTOCOL_VERSION_MAX: i16 = 3;

/// What a member subscribes to.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerProtocolSubscription<'a> {
    /// The topics.
    pub topics: Vec<Str<'a>>,
    /// What its assignor adds.
    pub user_data: Option<&'a [u8]>,
    /// The partitions that it owns now.
    #[wire(versions = 1..)]
    pub owned_partitions: Vec<ConsumerProtocolPartitions<'a>>,
    /// The generation in which it got them, or -1.
    #[wire(versions = 2.., default = -1)]
    pub generation_id: i32,
    /// Its rack, if it has one.
    #[wire(versions = 3..)]
    pub rack_id: Option<Str<'a>>,
}

/// What a member was assigned.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerProtocolAssignment<'a> {
    /// The partitions.
    pub assigned_partitions: Vec<ConsumerProtocolPartitions<'a>>,
    /// What its assignor adds.
    pub user_data: Option<&'a [u8]>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerProtocolPartitions<'a> {
    /// The topic.
    pub topic: Str<'a>,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// What Java's sticky assignor adds to a subscription: what the member had, and the generation in which it got that. Nothing
/// in front says the version; the generation came later.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct StickyUserData<'a> {
    /// The partitions that the member had.
    pub previous_assignment: Vec<ConsumerProtocolPartitions<'a>>,
    /// The generation, or -1.
    #[wire(versions = 1.., default = -1)]
    pub generation: i32,
}

impl<'a> StickyUserData<'a> {
    /// Reads user data, and whether it says the generation.
    pub fn parse(bytes: &'a [u8]) -> Result<(bool, Self), DecodeError> {
        let read = |version| Self::decode(&mut Reader::new(bytes, version, false));
        read(1).map(|data| (true, data)).or_else(|_| Ok((false, read(0)?)))
    }

    /// Appends the user data, with the generation.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.encode(&mut Writer::new(out, 1, false));
    }
}

impl<'a> ConsumerProtocolSubscription<'a> {
    /// Reads a subscription and its version.
    pub fn parse(bytes: &'a [u8]) -> Result<(i16, Self), DecodeError> {
        parse(bytes, "ConsumerProtocolSubscription")
    }

    /// Appends the subscription.
    pub fn write(&self, version: i16, out: &mut Vec<u8>) {
        write(self, version, out);
    }
}

impl<'a> ConsumerProtocolAssignment<'a> {
    /// Reads an assignment and its version.
    pub fn parse(bytes: &'a [u8]) -> Result<(i16, Self), DecodeError> {
        parse(bytes, "ConsumerProtocolAssignment")
    }

    /// Appends the assignment.
    pub fn write(&self, version: i16, out: &mut Vec<u8>) {
        write(self, version, out);
    }
}

fn parse<'a, T: Wire<'a>>(bytes: &'a [u8], place: &'static str) -> Result<(i16, T), DecodeError> {
    let mut reader = Reader::new(bytes, 0, false);
    let version = i16::decode(&mut reader).map_err(|error| error.within(place))?;
    if version < 0 {
        return Err(DecodeError::new(place, DecodeFault::UnsupportedVersion { version: version.into() }));
    }
    let known = version.min(CONSUMER_PROTOCOL_VERSION_MAX);
    Ok((version, T::decode(&mut Reader::new(reader.rest(), known, false))?))
}

fn write<'a>(message: &impl Wire<'a>, version: i16, out: &mut Vec<u8>) {
    let version = version.clamp(0, CONSUMER_PROTOCOL_VERSION_MAX);
    out.extend_from_slice(&version.to_be_bytes());
    message.encode(&mut Writer::new(out, version, false));
}
