//! The derive behind `ottla-wire`'s message definitions: a struct whose fields stand in wire order becomes a codec.
//!
//! On a message (a request or a response):
//!
//! ```text
//! #[wire(key = 18, versions = 0..=4, flexible = 3.., response = ApiVersionsResponse<'a>)]
//! ```
//!
//! * `key`, `versions`, `flexible`: what Kafka's schema says; the compiler checks them against the table in `api.rs`.
//! * `response`: on requests only, the type that answers it.
//!
//! On a field, all optional:
//!
//! * `versions = 3..` or `versions = 0..=12`: where the field exists (everywhere, if left out).
//! * `nullable = 1..`: the versions in which an `Option` may be null on the wire. Left out, it always may.
//! * `tag = 0`: a tagged field (KIP-482), written only when it differs from its default.
//! * `default = -1`: the value where the field does not exist. Left out, it is the type's own default (`None` for an `Option`).
//!
//! The derive writes `Wire`, `Default`, on messages `Message` and `Request`, and `Sample` (random values for tests).

mod attribute;
mod generate;

use proc_macro::TokenStream;

/// Derives the codec of a struct. See the crate's documentation for the attributes.
#[proc_macro_derive(Wire, attributes(wire))]
pub fn derive_wire(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    generate::codec(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
