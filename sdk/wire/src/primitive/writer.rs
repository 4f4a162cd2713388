//! The cursor that every encoder writes to.

use super::{Wire, varint};

/// A stretch of a frame that is not in memory: the bytes of a file region belong between two encoded pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Where in the encoded bytes the region belongs.
    pub position: usize,
    /// How long the region is.
    pub bytes: u32,
}

/// Appends a message to a buffer. Encoding cannot fail: what a version cannot express is left out.
#[derive(Debug)]
pub struct Writer<'w> {
    out: &'w mut Vec<u8>,
    version: i16,
    flexible: bool,
    holes: Vec<Hole>,
}

impl<'w> Writer<'w> {
    /// A writer that appends to `out`.
    pub const fn new(out: &'w mut Vec<u8>, version: i16, flexible: bool) -> Self {
        Self { out, version, flexible, holes: Vec::new() }
    }

    /// The version of the message being written.
    #[inline]
    pub const fn version(&self) -> i16 {
        self.version
    }

    /// Whether the message uses compact lengths and tagged fields (KIP-482).
    #[inline]
    pub const fn flexible(&self) -> bool {
        self.flexible
    }

    /// Appends bytes as they are.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Notes that `bytes` bytes of a file belong here.
    pub fn put_hole(&mut self, bytes: u32) {
        self.holes.push(Hole { position: self.out.len(), bytes });
    }

    /// The holes noted so far, in order.
    #[must_use]
    pub fn into_holes(self) -> Vec<Hole> {
        self.holes
    }

    /// An unsigned 32-bit varint, the kind that flexible messages use.
    #[inline]
    pub fn unsigned_varint(&mut self, number: u32) {
        varint::write_u32(number, self.out);
    }

    /// The length of an array or of a bytes value: `None` is null.
    #[inline]
    pub fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.compact_length(length);
        } else {
            let length = length.map_or(-1, |length| i32::try_from(length).unwrap_or(i32::MAX));
            self.put(&length.to_be_bytes());
        }
    }

    /// A string: `None` is null. A classic string ends after 32 767 bytes at the latest; a longer one is cut at a
    /// character, since a frame with a wrong length would cost the whole connection.
    pub fn string(&mut self, text: Option<&str>) {
        let Some(text) = text else {
            if self.flexible {
                self.compact_length(None);
            } else {
                self.put(&(-1_i16).to_be_bytes());
            }
            return;
        };
        if self.flexible {
            self.compact_length(Some(text.len()));
            self.put(text.as_bytes());
        } else {
            let fitting = text.floor_char_boundary(text.len().min(i16::MAX as usize));
            self.put(&(fitting as i16).to_be_bytes());
            self.put(&text.as_bytes()[..fitting]);
        }
    }

    #[inline]
    fn compact_length(&mut self, length: Option<usize>) {
        // Zero is null, one is empty.
        let length = length.map_or(0, |length| u32::try_from(length).unwrap_or(u32::MAX).saturating_add(1));
        self.unsigned_varint(length);
    }

    /// The value, or the empty value of its type where the version cannot say null.
    pub fn value_or_empty<'a, T: Wire<'a> + Default>(&mut self, value: Option<&T>) {
        match value {
            Some(value) => value.encode(self),
            None => T::default().encode(self),
        }
    }

    /// Ends a struct without tagged fields.
    #[inline]
    pub fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.out.push(0);
        }
    }

    /// One tagged field. Their number has been written before; tags ascend.
    pub fn tagged_field(&mut self, tag: u32, write: impl FnOnce(&mut Self)) {
        self.unsigned_varint(tag);
        let start = self.out.len();
        write(self);
        // The size stands in front but is known only now: append it and turn it to the front.
        let bytes = self.out.len() - start;
        self.unsigned_varint(u32::try_from(bytes).unwrap_or(u32::MAX));
        let size_bytes = self.out.len() - start - bytes;
        self.out[start..].rotate_right(size_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Str;
    use crate::message::{MetadataRequest, MetadataResponseTopic};

    #[test]
    fn a_classic_string_is_cut_at_a_character_before_its_length_lies() {
        let text = format!("{}é", "x".repeat(i16::MAX as usize - 1));
        let mut out = Vec::new();
        Str::from(text.as_str()).encode(&mut Writer::new(&mut out, 0, false));
        assert_eq!(out[..2], (i16::MAX - 1).to_be_bytes());
        assert_eq!(out.len(), 2 + i16::MAX as usize - 1);

        out.clear();
        Str::from(text.as_str()).encode(&mut Writer::new(&mut out, 0, true));
        assert_eq!(out.len(), 3 + text.len(), "a compact string is written whole");
    }

    #[test]
    fn null_becomes_empty_where_the_version_has_no_null() {
        let mut out = Vec::new();
        MetadataRequest { topics: None, ..MetadataRequest::default() }.encode(&mut Writer::new(&mut out, 0, false));
        // In v0 that is how all topics are asked for.
        assert_eq!(out, [0, 0, 0, 0]);

        out.clear();
        let topic = MetadataResponseTopic { name: None, ..MetadataResponseTopic::default() };
        topic.encode(&mut Writer::new(&mut out, 0, false));
        assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_tagged_field_says_its_size_first() {
        let mut out = Vec::new();
        let value = [7_u8; 300];
        Writer::new(&mut out, 0, true).tagged_field(20_000, |w| w.put(&value));
        assert_eq!(out[..5], [0xa0, 0x9c, 0x01, 0xac, 0x02]);
        assert_eq!(out[5..], value);
    }
}
