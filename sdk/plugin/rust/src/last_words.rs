//! What a panic says, kept in the guest's memory where the host looks for it after the trap.
//!
//! A plugin imports nothing, so a panic has no call to make. It writes its text behind a mark and aborts; the host reads the memory
//! of the instance that trapped (`plugins/wit/README.md`, "Last words").

use std::fmt::Write as _;
use std::panic::PanicHookInfo;
use std::sync::Mutex;

/// What the host searches for.
const MARK: [u8; 16] = *b"ottla last words";
const TEXT_BYTES_MAX: usize = 512;

#[repr(C)]
struct LastWords {
    mark: [u8; MARK.len()],
    /// In the byte order of WebAssembly, little endian.
    length: [u8; 4],
    text: [u8; TEXT_BYTES_MAX],
}

static LAST_WORDS: Mutex<LastWords> = Mutex::new(LastWords { mark: MARK, length: [0; 4], text: [0; TEXT_BYTES_MAX] });

/// Keeps what every panic from now on says. A plugin that sets a hook of its own afterwards has its own way.
pub(crate) fn keep() {
    std::panic::set_hook(Box::new(|info| {
        // A panic while another one is written down: the first says more.
        let Ok(mut words) = LAST_WORDS.try_lock() else { return };
        let text = say(info);
        let mut length = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        words.text[..length].copy_from_slice(&text.as_bytes()[..length]);
        words.length = (length as u32).to_le_bytes();
        // Nothing in here reads it again, so the compiler would leave the writes out.
        std::hint::black_box(&*words);
    }));
}

fn say(info: &PanicHookInfo<'_>) -> String {
    let mut text = info.payload_as_str().unwrap_or("a panic without text").to_owned();
    // Where in the standard library it was says nothing to the author of a rule.
    if let Some(place) = info.location().filter(|place| !place.file().contains("library/")) {
        let _ = write!(text, ", at {place}");
    }
    text
}
