//! The first eight bytes of an upload: a component, or something else.
//!
//! Looked at before anything else touches the bytes, so that compiled code can never come in from outside.

/// Not a component, and what it is instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum NotAComponent {
    #[error("the file is empty")]
    Empty,
    #[error("this is not a WebAssembly file (it does not begin with \"\\0asm\")")]
    NotWasm,
    #[error("this is WebAssembly text; assemble it first: wasm-tools parse plugin.wat -o plugin.wasm")]
    Text,
    #[error(
        "this is a core WebAssembly module, not a component; link it with wasm-component-ld, as `cargo xtask plugins` \
         does, or convert it: wasm-tools component new core.wasm -o plugin.wasm"
    )]
    CoreModule,
    #[error("this is compiled machine code; plugins are uploaded as .wasm components and compiled here")]
    Precompiled,
    #[error("this is a WebAssembly file of an unknown layer {layer} and version {version}")]
    UnknownLayer { layer: u16, version: u16 },
}

const MAGIC: &[u8] = b"\0asm";

/// Passes components, whose eight-byte header this must begin with.
pub(crate) fn check(bytes: &[u8]) -> Result<(), NotAComponent> {
    let mut content = bytes.iter().skip_while(|byte| byte.is_ascii_whitespace());
    match content.next() {
        None => return Err(NotAComponent::Empty),
        Some(b'(') => return Err(NotAComponent::Text),
        Some(_) => {}
    }
    if bytes.starts_with(b"\x7fELF") {
        return Err(NotAComponent::Precompiled);
    }
    let Some(&[v0, v1, l0, l1]) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk()) else {
        return Err(NotAComponent::NotWasm);
    };
    match (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([l0, l1])) {
        (0x0d, 1) => Ok(()),
        (_, 0) => Err(NotAComponent::CoreModule),
        (version, layer) => Err(NotAComponent::UnknownLayer { layer, version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_file_is_named_for_what_it_is() {
        assert_eq!(check(b""), Err(NotAComponent::Empty));
        assert_eq!(check(b"\n  "), Err(NotAComponent::Empty));
        assert_eq!(check(b"(component)"), Err(NotAComponent::Text));
        assert_eq!(check(b"\n(module)"), Err(NotAComponent::Text));
        assert_eq!(check(b"\0asm\x01\0\0\0"), Err(NotAComponent::CoreModule));
        assert_eq!(check(b"\x7fELF\x02\x01\x01"), Err(NotAComponent::Precompiled));
        assert_eq!(check(b"\0asm\x0d\0\x02\0"), Err(NotAComponent::UnknownLayer { layer: 2, version: 13 }));
        for other in [&b"\0asm"[..], b"\0as", b"hello", b"\0asm\x0d\0\x01", b"PK\x03\x04"] {
            assert_eq!(check(other), Err(NotAComponent::NotWasm), "{other:?}");
        }
        assert_eq!(check(b"\0asm\x0d\0\x01\0"), Ok(()));
    }
}
