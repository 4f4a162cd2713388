//! The bounded cursor that every decoder reads from.

use super::varint::{self, VarintFault};
use super::{DecodeError, DecodeFault, Wire};
use crate::DecodeBudget;

/// Reads a message from borrowed bytes. Never reads past them, never allocates past its budget.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    budget: DecodeBudget,
}

impl<'a> Reader<'a> {
    /// A reader over `input` with the usual budget.
    pub const fn new(input: &'a [u8], version: i16, flexible: bool) -> Self {
        Self { rest: input, version, flexible, budget: DecodeBudget::for_input(input.len()) }
    }

    /// The same reader with another budget.
    #[must_use]
    pub const fn with_budget(self, budget: DecodeBudget) -> Self {
        Self { budget, ..self }
    }

    /// The version of the message being read.
    #[inline]
    pub const fn version(&self) -> i16 {
        self.version
    }

    /// Whether the message uses compact lengths and tagged fields (KIP-482).
    #[inline]
    pub const fn flexible(&self) -> bool {
        self.flexible
    }

    /// Bytes not read yet.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes not read yet.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// What may still be allocated.
    pub const fn budget(&self) -> DecodeBudget {
        self.budget
    }

    /// Drops everything that is left.
    pub fn skip_rest(&mut self) {
        self.rest = &[];
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(DecodeFault::Truncated { needed: count, remaining: self.rest.len() }.into());
        };
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeFault::Truncated { needed: N, remaining: self.rest.len() }.into());
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// An unsigned 32-bit varint, the kind that flexible messages use.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let (number, length) = varint::read_u32(self.rest).map_err(|fault| self.varint_error(fault))?;
        self.take(length)?;
        Ok(number)
    }

    /// A zigzag 32-bit varint, the kind that records use.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        self.unsigned_varint().map(varint::unzigzag_u32)
    }

    /// A zigzag 64-bit varint, the kind that record timestamps use.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let (number, length) = varint::read_u64(self.rest).map_err(|fault| self.varint_error(fault))?;
        self.take(length)?;
        Ok(varint::unzigzag_u64(number))
    }

    #[cold]
    fn varint_error(&self, fault: VarintFault) -> DecodeError {
        match fault {
            VarintFault::TooLong => DecodeFault::VarintTooLong,
            VarintFault::Truncated => {
                DecodeFault::Truncated { needed: self.remaining().saturating_add(1), remaining: self.remaining() }
            }
        }
        .into()
    }

    /// The length of an array or of a bytes value: `None` for null.
    #[inline]
    pub fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return self.compact_length();
        }
        Self::classic_length(i64::from(i32::from_be_bytes(self.array()?)))
    }

    /// The length of a string: `None` for null.
    #[inline]
    pub fn string_length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return self.compact_length();
        }
        Self::classic_length(i64::from(i16::from_be_bytes(self.array()?)))
    }

    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        // Zero is null, one is empty.
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }

    #[inline]
    fn classic_length(length: i64) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeFault::BadLength { length }.into()),
        }
    }

    /// `count` elements, after checking that they can be there and that their memory is granted.
    #[inline]
    pub fn elements<T: Wire<'a>>(&mut self, count: usize) -> Result<Vec<T>, DecodeError> {
        if count > self.rest.len() / T::bytes_min(self.version, self.flexible).max(1) {
            return Err(DecodeFault::CountTooLarge { count, remaining: self.rest.len() }.into());
        }
        self.budget.charge(count, size_of::<T>())?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::decode(self)?);
        }
        Ok(elements)
    }

    /// The tagged fields behind a struct (KIP-482): calls `read` for each with a reader over exactly that field, which
    /// has to be read to its end. Reads nothing in versions that are not flexible.
    pub fn tagged_fields(
        &mut self,
        mut read: impl FnMut(u32, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.unsigned_varint().map_err(|error| error.within("tagged fields"))?;
        // Each turn takes at least two bytes, so a hostile count ends with the input.
        for _ in 0..count {
            let (tag, field) = self.tagged_field().map_err(|error| error.within("tagged fields"))?;
            let mut inner = Self { rest: field, ..self.clone() };
            read(tag, &mut inner)?;
            if !inner.rest.is_empty() {
                let fault = DecodeFault::TagNotConsumed { tag, unread: inner.rest.len() };
                return Err(DecodeError::new("tagged fields", fault));
            }
            self.budget = inner.budget;
        }
        Ok(())
    }

    /// Skips the tagged fields behind a struct that knows none.
    #[inline]
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        // By far the most common case: a flexible struct without any.
        if !self.flexible {
            return Ok(());
        }
        if let Some((0, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(());
        }
        self.tagged_fields(|_, field| {
            field.skip_rest();
            Ok(())
        })
    }

    fn tagged_field(&mut self) -> Result<(u32, &'a [u8]), DecodeError> {
        let tag = self.unsigned_varint()?;
        let bytes = self.unsigned_varint()? as usize;
        Ok((tag, self.take(bytes)?))
    }
}
