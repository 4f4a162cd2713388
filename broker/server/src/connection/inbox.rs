//! From socket bytes to frames: one buffer per connection that is read from, taken from a pool and given back when the
//! connection has nothing half-read, so that an idle connection holds none.
//!
//! A frame's length is believed only as its bytes arrive: the buffer doubles, and half a frame of 100 MiB costs what
//! came of it.

use std::sync::{Mutex, PoisonError};

use bytes::{Buf, BytesMut};

use crate::request::CloseReason;

/// Room that one read finds at least when it begins a frame; many small requests arrive in one read.
const BUFFER_BYTES: usize = 256 << 10;
/// Room made at once for a frame larger than the buffer; beyond this the buffer doubles.
const STEP_BYTES: usize = 1 << 20;
/// Buffers kept for the next reader. More connections than this are seldom in the middle of a read at once.
const POOLED_MAX: usize = 16;
const LENGTH_BYTES: usize = 4;

/// Receive buffers that wait for a reader.
#[derive(Debug, Default)]
pub struct BufferPool(Mutex<Vec<BytesMut>>);

impl BufferPool {
    fn take(&self) -> BytesMut {
        let pooled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        pooled.unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
    }

    fn give_back(&self, mut buffer: BytesMut) {
        // Frames that still wait for their answer may share the memory; then it goes when they go.
        if buffer.capacity() > STEP_BYTES || !buffer.try_reclaim(BUFFER_BYTES) {
            return;
        }
        let mut pooled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pooled.len() < POOLED_MAX {
            pooled.push(buffer);
        }
    }
}

/// The bytes of one connection that are not yet a frame.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: BytesMut,
    frame_bytes_max: i32,
}

impl Inbox {
    pub(super) fn new(frame_bytes_max: i32) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max }
    }

    /// Somewhere to read into, with room for the rest of the frame that has begun or for many small ones.
    pub(super) fn room(&mut self, pool: &BufferPool) -> &mut BytesMut {
        if self.buffer.is_empty() {
            if self.buffer.capacity() == 0 {
                self.buffer = pool.take();
            }
            self.buffer.reserve(BUFFER_BYTES);
        } else if let Some(missing) = self.missing() {
            let spare = self.buffer.capacity() - self.buffer.len();
            if spare < missing.min(BUFFER_BYTES) {
                self.buffer.reserve(missing.min(self.buffer.len().max(STEP_BYTES)));
            }
        } else {
            self.buffer.reserve(LENGTH_BYTES);
        }
        &mut self.buffer
    }

    /// Gives the buffer back when there is nothing in it.
    pub(super) fn rest(&mut self, pool: &BufferPool) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            pool.give_back(std::mem::take(&mut self.buffer));
        }
    }

    /// Takes out the next frame, without its length, if all of it is there.
    pub(super) fn next_frame(&mut self) -> Result<Option<BytesMut>, CloseReason> {
        let Some(length) = self.length() else { return Ok(None) };
        if length < 0 {
            return Err(CloseReason::NegativeFrame(length));
        }
        if length > self.frame_bytes_max {
            return Err(CloseReason::FrameTooLarge { bytes: length, bytes_max: self.frame_bytes_max });
        }
        if self.buffer.len() < LENGTH_BYTES + length as usize {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length as usize)))
    }

    /// Bytes that wait for the rest of their frame.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    fn length(&self) -> Option<i32> {
        self.buffer.first_chunk().map(|length| i32::from_be_bytes(*length))
    }

    /// How many bytes the frame that has begun still lacks.
    fn missing(&self) -> Option<usize> {
        let length = usize::try_from(self.length()?).ok()?;
        Some((LENGTH_BYTES + length).saturating_sub(self.buffer.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as i32).to_be_bytes(), bytes].concat()
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let pool = BufferPool::default();
        let stream: Vec<u8> = [b"one".as_slice(), b"", &[7; 5000]].iter().flat_map(|bytes| frame(bytes)).collect();
        for chunk in [1, 2, 3, 7, 4096, stream.len()] {
            let mut inbox = Inbox::new(10_000);
            let mut frames = Vec::new();
            for part in stream.chunks(chunk) {
                inbox.room(&pool).extend_from_slice(part);
                while let Some(frame) = inbox.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [b"one".as_slice(), b"", &[7; 5000]]);
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_its_bytes_come() {
        let pool = BufferPool::default();
        for (length, reason) in [
            (-1, CloseReason::NegativeFrame(-1)),
            (i32::MIN, CloseReason::NegativeFrame(i32::MIN)),
            (101, CloseReason::FrameTooLarge { bytes: 101, bytes_max: 100 }),
            (i32::MAX, CloseReason::FrameTooLarge { bytes: i32::MAX, bytes_max: 100 }),
        ] {
            let mut inbox = Inbox::new(100);
            inbox.room(&pool).extend_from_slice(&length.to_be_bytes());
            assert_eq!(inbox.next_frame(), Err(reason));
        }
    }

    #[test]
    fn a_half_sent_frame_costs_what_came_of_it() {
        let pool = BufferPool::default();
        let mut inbox = Inbox::new(200 << 20);
        inbox.room(&pool).extend_from_slice(&(100_i32 << 20).to_be_bytes());
        inbox.room(&pool).extend_from_slice(&[0; 100]);
        assert_eq!(inbox.next_frame(), Ok(None));
        assert!(inbox.room(&pool).capacity() <= 2 * STEP_BYTES);
    }

    #[test]
    fn a_buffer_is_pooled_when_nothing_is_in_it() {
        let pool = BufferPool::default();
        let mut inbox = Inbox::new(100);
        inbox.room(&pool).extend_from_slice(&frame(b"abc"));
        let held = inbox.next_frame().unwrap().unwrap();
        inbox.rest(&pool);
        assert_eq!(pool.0.lock().unwrap().len(), 0, "the frame still uses it");
        assert_eq!(inbox.buffer.capacity(), 0);
        drop(held);
        inbox.room(&pool).extend_from_slice(&frame(b"abc"));
        drop(inbox.next_frame().unwrap().unwrap());
        inbox.rest(&pool);
        assert_eq!(pool.0.lock().unwrap().len(), 1);
    }
}
