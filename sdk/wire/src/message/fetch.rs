//! Fetch, key 1, versions 4-17, flexible from 12.
//!
//! v5 log start offset, v7 sessions (KIP-227), v9 leader epochs (KIP-320), v10 zstd, v11 racks (KIP-392), v12 diverging
//! epochs (KIP-595), v13 topic ids (KIP-516), v15 replica state (KIP-903), v16 leader endpoints (KIP-951), v17 directory ids.
//!
//! Records in a response are [`FetchRecords`]: a slice of the frame where it is read, bytes or a region of a file where
//! it is written. [`FetchFrame`] is a written response with holes for such regions, so that `sendfile` can fill them.

use super::{LeaderIdAndEpoch, NodeEndpoint};
use crate::header::{encode_response_header, set_frame_length};
use crate::primitive::{DecodeError, Hole, Reader, Writer};
use crate::{ApiKey, ApiVersion, ErrorCode, Str, Uuid, Wire};

/// Reads batches from partitions.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 1, versions = 4..=17, flexible = 12.., response = FetchResponse<'a>)]
pub struct FetchRequest<'a> {
    /// The cluster the follower believes to be in.
    #[wire(versions = 12.., tag = 0)]
    pub cluster_id: Option<Str<'a>>,
    /// The broker id of a follower, −1 for a consumer.
    #[wire(versions = 0..=14, default = -1)]
    pub replica_id: i32,
    /// The state of a follower.
    #[wire(versions = 15.., tag = 1)]
    pub replica_state: ReplicaState,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How many bytes to wait for.
    pub min_bytes: i32,
    /// How many bytes to answer with at most; the first batch is answered even if it is larger (KIP-74).
    #[wire(default = i32::MAX)]
    pub max_bytes: i32,
    /// 0: all records, 1: only those of committed transactions.
    pub isolation_level: i8,
    /// The session, or 0 for none.
    #[wire(versions = 7..)]
    pub session_id: i32,
    /// The epoch of the session, −1 for none.
    #[wire(versions = 7.., default = -1)]
    pub session_epoch: i32,
    /// The topics.
    pub topics: Vec<FetchTopic<'a>>,
    /// Partitions to take out of the session.
    #[wire(versions = 7..)]
    pub forgotten_topics_data: Vec<ForgottenTopic<'a>>,
    /// The rack of the consumer.
    #[wire(versions = 11..)]
    pub rack_id: Str<'a>,
}

/// The state of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct ReplicaState {
    /// Its broker id, −1 for a consumer.
    #[wire(default = -1)]
    pub replica_id: i32,
    /// Its epoch, −1 if there is none.
    #[wire(default = -1)]
    pub replica_epoch: i64,
}

/// A topic to read.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct FetchTopic<'a> {
    /// Its name.
    #[wire(versions = 0..=12)]
    pub topic: Str<'a>,
    /// Its id.
    #[wire(versions = 13..)]
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// A partition to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct FetchPartition {
    /// Its number.
    pub partition: i32,
    /// The leader epoch the client knows, −1 for none.
    #[wire(versions = 9.., default = -1)]
    pub current_leader_epoch: i32,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The leader epoch of the last record read, −1 for none.
    #[wire(versions = 12.., default = -1)]
    pub last_fetched_epoch: i32,
    /// The first offset a follower holds.
    #[wire(versions = 5.., default = -1)]
    pub log_start_offset: i64,
    /// How many bytes to answer with at most.
    pub partition_max_bytes: i32,
    /// The directory of the follower.
    #[wire(versions = 17.., tag = 0)]
    pub replica_directory_id: Uuid,
}

/// Partitions to take out of a session.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ForgottenTopic<'a> {
    /// The name of the topic.
    #[wire(versions = 7..=12)]
    pub topic: Str<'a>,
    /// The id of the topic.
    #[wire(versions = 13..)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Batches from partitions.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 1, versions = 4..=17, flexible = 12..)]
pub struct FetchResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// An error of the whole request.
    #[wire(versions = 7..)]
    pub error_code: ErrorCode,
    /// The session, 0 for none.
    #[wire(versions = 7..)]
    pub session_id: i32,
    /// The topics.
    pub responses: Vec<FetchableTopicResponse<'a>>,
    /// Where the leaders named in `current_leader` listen.
    #[wire(versions = 16.., tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint<'a>>,
}

