//! What one frame may make the decoder allocate.
//!
//! Every array says how long it is before it proves it. Memory is therefore charged here first, so that five hostile
//! bytes cannot reserve gigabytes. Two bounds hold at once: an array has no more elements than the bytes that arrived can
//! hold (each element has a smallest size on the wire, [`Wire::bytes_min`](crate::Wire::bytes_min)), and the memory of all
//! arrays of a frame is charged as `count × size of an element` against a budget that grows with those bytes.

use crate::primitive::DecodeFault;

/// Bytes of memory that a decoder may still allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeBudget {
    bytes_left: usize,
}

impl DecodeBudget {
    /// Granted per byte of input. Arrays of small things (partition indexes, short topic names) take two to four times
    /// their wire size in memory.
    pub const BYTES_PER_INPUT_BYTE: usize = 4;

    /// Granted to every frame, so that the largest honest request passes: Metadata for 100 000 topics of short names takes
    /// up to ten times its wire size. A small frame cannot use it up, since its elements have to be there.
    pub const BYTES_ALWAYS: usize = 4 << 20;

    /// The budget for a frame of `input_bytes`: four times the input and 4 MiB.
    pub const fn for_input(input_bytes: usize) -> Self {
        Self { bytes_left: input_bytes.saturating_mul(Self::BYTES_PER_INPUT_BYTE).saturating_add(Self::BYTES_ALWAYS) }
    }

    /// A budget of exactly `bytes`.
    pub const fn of_bytes(bytes: usize) -> Self {
        Self { bytes_left: bytes }
    }

    /// What is left.
    pub const fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// Takes the memory for `count` elements of `element_bytes` out of the budget, or refuses.
    pub fn charge(&mut self, count: usize, element_bytes: usize) -> Result<(), DecodeFault> {
        let refused = DecodeFault::OverBudget { count, bytes_left: self.bytes_left };
        let bytes = count.checked_mul(element_bytes).ok_or(refused)?;
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(refused)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charging_more_than_is_left_takes_nothing() {
        let mut budget = DecodeBudget::of_bytes(100);
        budget.charge(10, 8).unwrap();
        assert_eq!(budget.charge(3, 8), Err(DecodeFault::OverBudget { count: 3, bytes_left: 20 }));
        assert_eq!(budget.charge(usize::MAX, 8), Err(DecodeFault::OverBudget { count: usize::MAX, bytes_left: 20 }));
        budget.charge(20, 1).unwrap();
        assert_eq!(budget.bytes_left(), 0);
    }
}
