//! gzip: one member or several.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Capped, Fault};

const STEP_BYTES: usize = 32 * 1024;

pub(super) fn unpack(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let mut decoder = MultiGzDecoder::new(input);
    let mut out = Capped::new(input.len().saturating_mul(3), bytes_max);
    // Zeroed room is used up before more is made: a stream of tiny members must not cost a zeroed step each.
    let mut filled = 0;
    loop {
        if filled == out.bytes.len() {
            out.grow(STEP_BYTES);
        }
        if filled == out.bytes.len() {
            // Full to the brim is allowed, one byte more is not.
            return match decoder.read(&mut [0]).map_err(damaged)? {
                0 => Ok(out.bytes),
                _ => Err(Fault::TooLarge),
            };
        }
        let read = decoder.read(&mut out.bytes[filled..]).map_err(damaged)?;
        filled += read;
        if read == 0 {
            out.bytes.truncate(filled);
            return Ok(out.bytes);
        }
    }
}

pub(super) fn pack(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let level = level.map_or_else(Compression::default, |level| Compression::new(level.clamp(1, 9) as u32));
    let mut encoder = GzEncoder::new(out, level);
    encoder.write_all(input).ok()?;
    encoder.finish().ok()?;
    Some(())
}

#[allow(clippy::needless_pass_by_value)] // the shape that `map_err` wants
fn damaged(error: std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Fault::Damaged("it ends too early"),
        _ => Fault::Damaged("the stream is corrupt"),
    }
}
