//! Variable-length integers: seven bits per byte, lowest first, the top bit says that more follow.
//!
//! Flexible messages use the unsigned kind; records use the zigzag kind, where small negative numbers stay small.

/// Bytes of the longest 32-bit varint.
pub(crate) const VARINT_BYTES_MAX: usize = 5;

/// What stops a varint from being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VarintFault {
    /// The input ends first.
    Truncated,
    /// It does not end within its type.
    TooLong,
}

/// Reads an unsigned 32-bit varint from the front of `input`: the number and its length.
#[inline]
pub(crate) fn read_u32(input: &[u8]) -> Result<(u32, usize), VarintFault> {
    match *input {
        [byte, ..] if byte < 0x80 => Ok((u32::from(byte), 1)),
        // Most lengths of records and values.
        [low, high, ..] if high < 0x80 => Ok((u32::from(low & 0x7f) | u32::from(high) << 7, 2)),
        _ => read_u32_long(input),
    }
}

fn read_u32_long(input: &[u8]) -> Result<(u32, usize), VarintFault> {
    let mut number = 0_u32;
    for index in 0..VARINT_BYTES_MAX {
        let byte = *input.get(index).ok_or(VarintFault::Truncated)?;
        let shift = 7 * index as u32;
        // The fifth byte has room for four bits.
        if index == 4 && byte > 0x0f {
            return Err(VarintFault::TooLong);
        }
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((number, index + 1));
        }
    }
    Err(VarintFault::TooLong)
}

/// Reads an unsigned 64-bit varint from the front of `input`: the number and its length.
#[inline]
pub(crate) fn read_u64(input: &[u8]) -> Result<(u64, usize), VarintFault> {
    match *input {
        [byte, ..] if byte < 0x80 => Ok((u64::from(byte), 1)),
        [low, high, ..] if high < 0x80 => Ok((u64::from(low & 0x7f) | u64::from(high) << 7, 2)),
        _ => read_u64_long(input),
    }
}

fn read_u64_long(input: &[u8]) -> Result<(u64, usize), VarintFault> {
    let mut number = 0_u64;
    for index in 0..10 {
        let byte = *input.get(index).ok_or(VarintFault::Truncated)?;
        // The tenth byte has room for one bit.
        if index == 9 && byte > 0x01 {
            return Err(VarintFault::TooLong);
        }
        number |= u64::from(byte & 0x7f) << (7 * index as u32);
        if byte < 0x80 {
            return Ok((number, index + 1));
        }
    }
    Err(VarintFault::TooLong)
}

/// Appends an unsigned 32-bit varint.
#[inline]
pub(crate) fn write_u32(number: u32, out: &mut Vec<u8>) {
    write_u64(u64::from(number), out);
}

/// Appends an unsigned 64-bit varint.
#[inline]
pub(crate) fn write_u64(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Bytes that an unsigned varint takes.
#[inline]
pub(crate) const fn length_u64(number: u64) -> usize {
    // One byte for every begun group of seven bits; zero takes one as well.
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// 0, −1, 1, −2 … become 0, 1, 2, 3 …
#[inline]
pub(crate) const fn zigzag_i32(number: i32) -> u32 {
    ((number << 1) ^ (number >> 31)) as u32
}

/// 0, −1, 1, −2 … become 0, 1, 2, 3 …
#[inline]
pub(crate) const fn zigzag_i64(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// The way back from [`zigzag_i32`].
#[inline]
pub(crate) const fn unzigzag_u32(number: u32) -> i32 {
    (number >> 1) as i32 ^ -((number & 1) as i32)
}

/// The way back from [`zigzag_i64`].
#[inline]
pub(crate) const fn unzigzag_u64(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(small: u32, large: u64, signed: i32, wide: i64) {
            let mut out = Vec::new();
            write_u32(small, &mut out);
            prop_assert_eq!(out.len(), length_u64(u64::from(small)));
            prop_assert_eq!(read_u32(&out), Ok((small, out.len())));

            out.clear();
            write_u64(large, &mut out);
            prop_assert_eq!(out.len(), length_u64(large));
            prop_assert_eq!(read_u64(&out), Ok((large, out.len())));

            prop_assert_eq!(unzigzag_u32(zigzag_i32(signed)), signed);
            prop_assert_eq!(unzigzag_u64(zigzag_i64(wide)), wide);
        }
    }

    #[test]
    fn the_longest_numbers_fit_and_longer_ones_do_not() {
        assert_eq!(read_u32(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok((u32::MAX, 5)));
        assert_eq!(read_u32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(VarintFault::TooLong));
        assert_eq!(read_u32(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), Err(VarintFault::TooLong));
        assert_eq!(read_u32(&[0x80, 0x80]), Err(VarintFault::Truncated));
        assert_eq!(read_u32(&[]), Err(VarintFault::Truncated));
        let mut longest = [0xff; 10];
        longest[9] = 0x01;
        assert_eq!(read_u64(&longest), Ok((u64::MAX, 10)));
        longest[9] = 0x02;
        assert_eq!(read_u64(&longest), Err(VarintFault::TooLong));
        assert_eq!(read_u64(&longest[..9]), Err(VarintFault::Truncated));
    }
}
