//! The least that a look at every byte of some files costs: read from front to back, CRC-32C of each piece.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use crate::pairs::{Latency, Measurement};

/// Bytes of one read, as recovery has them.
const PIECE_BYTES: usize = 1 << 20;

/// Reads and checks `files`, each in a thread of its own, in this very process.
pub(crate) fn read_and_check(files: &[PathBuf]) -> Result<Measurement> {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = files.iter().map(|path| scope.spawn(move || one(path))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a reader panicked")))
    })?;
    Ok(Measurement { work: 1.0, wall_s: begin.elapsed().as_secs_f64(), cpu_s: f64::NAN, latency: Latency::default() })
}

fn one(path: &PathBuf) -> Result<()> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        std::hint::black_box(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &piece[..read]));
    }
}
