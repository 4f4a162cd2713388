//! The bytes of a metadata file: frames, each with a checksum of its own, then zeros.
//!
//! ```text
//! file   = head ‖ record ‖ record ‖ … ‖ change ‖ change ‖ … ‖ zeros
//!          └───── a snapshot ───────┘   └ everything since ┘   └ space for more
//! frame, big endian:
//!    0 ┌───────────────────┬────────────────────┐
//!      │ magic "OTM", kind │ payload bytes u32  │
//!    8 ├───────────────────┴────────────────────┤
//!      │ snapshot u64: the last change that is part of the snapshot of this file │
//!   16 ├────────────────────────────────────────┤
//!      │ number u64: head: how many records follow; record: which one, from 0; change: its sequence │
//!   24 ├───────────────────┬────────────────────┘
//!      │ CRC-32C u32 of all but this │ payload …
//!      └───────────────────┴──────────
//! head payload = version u32 ‖ id of the store (16 bytes)
//! ```
//!
//! A frame that is damaged costs no other frame: the next one is found by its magic. No payload can hold a frame that is none:
//! they are JSON and names, which have no byte below 32, or shorter than a frame.

use std::ops::Range;

use ottla_log::canary::{Canary, broken};
use uuid::Uuid;

/// The layout of frames and payloads that this release writes.
pub(super) const VERSION: u32 = 1;

pub(super) const FRAME_HEADER_BYTES: usize = 28;
const CRC_AT: usize = 24;
const MAGIC: [u8; 3] = *b"OTM";
const HEAD_PAYLOAD_BYTES: usize = 20;
/// No record comes near this; a greater length is damage.
const PAYLOAD_MAX_BYTES: usize = 64 << 20;
/// No store makes so many changes.
const NUMBER_MAX: u64 = 1 << 62;
/// A torn frame leaves as many bytes of its header that are not zero; a few flipped bits in the zeros behind the end do not.
const TORN_HEADER_BYTES_MIN: usize = 6;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Begins the file.
    Head = 1,
    /// One record of the snapshot.
    Record = 2,
    /// A change behind the snapshot.
    Change = 3,
}

/// What the head of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) version: u32,
    /// Which store the file is a copy of.
    pub(super) store: Uuid,
    /// The last change that is part of the snapshot.
    pub(super) snapshot: u64,
    /// How many records the snapshot has.
    pub(super) records: u64,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let payload = [&self.version.to_be_bytes()[..], self.store.as_bytes()].concat();
        encode(Kind::Head, self.snapshot, self.records, &payload)
    }
}

/// One frame as bytes.
pub(super) fn encode(kind: Kind, snapshot: u64, number: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    frame.extend_from_slice(&MAGIC);
    frame.push(kind as u8);
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(&snapshot.to_be_bytes());
    frame.extend_from_slice(&number.to_be_bytes());
    let crc = checksum(&frame, payload);
    frame.extend_from_slice(&crc.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(header);
    digest.update(payload);
    digest.finalize() as u32
}

/// A frame whose checksum holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) snapshot: u64,
    pub(super) number: u64,
    payload: Range<usize>,
}

/// What a file holds, as far as its checksums hold.
#[derive(Debug)]
pub(super) struct Scan {
    bytes: Vec<u8>,
    pub(super) head: Option<Head>,
    pub(super) frames: Vec<Frame>,
    /// Bytes before the last sound frame that belong to none.
    pub(super) damaged: Vec<Range<usize>>,
    /// Where the last sound frame ends.
    pub(super) end: usize,
    /// How many bytes behind the end are not zero.
    pub(super) litter_bytes: usize,
    /// Behind the end lies what may have been a frame.
    pub(super) is_torn: bool,
}

impl Scan {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let (mut frames, mut damaged) = (Vec::new(), Vec::new());
        let (mut head, mut end, mut at) = (None, 0, 0);
        while let Some(begin) = next_magic(&bytes, at) {
            let Some(frame) = read(&bytes, begin) else {
                at = begin + 1;
                continue;
            };
            if begin > end {
                damaged.push(end..begin);
            }
            end = frame.payload.end;
            at = end;
            if frame.kind == Kind::Head {
                head = head.or_else(|| head_of(&frame, bytes.get(frame.payload.clone()).unwrap_or_default()));
            }
            frames.push(frame);
        }
        let tail = bytes.get(end..).unwrap_or_default();
        let in_header = tail.iter().take(FRAME_HEADER_BYTES).filter(|byte| **byte != 0).count();
        let litter_bytes = tail.iter().filter(|byte| **byte != 0).count();
        let is_torn = in_header >= TORN_HEADER_BYTES_MIN;
        Self { bytes, head, frames, damaged, end, litter_bytes, is_torn }
    }

    pub(super) fn payload(&self, frame: &Frame) -> &[u8] {
        self.bytes.get(frame.payload.clone()).unwrap_or_default()
    }

    /// How long the file is.
    pub(super) fn file_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The last change that is part of the snapshot, and where the snapshot ends in the file.
    pub(super) fn snapshot_end(&self) -> Option<(u64, u64)> {
        let head = self.head?;
        let last = self.frames.get(usize::try_from(head.records).ok()?)?;
        Some((head.snapshot, last.payload.end as u64))
    }

    /// The last change in the file, if it is a whole copy: head, every record, changes without a hole, then zeros.
    pub(super) fn whole_until(&self) -> Option<u64> {
        let head = self.head.filter(|head| head.version == VERSION)?;
        let (first, rest) = self.frames.split_first()?;
        let records = usize::try_from(head.records).ok()?;
        let (snapshot, changes) = rest.split_at_checked(records)?;
        let follows = |frames: &[Frame], kind: Kind, from: u64| {
            frames
                .iter()
                .zip(from..)
                .all(|(frame, number)| (frame.kind, frame.snapshot, frame.number) == (kind, head.snapshot, number))
        };
        let is_whole = first.kind == Kind::Head
            && self.damaged.is_empty()
            && self.litter_bytes == 0
            && follows(snapshot, Kind::Record, 0)
            && follows(changes, Kind::Change, head.snapshot + 1);
        is_whole.then_some(head.snapshot + changes.len() as u64)
    }
}

