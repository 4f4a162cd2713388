//! Why a guest trapped, in the words that its author needs: the panic's own text where it left one, the trap otherwise, and the
//! author's functions that it came from.

use std::ops::Range;

use wasmtime::{AsContext, Trap, WasmBacktrace, WasmCoreDump};

use crate::manifest::shorten;

/// What a guest's last words stand behind in its memory: `plugins/wit/README.md`.
const MARK: &[u8; 16] = b"ottla last words";
/// Bytes of last words that are believed.
const LAST_WORDS_BYTES_MAX: usize = 512;
/// Functions that are named.
const FUNCTIONS_MAX: usize = 3;
/// Names of what every Rust guest brings along: the standard library, the kit's glue, the generated exports.
const NOT_THE_AUTHORS: [&str; 10] = [
    "std::",
    "core::",
    "alloc::",
    "hashbrown::",
    "__rust",
    "rust_",
    "ottla_plugin::guest::",
    "ottla_plugin::last_words::",
    "cabi_",
    "ottla:plugin/",
];

/// What an error of the engine means, without looking into a guest.
pub(crate) fn reason(error: &wasmtime::Error) -> String {
    explain(error, None)
}

/// What stopped the guest in `store`.
pub(crate) fn reason_in(error: &wasmtime::Error, store: impl AsContext) -> String {
    let dump = error.downcast_ref::<WasmCoreDump>();
    let mut memories = dump.into_iter().flat_map(WasmCoreDump::memories);
    let words = memories.find_map(|memory| last_words(memory.data(&store)));
    explain(error, words.as_deref())
}

fn explain(error: &wasmtime::Error, last_words: Option<&str>) -> String {
    let what = match (last_words, error.downcast_ref::<Trap>()) {
        (Some(words), _) => format!("it panicked: {words}"),
        (None, Some(Trap::UnreachableCodeReached)) => "it aborted (unreachable code; a Rust panic ends so)".to_owned(),
        (None, Some(trap)) => trap.to_string(),
        (None, None) => error.root_cause().to_string(),
    };
    let frames = error.downcast_ref::<WasmBacktrace>().into_iter().flat_map(WasmBacktrace::frames);
    let all: Vec<String> = frames.filter_map(wasmtime::FrameInfo::func_name).map(demangled).collect();
    let own = authors(&all);
    // A panic says where it was; without one, any name is better than none.
    let functions = if own.is_empty() && last_words.is_none() { innermost(all.iter()) } else { own };
    let where_from = if functions.is_empty() { String::new() } else { format!(", in {}", functions.join(" < ")) };
    format!("{}{}", shorten(&what), shorten(&where_from))
}

/// A Rust name without its hash, another one as it is.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// The innermost functions that the author wrote. The compiler may have put all of them into the export.
fn authors(functions: &[String]) -> Vec<String> {
    let is_the_authors = |name: &&String| {
        let plain = name.trim_start_matches(['<', '&']);
        !NOT_THE_AUTHORS.iter().any(|other| plain.starts_with(other))
    };
    innermost(functions.iter().filter(is_the_authors))
}

fn innermost<'f>(functions: impl Iterator<Item = &'f String>) -> Vec<String> {
    functions.take(FUNCTIONS_MAX).cloned().collect()
}

/// The text behind the first mark that has one.
fn last_words(memory: &[u8]) -> Option<String> {
    memchr::memmem::find_iter(memory, MARK).find_map(|at| {
        let length_at = at + MARK.len();
        let length = memory.get(length_at..)?.first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let text: Range<usize> = length_at + 4..length_at + 4 + length;
        let text = memory.get(text).filter(|text| (1..=LAST_WORDS_BYTES_MAX).contains(&text.len()))?;
        Some(String::from_utf8_lossy(text).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| demangled(name)).collect()
    }

    #[test]
    fn the_authors_functions_are_named_as_the_author_wrote_them() {
        let frames = names(&[
            "_RNvCsgEj3pS1QWdK_7___rustc17rust_begin_unwind",
            "_ZN4core9panicking9panic_fmt17h0123456789abcdefE",
            "_ZN4core6option13unwrap_failed17h0123456789abcdefE",
            "_ZN9by_tenant9tenant_of17h0123456789abcdefE",
            "ottla:plugin/partitioner@0.1.0#partition",
        ]);
        assert_eq!(authors(&frames), ["by_tenant::tenant_of"]);
        let written = names(&["partition", "ottla:plugin/partitioner@0.1.0#partition"]);
        assert_eq!(authors(&written), ["partition"]);
        let only = names(&["ottla:plugin/partitioner@0.1.0#partition"]);
        assert_eq!(authors(&only), Vec::<String>::new(), "where everything was put into the export");
    }

    #[test]
    fn last_words_are_believed_only_where_they_make_sense() {
        let memory = |length: u32, text: &[u8]| [&b"..."[..], MARK, &length.to_le_bytes(), text].concat();
        assert_eq!(last_words(&memory(2, b"no!")), Some("no".to_owned()));
        assert_eq!(last_words(&memory(0, b"no!")), None);
        assert_eq!(last_words(&memory(4, b"no!")), None, "longer than the memory");
        assert_eq!(last_words(&memory(u32::MAX, b"no!")), None);
        assert_eq!(last_words(&memory(513, &[b'a'; 600])), None);
        assert_eq!(last_words(&memory(2, b"\xff!")), Some("\u{fffd}!".to_owned()));
        assert_eq!(last_words(&[memory(0, b""), memory(2, b"no")].concat()), Some("no".to_owned()));
        assert_eq!(last_words(b"ottla last words"), None);
        assert_eq!(last_words(b"ottla last words\x01"), None);
    }
}
