//! Waiting for a condition, with a bound and a name.

use std::time::{Duration, Instant};

/// What no healthy machine takes. A test that gets here has failed; nothing is measured against it.
pub const LONG: Duration = Duration::from_mins(1);

const ASK_EVERY: Duration = Duration::from_millis(5);

/// Asks until `answer` has something.
///
/// # Panics
/// When nothing came within [`LONG`]: the message says what was waited for.
pub fn until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(started.elapsed() < LONG, "waited {} s for {what}", LONG.as_secs());
        std::thread::sleep(ASK_EVERY);
    }
}

/// Asks until it is so.
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}