fn next_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    // Most of a file's end is zeros, which a search for the first letter passes over quickly.
    let mut at = 0;
    while let Some(hit) = rest.get(at..)?.iter().position(|byte| *byte == MAGIC[0]) {
        at += hit;
        if rest.get(at..).is_some_and(|here| here.starts_with(&MAGIC)) {
            return Some(from + at);
        }
        at += 1;
    }
    None
}

/// The sound frame that begins at `begin`.
fn read(bytes: &[u8], begin: usize) -> Option<Frame> {
    let (header, rest) = bytes.get(begin..)?.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let (_, fields) = header.split_first_chunk::<3>()?;
    let (kind, fields) = fields.split_first()?;
    let (length, fields) = fields.split_first_chunk::<4>()?;
    let (snapshot, fields) = fields.split_first_chunk::<8>()?;
    let (number, fields) = fields.split_first_chunk::<8>()?;
    let (crc, _) = fields.split_first_chunk::<4>()?;
    let kind = [Kind::Head, Kind::Record, Kind::Change].into_iter().find(|known| *known as u8 == *kind)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length <= PAYLOAD_MAX_BYTES)?;
    let payload = rest.get(..length)?;
    let sound = checksum(header.get(..CRC_AT)?, payload) == u32::from_be_bytes(*crc);
    if !sound && !broken(Canary::TrustMetadata) {
        return None;
    }
    let from = begin + FRAME_HEADER_BYTES;
    let (snapshot, number) = (u64::from_be_bytes(*snapshot), u64::from_be_bytes(*number));
    if snapshot.max(number) > NUMBER_MAX {
        return None;
    }
    Some(Frame { kind, snapshot, number, payload: from..from + length })
}

fn head_of(frame: &Frame, payload: &[u8]) -> Option<Head> {
    // A later release may have more in it.
    let (version, rest) = payload.get(..HEAD_PAYLOAD_BYTES)?.split_first_chunk::<4>()?;
    let store = Uuid::from_slice(rest).ok()?;
    Some(Head { version: u32::from_be_bytes(*version), store, snapshot: frame.snapshot, records: frame.number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let head = Head { version: VERSION, store: Uuid::from_u128(7), snapshot: 5, records: 2 };
        let mut bytes = head.encode();
        bytes.extend(encode(Kind::Record, 5, 0, b"first"));
        bytes.extend(encode(Kind::Record, 5, 1, b"second"));
        bytes.extend(encode(Kind::Change, 5, 6, b"sixth"));
        bytes.resize(512, 0);
        bytes
    }

    #[test]
    fn a_file_reads_back_and_is_whole() {
        let scan = Scan::of(file());
        assert_eq!(scan.whole_until(), Some(6));
        let payloads: Vec<_> = scan.frames.iter().skip(1).map(|frame| scan.payload(frame)).collect();
        assert_eq!(payloads, [&b"first"[..], b"second", b"sixth"]);
        assert_eq!(scan.head.unwrap().store, Uuid::from_u128(7));
    }

    #[test]
    fn a_flipped_bit_costs_its_own_frame_and_is_always_noticed() {
        let whole = Scan::of(file());
        for bit in 0..512 * 8 {
            let mut bytes = file();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let scan = Scan::of(bytes);
            assert_eq!(scan.whole_until(), None, "bit {bit}");
            let lost: Vec<_> = whole.frames.iter().filter(|frame| !scan.frames.contains(frame)).collect();
            assert!(lost.len() <= 1, "bit {bit} costs {lost:?}");
            assert!(scan.frames.iter().all(|frame| whole.frames.contains(frame)), "bit {bit} makes a frame up");
            assert_eq!(scan.is_torn, lost.first().is_some_and(|frame| frame.number == 6), "bit {bit}");
        }
    }

    #[test]
    fn a_torn_frame_of_any_length_is_no_frame() {
        let whole = file();
        let end = Scan::of(whole.clone()).end;
        for kept in 0..end {
            let mut bytes = whole[..kept].to_vec();
            bytes.resize(512, 0);
            assert!(Scan::of(bytes).frames.len() < 4, "{kept}");
        }
    }
}
