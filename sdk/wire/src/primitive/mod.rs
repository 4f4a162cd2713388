//! The primitive types of the protocol and the two cursors that read and write them.
//!
//! The same type has two spellings on the wire: the classic one (fixed-size lengths) and, in *flexible* versions
//! (KIP-482), the compact one (varint lengths, tagged fields behind every struct). [`Reader`] and [`Writer`] know which
//! one the message at hand uses, so that a definition never mentions it.

/// A struct that may be null: one byte says which, -1 for null and 1 for a value.
macro_rules! nullable_struct {
    ($name:ident $(<$a:lifetime>)?) => {
        impl<'a> crate::Wire<'a> for Option<$name $(<$a>)?> {
            fn decode(r: &mut crate::Reader<'a>) -> Result<Self, crate::DecodeError> {
                if i8::decode(r)? < 0 { Ok(None) } else { crate::Wire::decode(r).map(Some) }
            }
            fn encode(&self, w: &mut crate::Writer<'_>) {
                match self {
                    None => (-1_i8).encode(w),
                    Some(value) => {
                        1_i8.encode(w);
                        value.encode(w);
                    }
                }
            }
            fn bytes_min(_version: i16, _flexible: bool) -> usize {
                1
            }
        }
    };
}

mod error;
mod reader;
mod types;
pub(crate) mod varint;
mod writer;

pub use error::{DecodeError, DecodeFault};
pub use reader::Reader;
pub use types::Str;
pub use writer::{Hole, Writer};

/// A type with one spelling per version on the wire. Derived for messages: see [`crate::message`].
pub trait Wire<'a>: Sized {
    /// Reads one value. Borrows from the input where it can.
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Appends the value.
    fn encode(&self, w: &mut Writer<'_>);

    /// The fewest bytes that a value takes on the wire in this version. It bounds how many elements an array can have
    /// in the bytes that are there, before memory is taken for them.
    fn bytes_min(version: i16, flexible: bool) -> usize;
}
