//! Processor time of the calling thread.

use std::time::Duration;

/// Processor time that this thread has used since it began.
///
/// Asked only when a deadline passes, to tell a guest that computes from a thread that was not given a processor.
#[allow(unsafe_code)]
pub(crate) fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec; the call writes it and keeps nothing.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if failed != 0 {
        // Cannot happen on Linux; an endless time makes every deadline count as used up, which is the safe side.
        return Duration::MAX;
    }
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