/// Batches of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct FetchableTopicResponse<'a> {
    /// The name of the topic.
    #[wire(versions = 0..=12)]
    pub topic: Str<'a>,
    /// The id of the topic.
    #[wire(versions = 13..)]
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<PartitionData<'a>>,
}

/// Batches of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct PartitionData<'a> {
    /// The partition.
    pub partition_index: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The offset up to which records are visible.
    pub high_watermark: i64,
    /// The offset up to which every transaction is decided.
    #[wire(default = -1)]
    pub last_stable_offset: i64,
    /// The first offset of the partition.
    #[wire(versions = 5.., default = -1)]
    pub log_start_offset: i64,
    /// Where the client's history and the log's part ways (KIP-595).
    #[wire(versions = 12.., tag = 0)]
    pub diverging_epoch: EpochEndOffset,
    /// Who leads the partition, after NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH.
    #[wire(versions = 12.., tag = 1)]
    pub current_leader: LeaderIdAndEpoch,
    /// The snapshot a follower should load.
    #[wire(versions = 12.., tag = 2)]
    pub snapshot_id: SnapshotId,
    /// Transactions whose records are to be skipped. `None` for a reader of all records.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The replica to read from next, −1 for the leader.
    #[wire(versions = 11.., default = -1)]
    pub preferred_read_replica: i32,
    /// The batches.
    pub records: FetchRecords<'a>,
}

/// Where an epoch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct EpochEndOffset {
    /// The epoch.
    #[wire(default = -1)]
    pub epoch: i32,
    /// The offset behind its last record.
    #[wire(default = -1)]
    pub end_offset: i64,
}

/// A snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct SnapshotId {
    /// The offset behind it.
    #[wire(default = -1)]
    pub end_offset: i64,
    /// Its epoch.
    #[wire(default = -1)]
    pub epoch: i32,
}

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// Its first offset in the partition.
    pub first_offset: i64,
}

/// The records of a partition in a Fetch response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchRecords<'a> {
    /// Null on the wire. Read as no records; never written by choice, since older librdkafka refuses it.
    Null,
    /// Batches in memory.
    Bytes(&'a [u8]),
    /// Batches in a file: that many bytes belong here. Only written, never read.
    Region {
        /// How long the region is.
        bytes: u32,
    },
}

impl<'a> FetchRecords<'a> {
    /// The batches, empty if there are none.
    pub const fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Null | Self::Region { .. } => &[],
        }
    }
}

impl Default for FetchRecords<'_> {
    fn default() -> Self {
        Self::Bytes(&[])
    }
}

impl<'a> Wire<'a> for FetchRecords<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Option::decode(r)?.map_or(Self::Null, Self::Bytes))
    }
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Null => None::<&[u8]>.encode(w),
            Self::Bytes(bytes) => bytes.encode(w),
            Self::Region { bytes } => {
                w.length(Some(*bytes as usize));
                w.put_hole(*bytes);
            }
        }
    }
}

#[cfg(any(test, feature = "sample"))]
impl<'a> crate::sample::Sample<'a> for FetchRecords<'a> {
    fn sample(entropy: &mut crate::sample::Entropy<'a>) -> Self {
        Option::sample(entropy).map_or(Self::Null, Self::Bytes)
    }
}

/// A whole Fetch response whose file regions are still missing.
///
/// It leaves as `head[..hole 0]`, the region of hole 0, `head[hole 0..hole 1]`, … , `head[last hole..]`; the length in
/// front counts the regions already. Holes come in the order of the partitions whose records are
/// [`FetchRecords::Region`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchFrame {
    /// The encoded bytes between the regions, the 4-byte length first.
    pub head: Vec<u8>,
    /// Where regions belong, in order.
    pub holes: Vec<Hole>,
}

/// A piece of a [`FetchFrame`] on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchPiece<'f> {
    /// Encoded bytes, never empty.
    Bytes(&'f [u8]),
    /// The region of the hole with this index.
    Region {
        /// Which hole, counted from 0.
        hole: usize,
        /// How long the region is.
        bytes: u32,
    },
}

