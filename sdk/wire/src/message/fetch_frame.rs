//! The records of a Fetch response, and a response whose records are still in a file.
//!
//! A broker does not copy records into a response: it writes the bytes around them and lets `sendfile` or `writev` put
//! the stretches of segments in between.

use super::FetchResponse;
use crate::header::{encode_response_header, set_frame_length};
use crate::primitive::{DecodeError, Hole, Reader, Writer};
use crate::{ApiKey, ApiVersion, Wire};

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
    fn bytes_min(version: i16, flexible: bool) -> usize {
        <&[u8]>::bytes_min(version, flexible)
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
    use crate::message::{FetchableTopicResponse, PartitionData};
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
        for version in 4..=18_i16 {
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
