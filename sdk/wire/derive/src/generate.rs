//! From a struct with attributes to its impls.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, Ident, Lifetime, Type};

use crate::attribute::{FieldAttribute, MessageAttribute};

/// A field with all that the impls need of it.
struct Field {
    name: Ident,
    ty: Type,
    /// `Struct.field`, named in decode errors.
    place: String,
    attribute: FieldAttribute,
}

impl Field {
    /// The value of the field where it is not on the wire.
    fn default(&self) -> TokenStream {
        self.attribute
            .default
            .as_ref()
            .map_or_else(|| quote!(::core::default::Default::default()), |value| quote!(#value))
    }

    /// `value` in the versions that have the field, its default in the others.
    fn where_present(&self, version: &TokenStream, value: TokenStream) -> TokenStream {
        let default = self.default();
        match self.attribute.versions.holds(version) {
            None => value,
            Some(present) => quote!(if #present { #value } else { #default }),
        }
    }

    fn decode(&self) -> TokenStream {
        let Self { ty, place, .. } = self;
        let nullable = self.attribute.nullable.and_then(|versions| versions.holds(&quote!(r.version())));
        let value = match nullable {
            None => quote!(<#ty as ::ottla_wire::Wire<'a>>::decode(r)),
            Some(nullable) => quote! {
                if #nullable { <#ty as ::ottla_wire::Wire<'a>>::decode(r) } else { ::ottla_wire::Wire::decode(r).map(Some) }
            },
        };
        quote!({ #value }.map_err(|error| error.within(#place))?)
    }

    fn encode(&self) -> TokenStream {
        let name = &self.name;
        match self.attribute.nullable.and_then(|versions| versions.holds(&quote!(w.version()))) {
            None => quote!(::ottla_wire::Wire::encode(&self.#name, w);),
            Some(nullable) => quote! {
                if #nullable { ::ottla_wire::Wire::encode(&self.#name, w); } else { w.value_or_empty(self.#name.as_ref()); }
            },
        }
    }

    fn bytes_min(&self) -> TokenStream {
        let ty = &self.ty;
        let bytes = quote!(<#ty as ::ottla_wire::Wire<'a>>::bytes_min(version, flexible));
        match self.attribute.versions.holds(&quote!(version)) {
            None => bytes,
            Some(present) => quote!(if #present { #bytes } else { 0 }),
        }
    }

    fn sample(&self) -> TokenStream {
        let nullable = self.attribute.nullable.and_then(|versions| versions.holds(&quote!(entropy.version())));
        let value = match nullable {
            None => quote!(::ottla_wire::sample::Sample::sample(entropy)),
            Some(nullable) => quote! {
                if #nullable { ::ottla_wire::sample::Sample::sample(entropy) } else { Some(::ottla_wire::sample::Sample::sample(entropy)) }
            },
        };
        self.where_present(&quote!(entropy.version()), value)
    }
}

/// All impls of one struct.
pub(crate) fn codec(input: &DeriveInput) -> syn::Result<TokenStream> {
    let fields = fields(input)?;
    let (plain, mut tagged): (Vec<_>, Vec<_>) = fields.iter().partition(|field| field.attribute.tag.is_none());
    tagged.sort_by_key(|field| field.attribute.tag);

    let this = struct_type(input)?;
    let default = default_impl(input, &this, &fields);
    let decode = decode_body(&plain, &tagged);
    let encode = encode_body(&plain, &tagged);
    let bytes_min = plain.iter().map(|field| field.bytes_min());
    let sample_names = fields.iter().map(|field| &field.name);
    let sample_values = fields.iter().map(Field::sample);
    let message = message_impl(input, &this)?;

    Ok(quote! {
        impl<'a> ::ottla_wire::Wire<'a> for #this {
            fn decode(r: &mut ::ottla_wire::Reader<'a>) -> ::core::result::Result<Self, ::ottla_wire::DecodeError> {
                #decode
            }
            fn encode(&self, w: &mut ::ottla_wire::Writer<'_>) {
                #encode
            }
            fn bytes_min(version: i16, flexible: bool) -> usize {
                let _ = version;
                // The count of tagged fields takes a byte.
                usize::from(flexible) #(+ #bytes_min)*
            }
        }
        #default
        #[cfg(any(test, feature = "sample"))]
        impl<'a> ::ottla_wire::sample::Sample<'a> for #this {
            fn sample(entropy: &mut ::ottla_wire::sample::Entropy<'a>) -> Self {
                Self { #(#sample_names: #sample_values,)* }
            }
        }
        #message
    })
}

fn fields(input: &DeriveInput) -> syn::Result<Vec<Field>> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(&input.ident, "Wire is derived for structs"));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(syn::Error::new_spanned(&input.ident, "Wire is derived for structs with named fields"));
    };
    named
        .named
        .iter()
        .map(|field| {
            let name = field.ident.clone().ok_or_else(|| syn::Error::new_spanned(field, "a field has a name"))?;
            let place = format!("{}.{}", input.ident, name);
            Ok(Field { name, ty: field.ty.clone(), place, attribute: FieldAttribute::read(&field.attrs)? })
        })
        .collect()
}

/// `Struct` or `Struct<'a>`.
fn struct_type(input: &DeriveInput) -> syn::Result<TokenStream> {
    let name = &input.ident;
    let lifetimes: Vec<&Lifetime> = input.generics.lifetimes().map(|parameter| &parameter.lifetime).collect();
    match lifetimes.as_slice() {
        _ if input.generics.type_params().next().is_some() => {
            Err(syn::Error::new_spanned(&input.generics, "a wire struct has no type parameters"))
        }
        [] => Ok(quote!(#name)),
        [lifetime] if lifetime.ident == "a" => Ok(quote!(#name<'a>)),
        _ => Err(syn::Error::new_spanned(&input.generics, "the one lifetime of a wire struct is 'a")),
    }
}

fn default_impl(input: &DeriveInput, this: &TokenStream, fields: &[Field]) -> TokenStream {
    let generics = &input.generics;
    let names = fields.iter().map(|field| &field.name);
    let defaults = fields.iter().map(Field::default);
    quote! {
        // Derivable only where no schema default differs from the type's own.
        #[allow(clippy::derivable_impls)]
        impl #generics ::core::default::Default for #this {
            fn default() -> Self {
                Self { #(#names: #defaults,)* }
            }
        }
    }
}

fn decode_body(plain: &[&Field], tagged: &[&Field]) -> TokenStream {
    let plain_names: Vec<_> = plain.iter().map(|field| &field.name).collect();
    let plain_values = plain.iter().map(|field| field.where_present(&quote!(r.version()), field.decode()));
    let tagged_names: Vec<_> = tagged.iter().map(|field| &field.name).collect();
    let tagged_types = tagged.iter().map(|field| &field.ty);
    let tagged_defaults = tagged.iter().map(|field| field.default());
    let arms = tagged.iter().map(|field| {
        let (name, tag) = (&field.name, field.attribute.tag);
        let value = field.decode();
        let guard = field.attribute.versions.holds(&quote!(r.version())).map(|present| quote!(if #present));
        quote!(#tag #guard => #name = #value,)
    });
    let tags = if tagged.is_empty() {
        quote!(r.skip_tagged_fields()?;)
    } else {
        quote! {
            r.tagged_fields(|tag, r| {
                match tag {
                    #(#arms)*
                    _ => r.skip_rest(),
                }
                Ok(())
            })?;
        }
    };
    quote! {
        #(let #plain_names = #plain_values;)*
        #(let mut #tagged_names: #tagged_types = #tagged_defaults;)*
        #tags
        Ok(Self { #(#plain_names,)* #(#tagged_names,)* })
    }
}

fn encode_body(plain: &[&Field], tagged: &[&Field]) -> TokenStream {
    let plain = plain.iter().map(|field| {
        let encode = field.encode();
        match field.attribute.versions.holds(&quote!(w.version())) {
            None => encode,
            Some(present) => quote!(if #present { #encode }),
        }
    });
    if tagged.is_empty() {
        return quote!(#(#plain)* w.no_tagged_fields(););
    }
    let written: Vec<_> = tagged.iter().map(|field| quote::format_ident!("{}_written", field.name)).collect();
    let conditions = tagged.iter().map(|field| {
        let (name, ty, default) = (&field.name, &field.ty, field.default());
        let differs = quote!({ let default: #ty = #default; self.#name != default });
        match field.attribute.versions.holds(&quote!(w.version())) {
            None => differs,
            Some(present) => quote!(#present && #differs),
        }
    });
    let values = tagged.iter().map(|field| {
        let (tag, encode) = (field.attribute.tag, field.encode());
        quote!(w.tagged_field(#tag, |w| { #encode });)
    });
    quote! {
        #(#plain)*
        if w.flexible() {
            #(let #written = #conditions;)*
            w.unsigned_varint(0 #(+ u32::from(#written))*);
            #(if #written { #values })*
        }
    }
}

fn message_impl(input: &DeriveInput, this: &TokenStream) -> syn::Result<TokenStream> {
    let name = &input.ident;
    let MessageAttribute { key, versions, flexible, response } = MessageAttribute::read(&input.attrs)?;
    let (key, versions, flexible) = match (key, versions, flexible) {
        (None, None, None) => return Ok(TokenStream::new()),
        (Some(key), Some(versions), Some(flexible)) => (key, versions, flexible),
        _ => return Err(syn::Error::new_spanned(name, "a message says key, versions and flexible")),
    };
    let min = versions.min;
    let max = versions.max.ok_or_else(|| syn::Error::new_spanned(name, "the versions of a message end somewhere"))?;
    let flexible_from = flexible.min;
    // `'a` inside the attribute belongs to the response, so the request's own lifetime takes another name.
    let borrows = input.generics.lifetimes().next().is_some();
    let request_type = if borrows { quote!(#name<'request>) } else { quote!(#name) };
    let request = response.as_ref().map(|response| {
        quote! {
            impl<'request> ::ottla_wire::Request<'request> for #request_type {
                type Response<'a> = #response;
            }
        }
    });
    let disagrees = format!("{name} and the table in api.rs disagree about versions");
    Ok(quote! {
        impl<'a> ::ottla_wire::Message<'a> for #this {
            const KEY: ::ottla_wire::ApiKey = match ::ottla_wire::ApiKey::from_code(#key) {
                Some(key) => key,
                None => panic!("the key is missing in api.rs"),
            };
            const VERSIONS: ::ottla_wire::VersionRange = ::ottla_wire::VersionRange::new(#min, #max);
            const FLEXIBLE_FROM: i16 = #flexible_from;
        }
        const _: () = {
            let api = match ::ottla_wire::ApiKey::from_code(#key) {
                Some(key) => key.api(),
                None => panic!("the key is missing in api.rs"),
            };
            assert!(api.versions.min == #min && api.versions.max == #max && api.flexible_from == #flexible_from, #disagrees);
        };
        #request
    })
}
