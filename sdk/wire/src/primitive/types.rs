//! [`Wire`] for the protocol's own types: numbers, strings, bytes, arrays.

use std::borrow::Cow;

use uuid::Uuid;

use super::{DecodeError, DecodeFault, Reader, Wire, Writer};

/// Text: borrowed from the frame when decoded, borrowed or owned when encoded.
pub type Str<'a> = Cow<'a, str>;

const NULL: DecodeFault = DecodeFault::BadLength { length: -1 };

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl<'a> Wire<'a> for $integer {
            #[inline]
            fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
                r.array().map(Self::from_be_bytes)
            }
            #[inline]
            fn encode(&self, w: &mut Writer<'_>) {
                w.put(&self.to_be_bytes());
            }
            #[inline]
            fn bytes_min(_version: i16, _flexible: bool) -> usize {
                size_of::<Self>()
            }
        }
    )*};
}
integers!(i8, i16, i32, i64, u16, u32, f64);

impl<'a> Wire<'a> for bool {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.array::<1>().map(|byte| byte != [0])
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.put(&[u8::from(*self)]);
    }
    fn bytes_min(_version: i16, _flexible: bool) -> usize {
        1
    }
}

impl<'a> Wire<'a> for Uuid {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.array().map(Self::from_bytes)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.put(self.as_bytes());
    }
    fn bytes_min(_version: i16, _flexible: bool) -> usize {
        16
    }
}

impl<'a> Wire<'a> for Option<Str<'a>> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let Some(length) = r.string_length()? else { return Ok(None) };
        let text = std::str::from_utf8(r.take(length)?).map_err(|_| DecodeFault::NotUtf8)?;
        Ok(Some(Cow::Borrowed(text)))
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.string(self.as_deref());
    }
    fn bytes_min(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 2 }
    }
}

impl<'a> Wire<'a> for Str<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Option::decode(r)?.ok_or_else(|| NULL.into())
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.string(Some(self));
    }
    fn bytes_min(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 2 }
    }
}

impl<'a> Wire<'a> for Option<&'a [u8]> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let Some(length) = r.length()? else { return Ok(None) };
        r.take(length).map(Some)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.length(self.map(<[u8]>::len));
        w.put(self.unwrap_or_default());
    }
    fn bytes_min(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Option::decode(r)?.ok_or_else(|| NULL.into())
    }
    fn encode(&self, w: &mut Writer<'_>) {
        Some(*self).encode(w);
    }
    fn bytes_min(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<Vec<T>> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let Some(count) = r.length()? else { return Ok(None) };
        r.elements(count).map(Some)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.length(self.as_ref().map(Vec::len));
        for element in self.iter().flatten() {
            element.encode(w);
        }
    }
    fn bytes_min(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Option::decode(r)?.ok_or_else(|| NULL.into())
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.length(Some(self.len()));
        for element in self {
            element.encode(w);
        }
    }
    fn bytes_min(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
}
