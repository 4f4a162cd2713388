//! Packing and unpacking the records of a batch.
//!
//! Unpacking never makes more than `bytes_max` bytes, regardless of what the input says about itself, and takes no
//! memory that the output does not need: a bomb is refused at the cap. Checksums inside the compressed formats are not
//! looked at where they cost time (LZ4): the CRC of the batch covers the same bytes.
//!
//! What is written is what the clients' own decoders read: gzip, Snappy in xerial's framing, LZ4 frames of independent
//! 64 KiB blocks, one Zstandard frame. What is read is more: raw Snappy (librdkafka, sarama), linked LZ4 blocks
//! (kafka-python), several frames or members one after another.

mod gzip;
mod lz4;
mod snappy;
mod zstandard;

use std::borrow::Cow;

/// How records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy, in xerial's framing or raw.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// What the attributes of a batch say.
    pub const fn from_attributes(attributes: i16) -> Option<Self> {
        match attributes & 7 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The bits in the attributes of a batch.
    pub const fn bits(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The name that Kafka's configuration uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

/// Why records could not be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// They would take more memory than allowed.
    #[error("the records take more than {bytes_max} bytes when unpacked")]
    TooLarge {
        /// The cap.
        bytes_max: usize,
    },
    /// The bytes are not what the codec writes.
    #[error("the records are no valid {}: {reason}", .codec.name())]
    Damaged {
        /// The codec.
        codec: Codec,
        /// What is wrong.
        reason: &'static str,
    },
    /// The codec does not exist.
    #[error("the compression does not exist")]
    UnknownCodec,
}

/// Why records could not be packed: the codec's own library failed, for want of memory as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the records could not be compressed with {}", .codec.name())]
pub struct CompressError {
    /// The codec.
    pub codec: Codec,
}

/// Unpacks `input` to at most `bytes_max` bytes. Uncompressed input is handed through in any size.
pub fn decompress(codec: Codec, input: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, DecompressError> {
    let unpacked = match codec {
        Codec::None => return Ok(Cow::Borrowed(input)),
        Codec::Gzip => gzip::unpack(input, bytes_max),
        Codec::Snappy => snappy::unpack(input, bytes_max),
        Codec::Lz4 => lz4::unpack(input, bytes_max),
        Codec::Zstd => zstandard::unpack(input, bytes_max),
    };
    match unpacked {
        Ok(bytes) => Ok(Cow::Owned(bytes)),
        Err(Fault::TooLarge) => Err(DecompressError::TooLarge { bytes_max }),
        Err(Fault::Damaged(reason)) => Err(DecompressError::Damaged { codec, reason }),
    }
}

/// Appends `input`, packed, to `out`. `level` is the codec's own, clamped to what it knows; `None` is its usual one;
/// Snappy and LZ4 have none.
pub fn compress(codec: Codec, level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
    let packed = match codec {
        Codec::None => {
            out.extend_from_slice(input);
            Some(())
        }
        Codec::Gzip => gzip::pack(level, input, out),
        Codec::Snappy => snappy::pack(input, out),
        Codec::Lz4 => lz4::pack(input, out),
        Codec::Zstd => zstandard::pack(level, input, out),
    };
    packed.ok_or(CompressError { codec })
}

/// What the codecs report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    TooLarge,
    Damaged(&'static str),
}

/// Output that never grows beyond its cap, not even in capacity.
struct Capped {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Capped {
    /// Room for about `expected` bytes.
    fn new(expected: usize, bytes_max: usize) -> Self {
        Self { bytes: Vec::with_capacity(expected.min(bytes_max)), bytes_max }
    }

    /// How much more fits.
    fn room(&self) -> usize {
        self.bytes_max - self.bytes.len()
    }

    /// Lengthens the output by `count` zeros, no further than the cap, and returns where they begin.
    fn grow(&mut self, count: usize) -> usize {
        let start = self.bytes.len();
        let count = count.min(self.room());
        if self.bytes.capacity() - start < count {
            // Doubling, as a vector does by itself, but not past the cap.
            let wanted = start.saturating_mul(2).max(start + count).min(self.bytes_max);
            self.bytes.reserve_exact(wanted - start);
        }
        self.bytes.resize(start + count, 0);
        start
    }
}
