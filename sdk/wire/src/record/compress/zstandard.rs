//! Zstandard (RFC 8878).
//!
//! A frame is unpacked in one piece into the output, so that the window its header asks for (up to gigabytes, in a
//! hostile one) is never allocated. The contexts of the C library are kept per thread: making one costs more than
//! a small batch.

use std::cell::RefCell;

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use super::Fault;

const OUTPUT_BYTES_MIN: usize = 16 * 1024;
/// The library's `ZSTD_error_dstSize_tooSmall`, as it returns it: a negated size.
const OUTPUT_TOO_SMALL: usize = 70_usize.wrapping_neg();
/// Higher levels keep tables of many megabytes.
const LEVEL_KEPT_MAX: i32 = 9;

thread_local! {
    static UNPACKER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    static PACKER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
}

pub(super) fn unpack(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let declared = zstd_safe::get_frame_content_size(input).map_err(|_| Fault::Damaged("it has no frame header"))?;
    let expected = match declared {
        Some(declared) => usize::try_from(declared).ok().filter(|bytes| *bytes <= bytes_max).ok_or(Fault::TooLarge)?,
        None => input.len().saturating_mul(8),
    };
    let mut capacity = expected.max(OUTPUT_BYTES_MIN).min(bytes_max);
    UNPACKER.with_borrow_mut(|context| {
        if context.is_none() {
            *context = DCtx::try_create();
        }
        let context = context.as_mut().ok_or(Fault::Damaged("there is no memory to unpack it"))?;
        // Without a declared size the room is found by trying; each try is four times the last, up to the cap.
        loop {
            let mut out = Vec::with_capacity(capacity);
            match context.decompress(&mut out, input) {
                Ok(_) if out.len() > bytes_max => return Err(Fault::TooLarge),
                Ok(_) => return Ok(out),
                Err(OUTPUT_TOO_SMALL) if capacity >= bytes_max => return Err(Fault::TooLarge),
                Err(OUTPUT_TOO_SMALL) => capacity = capacity.saturating_mul(4).min(bytes_max),
                Err(_) => return Err(Fault::Damaged("a frame is corrupt")),
            }
        }
    })
}

pub(super) fn pack(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let level =
        level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL).clamp(zstd_safe::min_c_level(), zstd_safe::max_c_level());
    PACKER.with_borrow_mut(|context| {
        if context.is_none() {
            *context = CCtx::try_create();
        }
        let packer = context.as_mut()?;
        packer.set_parameter(CParameter::CompressionLevel(level)).ok()?;
        let start = out.len();
        out.resize(start + zstd_safe::compress_bound(input.len()), 0);
        let written = packer.compress2(&mut out[start..], input);
        out.truncate(start + written.unwrap_or(0));
        if level > LEVEL_KEPT_MAX {
            *context = None;
        }
        written.ok().map(|_| ())
    })
}
