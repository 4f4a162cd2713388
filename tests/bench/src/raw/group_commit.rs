//! Append under a lock, fdatasync by one flusher without linger, answer.

use std::io::IoSlice;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use parking_lot::{Condvar, Mutex};

use super::{Frames, StepFile, answer};

/// One file and its flusher.
pub(super) struct Log {
    state: Mutex<State>,
    appended: Condvar,
    flushed: Condvar,
}

struct State {
    file: StepFile,
    durable: u64,
    failed: bool,
}

impl Log {
    pub(super) fn create(dir: &Path) -> Result<Self> {
        let file = StepFile::create(&dir.join("raw-commit"))?;
        let state = Mutex::new(State { file, durable: 0, failed: false });
        Ok(Self { state, appended: Condvar::new(), flushed: Condvar::new() })
    }

    /// Starts the flusher of a fresh log.
    fn flush_for_ever(self: &Arc<Self>) {
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            let mut state = log.state.lock();
            loop {
                while state.file.end == state.durable {
                    log.appended.wait(&mut state);
                }
                let target = state.file.end;
                let Ok(file) = state.file.file.try_clone() else { return };
                drop(state);
                let outcome = rustix::fs::fdatasync(&file);
                state = log.state.lock();
                state.failed |= outcome.is_err();
                state.durable = target;
                log.flushed.notify_all();
            }
        });
    }

    fn append(&self, slices: &[IoSlice<'_>]) -> Result<()> {
        let mut state = self.state.lock();
        state.file.append(slices)?;
        let mine = state.file.end;
        self.appended.notify_one();
        while state.durable < mine && !state.failed {
            self.flushed.wait(&mut state);
        }
        if state.failed {
            bail!("fdatasync failed");
        }
        Ok(())
    }
}

static FLUSHER: std::sync::Once = std::sync::Once::new();

pub(super) fn connection(socket: TcpStream, log: &Arc<Log>) -> Result<()> {
    FLUSHER.call_once(|| log.flush_for_ever());
    let writer = socket.try_clone()?;
    let mut frames = Frames::new(socket);
    let mut ranges = Vec::new();
    while frames.next(&mut ranges)? {
        let slices: Vec<_> = ranges.iter().map(|r| IoSlice::new(&frames.buffer[r.clone()])).collect();
        log.append(&slices)?;
        answer(&writer, ranges.len())?;
    }
    Ok(())
}
