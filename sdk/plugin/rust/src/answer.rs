//! What a plugin says about records, collected as the contract wants it: nothing for those that stay as they are.

use crate::record::{ABSENT, kind};

/// Why a record is refused: a code for machines, one of those that `CODES` of the plugin lists, and a reason for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(crate) code: Option<&'static str>,
    pub(crate) reason: String,
}

impl Refusal {
    /// With a code and a reason of at most 1024 bytes; the rest is cut off.
    pub fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::because(reason) }
    }

    /// With a reason alone.
    pub fn because(reason: impl Into<String>) -> Self {
        const BYTES_MAX: usize = 1024;
        let mut reason = reason.into();
        let mut length = reason.len().min(BYTES_MAX);
        while !reason.is_char_boundary(length) {
            length -= 1;
        }
        reason.truncate(length);
        Self { code: None, reason }
    }
}

/// A column of an answer: kind, bytes, lengths.
pub(crate) type ColumnSaid = (u32, Vec<u8>, Vec<i32>);

/// Pieces for some of the records; the others are unchanged.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    lengths: Vec<i32>,
}

impl Pieces {
    /// The piece of record `at`, null where it is none. Those between the last one and it stay unchanged.
    pub(crate) fn set(&mut self, at: usize, piece: Option<&[u8]>) {
        self.lengths.resize(at, ABSENT);
        self.lengths.push(piece.map_or(-1, |piece| piece.len() as i32));
        self.bytes.extend_from_slice(piece.unwrap_or_default());
    }

    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // only a component answers
    /// As a column for so many records; none where nothing was said.
    pub(crate) fn column(mut self, kind: u32, records: usize) -> Option<ColumnSaid> {
        if self.lengths.is_empty() {
            return None;
        }
        self.lengths.resize(records, ABSENT);
        Some((kind, self.bytes, self.lengths))
    }
}

/// Codes and reasons of the records that are refused.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    codes: Pieces,
    reasons: Pieces,
}

impl Refusals {
    pub(crate) fn set(&mut self, at: usize, refusal: &Refusal) {
        if let Some(code) = refusal.code {
            self.codes.set(at, Some(code.as_bytes()));
        }
        self.reasons.set(at, Some(refusal.reason.as_bytes()));
    }

    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // only a component answers
    pub(crate) fn columns(self, records: usize) -> impl Iterator<Item = ColumnSaid> {
        self.reasons.column(kind::REASON, records).into_iter().chain(self.codes.column(kind::CODE, records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_unchanged_and_costs_nothing() {
        assert_eq!(Pieces::default().column(2, 100), None);
        let mut pieces = Pieces::default();
        pieces.set(1, Some(b"ab"));
        pieces.set(3, None);
        assert_eq!(pieces.column(2, 5), Some((2, b"ab".to_vec(), vec![-2, 2, -2, -1, -2])));
    }

    #[test]
    fn a_reason_is_cut_where_a_character_ends() {
        assert_eq!(Refusal::because("ä".repeat(1000)).reason, "ä".repeat(512));
        assert_eq!(Refusal::new("schema", "x".repeat(1025)).reason.len(), 1024);
    }
}
