//! Snappy: in the framing of xerial's snappy-java, which Java clients write, or one raw block, which librdkafka writes.
//!
//! ```text
//! 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version i32 | compatible version i32 | per block: length i32, raw Snappy
//! ```

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{Capped, Fault};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER_BYTES: usize = 16;
/// What snappy-java uses; other decoders assume no more.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy of 64 bytes takes three, so no block unpacks to more than this many times its size.
const RATIO_MAX: usize = 22;

pub(super) fn unpack(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let mut decoder = Decoder::new();
    if !input.starts_with(&MAGIC) {
        let mut out = Capped::new(0, bytes_max);
        block(&mut decoder, input, &mut out)?;
        return Ok(out.bytes);
    }
    let mut out = Capped::new(input.len().saturating_mul(2), bytes_max);
    let mut rest = input;
    while !rest.is_empty() {
        // Streams may follow each other, each with its header.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER_BYTES..).ok_or(Fault::Damaged("it ends in its header"))?;
            continue;
        }
        let (length, behind) = rest.split_first_chunk().ok_or(Fault::Damaged("it ends in a block length"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let (packed, behind) = behind.split_at_checked(length).ok_or(Fault::Damaged("it ends in a block"))?;
        block(&mut decoder, packed, &mut out)?;
        rest = behind;
    }
    Ok(out.bytes)
}

fn block(decoder: &mut Decoder, packed: &[u8], out: &mut Capped) -> Result<(), Fault> {
    let length = decompress_len(packed).map_err(|_| Fault::Damaged("a block has no length"))?;
    if length > packed.len().saturating_mul(RATIO_MAX) {
        return Err(Fault::Damaged("a block claims more than it can hold"));
    }
    if length > out.room() {
        return Err(Fault::TooLarge);
    }
    let start = out.grow(length);
    let written =
        decoder.decompress(packed, &mut out.bytes[start..]).map_err(|_| Fault::Damaged("a block is corrupt"))?;
    out.bytes.truncate(start + written);
    Ok(())
}

pub(super) fn pack(input: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = Encoder::new();
    for chunk in input.chunks(BLOCK_BYTES) {
        let start = out.len();
        out.resize(start + 4 + max_compress_len(chunk.len()), 0);
        let (length, block) = out[start..].split_first_chunk_mut::<4>()?;
        let written = encoder.compress(chunk, block).ok()?;
        *length = u32::try_from(written).ok()?.to_be_bytes();
        out.truncate(start + 4 + written);
    }
    Some(())
}