impl FetchFrame {
    /// Writes a response.
    pub fn encode(correlation_id: i32, version: impl Into<ApiVersion>, response: &FetchResponse<'_>) -> Self {
        let version = version.into();
        let mut head = vec![0; 4];
        encode_response_header(ApiKey::Fetch, correlation_id, version, &mut head);
        let mut writer = Writer::new(&mut head, version.0, ApiKey::Fetch.is_flexible(version.0));
        response.encode(&mut writer);
        let holes = writer.into_holes();
        let region_bytes = holes.iter().fold(0_usize, |sum, hole| sum.saturating_add(hole.bytes as usize));
        set_frame_length(&mut head, 0, region_bytes);
        Self { head, holes }
    }

    /// The whole frame's length: head and regions.
    pub fn total_bytes(&self) -> u64 {
        self.holes.iter().fold(self.head.len() as u64, |sum, hole| sum.saturating_add(u64::from(hole.bytes)))
    }

    /// The pieces in the order in which they leave.
    pub fn pieces(&self) -> impl Iterator<Item = FetchPiece<'_>> {
        let begins = std::iter::once(0).chain(self.holes.iter().map(|hole| hole.position));
        let ends = self.holes.iter().map(|hole| hole.position).chain(std::iter::once(self.head.len()));
        let regions =
            self.holes.iter().enumerate().map(|(hole, &Hole { bytes, .. })| FetchPiece::Region { hole, bytes });
        let between = begins.zip(ends).map(|(begin, end)| self.head.get(begin..end).unwrap_or_default());
        between
            .zip(regions.map(Some).chain(std::iter::once(None)))
            .flat_map(|(bytes, region)| [(!bytes.is_empty()).then_some(FetchPiece::Bytes(bytes)), region])
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode_response, encode_response};

    fn response<'a>(records: &[FetchRecords<'a>]) -> FetchResponse<'a> {
        let partitions = records
            .iter()
            .enumerate()
            .map(|(index, records)| PartitionData {
                partition_index: index as i32,
                records: *records,
                ..PartitionData::default()
            })
            .collect();
        let topic = FetchableTopicResponse { topic: "t".into(), partitions, ..FetchableTopicResponse::default() };
        FetchResponse { responses: vec![topic], ..FetchResponse::default() }
    }

    #[test]
    fn filling_the_holes_gives_the_bytes_of_a_response_in_memory() {
        let (first, second) = (vec![1_u8; 300], vec![2_u8; 7]);
        let in_memory = response(&[FetchRecords::Bytes(&first), FetchRecords::default(), FetchRecords::Bytes(&second)]);
        let regions = response(&[
            FetchRecords::Region { bytes: 300 },
            FetchRecords::default(),
            FetchRecords::Region { bytes: 7 },
        ]);
        for version in 4..=17_i16 {
            let mut expected = Vec::new();
            encode_response(5, version, &in_memory, &mut expected);

            let frame = FetchFrame::encode(5, version, &regions);
            let mut sent = Vec::new();
            for piece in frame.pieces() {
                match piece {
                    FetchPiece::Bytes(bytes) => sent.extend_from_slice(bytes),
                    FetchPiece::Region { hole: 0, bytes: 300 } => sent.extend_from_slice(&first),
                    FetchPiece::Region { hole: 1, bytes: 7 } => sent.extend_from_slice(&second),
                    FetchPiece::Region { .. } => panic!("an unknown hole"),
                }
            }
            assert_eq!(sent, expected, "version {version}");
            assert_eq!(frame.total_bytes(), expected.len() as u64);
            let (_, read) = decode_response::<FetchResponse<'_>>(version, &sent[4..]).unwrap();
            assert_eq!(read.responses[0].partitions[2].records.bytes(), second);
        }
    }

    #[test]
    fn a_response_without_regions_is_one_piece() {
        let frame = FetchFrame::encode(5, 12, &response(&[FetchRecords::default()]));
        assert_eq!(frame.pieces().collect::<Vec<_>>(), [FetchPiece::Bytes(&frame.head)]);
    }
}
