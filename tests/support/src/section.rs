//! What the `by-section` plugin answers, computed a second time from the rule in its README.

use crate::package_index::field;

/// The partition of a stanza, out of `partitions`.
pub fn partition(stanza: &[u8], partitions: i32) -> i32 {
    let section = field(stanza, b"Section:").unwrap_or_default().trim_ascii();
    (murmur2(section) & 0x7fff_ffff).cast_signed() % partitions
}

/// Kafka's murmur2, from its definition: four bytes at a time, little-endian, then what is left.
fn murmur2(bytes: &[u8]) -> u32 {
    const MIX: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let scramble = |word: u32| {
        let word = word.wrapping_mul(MIX);
        (word ^ word >> 24).wrapping_mul(MIX)
    };
    let (words, tail) = bytes.as_chunks::<4>();
    let start = SEED ^ bytes.len() as u32;
    let hash = words.iter().fold(start, |hash, &word| hash.wrapping_mul(MIX) ^ scramble(u32::from_le_bytes(word)));
    let hash = if tail.is_empty() {
        hash
    } else {
        let last = tail.iter().rev().fold(0_u32, |word, &byte| word << 8 | u32::from(byte));
        (hash ^ last).wrapping_mul(MIX)
    };
    let hash = (hash ^ hash >> 13).wrapping_mul(MIX);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures that the tests of Kafka's own clients use.
    #[test]
    fn murmur2_agrees_with_kafka() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn a_stanza_without_a_section_counts_as_the_empty_text() {
        assert_eq!(partition(b"Package: x\n", 6), partition(b"Package: y\nSection:\n", 6));
    }
}
