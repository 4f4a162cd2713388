//! What stands inside `#[wire(...)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Expr, Ident, LitInt, Token, Type};

/// A range of versions: `3..` or `0..=12`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: Option<i16>,
}

impl Versions {
    /// An expression that is true when `version` is in the range; `None` when it always is.
    pub(crate) fn holds(self, version: &TokenStream) -> Option<TokenStream> {
        let Self { min, max } = self;
        match (min, max) {
            (0, None) => None,
            (_, None) => Some(quote!(#version >= #min)),
            (0, Some(max)) => Some(quote!(#version <= #max)),
            (_, Some(max)) => Some(quote!((#min..=#max).contains(&#version))),
        }
    }
}

impl Parse for Versions {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let min = input.parse::<LitInt>()?.base10_parse()?;
        if input.peek(Token![..=]) {
            input.parse::<Token![..=]>()?;
            return Ok(Self { min, max: Some(input.parse::<LitInt>()?.base10_parse()?) });
        }
        input.parse::<Token![..]>()?;
        Ok(Self { min, max: None })
    }
}

/// The attributes of a message struct. Structs nested inside a message have none.
#[derive(Default)]
pub(crate) struct MessageAttribute {
    pub(crate) key: Option<LitInt>,
    pub(crate) versions: Option<Versions>,
    pub(crate) flexible: Option<Versions>,
    pub(crate) response: Option<Type>,
}

/// The attributes of a field.
#[derive(Default)]
pub(crate) struct FieldAttribute {
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<Expr>,
}

impl MessageAttribute {
    pub(crate) fn read(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut read = Self::default();
        each_setting(attributes, |name, input| {
            match name.to_string().as_str() {
                "key" => read.key = Some(input.parse()?),
                "versions" => read.versions = Some(input.parse()?),
                "flexible" => read.flexible = Some(input.parse()?),
                "response" => read.response = Some(input.parse()?),
                _ => return Err(syn::Error::new(name.span(), "a message knows: key, versions, flexible, response")),
            }
            Ok(())
        })?;
        Ok(read)
    }
}

impl FieldAttribute {
    pub(crate) fn read(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut read = Self::default();
        each_setting(attributes, |name, input| {
            match name.to_string().as_str() {
                "versions" => read.versions = input.parse()?,
                "nullable" => read.nullable = Some(input.parse()?),
                "tag" => read.tag = Some(input.parse::<LitInt>()?.base10_parse()?),
                "default" => read.default = Some(input.parse()?),
                _ => return Err(syn::Error::new(name.span(), "a field knows: versions, nullable, tag, default")),
            }
            Ok(())
        })?;
        Ok(read)
    }
}

/// Calls `read` with each `name = ...` inside the `#[wire(...)]` attributes, positioned behind the equals sign.
fn each_setting(
    attributes: &[Attribute],
    mut read: impl FnMut(&Ident, ParseStream<'_>) -> syn::Result<()>,
) -> syn::Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("wire")) {
        attribute.parse_args_with(|input: ParseStream<'_>| {
            while !input.is_empty() {
                let name: Ident = input.parse()?;
                input.parse::<Token![=]>()?;
                read(&name, input)?;
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
