//! The frame format: encodes headers, and reads frames back. It uses no field before the checksum is verified.

use std::io::{self, IoSlice, Read};

use super::JOURNAL_ENTRY_BYTES_MAX;

/// Bytes before the payload.
pub(super) const FRAME_HEADER_BYTES: usize = 28;
const CRC_AT: usize = 24;

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An entry that a caller appended.
    Entry,
    /// Says how far the journal is durable.
    Marker,
}

impl Kind {
    const fn magic(self) -> [u8; 4] {
        match self {
            Self::Entry => *b"OTJ\x01",
            Self::Marker => *b"OTJ\x02",
        }
    }

    fn of(magic: [u8; 4]) -> Option<Self> {
        [Self::Entry, Self::Marker].into_iter().find(|kind| kind.magic() == magic)
    }
}

/// A frame's header, checksum included.
pub(super) fn encode_header(
    kind: Kind,
    sequence: u64,
    durable: u64,
    payload: &[IoSlice<'_>],
    bytes: usize,
) -> [u8; FRAME_HEADER_BYTES] {
    let mut header = [0; FRAME_HEADER_BYTES];
    let fields: [&[u8]; 4] =
        [&kind.magic(), &(bytes as u32).to_be_bytes(), &sequence.to_be_bytes(), &durable.to_be_bytes()];
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let (body, crc) = header.split_at_mut(CRC_AT);
    let mut rest = body;
    for field in fields {
        let (place, after) = rest.split_at_mut(field.len());
        place.copy_from_slice(field);
        digest.update(field);
        rest = after;
    }
    for piece in payload {
        digest.update(piece);
    }
    crc.copy_from_slice(&(digest.finalize() as u32).to_be_bytes());
    header
}

/// A frame whose checksum holds.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) sequence: u64,
    pub(super) durable: u64,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.payload.len()) as u64
    }
}

/// Reads the frame at the position of `reader`, of which the file holds at most `left` bytes. `None` if there is no
/// whole and sound frame.
pub(super) fn read_frame(reader: &mut impl Read, left: u64) -> io::Result<Option<Frame>> {
    if left < FRAME_HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut header = [0; FRAME_HEADER_BYTES];
    reader.read_exact(&mut header)?;
    let Some(stated) = parse_header(&header) else { return Ok(None) };
    if stated.payload_bytes > JOURNAL_ENTRY_BYTES_MAX
        || left - (FRAME_HEADER_BYTES as u64) < stated.payload_bytes as u64
    {
        return Ok(None);
    }
    let mut payload = vec![0; stated.payload_bytes];
    reader.read_exact(&mut payload)?;
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(header.get(..CRC_AT).unwrap_or_default());
    digest.update(&payload);
    let Stated { kind, sequence, durable, crc, .. } = stated;
    Ok((digest.finalize() as u32 == crc).then_some(Frame { kind, sequence, durable, payload }))
}

struct Stated {
    kind: Kind,
    payload_bytes: usize,
    sequence: u64,
    durable: u64,
    crc: u32,
}

fn parse_header(header: &[u8; FRAME_HEADER_BYTES]) -> Option<Stated> {
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (durable, rest) = rest.split_first_chunk::<8>()?;
    let (crc, _) = rest.split_first_chunk::<4>()?;
    Some(Stated {
        kind: Kind::of(*magic)?,
        payload_bytes: u32::from_be_bytes(*length) as usize,
        sequence: u64::from_be_bytes(*sequence),
        durable: u64::from_be_bytes(*durable),
        crc: u32::from_be_bytes(*crc),
    })
}

/// The first position in `bytes`, from `from` on, where a frame may start.
pub(super) fn next_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let hit =
        rest.windows(4).position(|window| window.first_chunk().is_some_and(|magic| Kind::of(*magic).is_some()))?;
    Some(from + hit)
}
