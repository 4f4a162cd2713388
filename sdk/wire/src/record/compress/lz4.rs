//! LZ4 frames.
//!
//! ```text
//! magic 04 22 4d 18 | flags u8 | block size u8 | content size u64? | dictionary u32? | header checksum u8
//! | per block: size u32 (top bit: stored), data, checksum u32? | 00 00 00 00 | content checksum u32?
//! ```
//!
//! Numbers are little-endian. Kafka's Java client reads independent blocks only, so those are what is written; clients
//! that link LZ4's own library write linked ones by default, so those are read as well. The checksums are skipped: the
//! batch's CRC covers the same bytes (and old clients computed the header's wrong, KAFKA-3160).

use lz4_flex::block::{
    DecompressError, compress_into, decompress_into, decompress_into_with_dict, get_maximum_output_size,
};

use super::{Capped, Fault};

const MAGIC: u32 = 0x184d_2204;
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
/// Independent blocks of at most 64 KiB, no checksums, no content size; the last byte is this header's checksum.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const BLOCK_BYTES: usize = 64 * 1024;
/// How far back a linked block may refer.
const WINDOW_BYTES: usize = 64 * 1024;
const STORED_BIT: u32 = 1 << 31;
/// One more byte of a run's length stands for 255 bytes.
const RATIO_MAX: usize = 255;

pub(super) fn unpack(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Capped::new(input.len().saturating_mul(2), bytes_max);
    let mut rest = Input(input);
    while !rest.0.is_empty() {
        match rest.u32()? {
            MAGIC => frame(&mut rest, &mut out)?,
            magic if magic & !0xf == SKIPPABLE_MAGIC => {
                let bytes = rest.u32()? as usize;
                rest.take(bytes)?;
            }
            _ => return Err(Fault::Damaged("it does not begin with a frame")),
        }
    }
    Ok(out.bytes)
}

fn frame(rest: &mut Input<'_>, out: &mut Capped) -> Result<(), Fault> {
    let header = FrameHeader::read(rest)?;
    let frame_start = out.bytes.len();
    loop {
        let size = rest.u32()?;
        if size == 0 {
            break;
        }
        let data = rest.take((size & !STORED_BIT) as usize)?;
        if header.block_checksums {
            rest.take(4)?;
        }
        if size & STORED_BIT == 0 {
            block(data, &header, frame_start, out)?;
        } else {
            if data.len() > out.room() {
                return Err(Fault::TooLarge);
            }
            let start = out.grow(data.len());
            out.bytes[start..].copy_from_slice(data);
        }
    }
    if header.content_checksum {
        rest.take(4)?;
    }
    Ok(())
}

fn block(data: &[u8], header: &FrameHeader, frame_start: usize, out: &mut Capped) -> Result<(), Fault> {
    let room = out.room();
    let start = out.grow(header.block_bytes_max.min(data.len().saturating_mul(RATIO_MAX)));
    let (before, space) = out.bytes.split_at_mut(start);
    let written = if header.independent {
        decompress_into(data, space)
    } else {
        let window = before.len().saturating_sub(WINDOW_BYTES).max(frame_start);
        decompress_into_with_dict(data, space, &before[window..])
    };
    match written {
        Ok(written) => {
            out.bytes.truncate(start + written);
            Ok(())
        }
        // The space ended: because of the cap, or because the block is longer than the frame allows.
        Err(DecompressError::OutputTooSmall { .. }) if room < header.block_bytes_max => Err(Fault::TooLarge),
        Err(_) => Err(Fault::Damaged("a block is corrupt")),
    }
}

struct FrameHeader {
    independent: bool,
    block_checksums: bool,
    content_checksum: bool,
    block_bytes_max: usize,
}

impl FrameHeader {
    /// Reads what follows the magic.
    fn read(rest: &mut Input<'_>) -> Result<Self, Fault> {
        let [flags, block_size] = *rest.take(2)?.first_chunk().ok_or(Fault::Damaged("it ends in its header"))?;
        if flags >> 6 != 1 {
            return Err(Fault::Damaged("the frame is of another version"));
        }
        if flags & 0x08 != 0 {
            rest.take(8)?;
        }
        if flags & 0x01 != 0 {
            return Err(Fault::Damaged("it needs a dictionary"));
        }
        rest.take(1)?;
        let block_bytes_max = match block_size >> 4 & 7 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(Fault::Damaged("its block size does not exist")),
        };
        Ok(Self {
            independent: flags & 0x20 != 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
            block_bytes_max,
        })
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        let bytes = self.take(4)?.first_chunk().ok_or(Fault::Damaged("it ends too early"))?;
        Ok(u32::from_le_bytes(*bytes))
    }
}

pub(super) fn pack(input: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&HEADER);
    for chunk in input.chunks(BLOCK_BYTES) {
        let start = out.len();
        out.resize(start + 4 + get_maximum_output_size(chunk.len()), 0);
        let (size, block) = out[start..].split_first_chunk_mut::<4>()?;
        let written = compress_into(chunk, block).ok()?;
        if written < chunk.len() {
            *size = u32::try_from(written).ok()?.to_le_bytes();
            out.truncate(start + 4 + written);
        } else {
            *size = (u32::try_from(chunk.len()).ok()? | STORED_BIT).to_le_bytes();
            block[..chunk.len()].copy_from_slice(chunk);
            out.truncate(start + 4 + chunk.len());
        }
    }
    out.extend_from_slice(&[0; 4]);
    Some(())
}
