//! From socket bytes to frames: one buffer per connection that is read from, taken from a pool and given back when the
//! connection has nothing half-read, so that an idle connection holds none.
//!
//! Small requests are read as many as there are at once. Of a large frame, the rest is read and the length of the next
//! frame with it, so that the next one begins where there is room for all of it and is not copied together from halves.
//! A frame's length is believed only as its bytes arrive: the buffer doubles, and half a frame of 100 MiB costs what
//! came of it.

use bytes::buf::Limit;
use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;

use crate::reply::{CloseReason, ForeignProtocol};

/// Room that one read finds at least when it begins a frame; many small requests arrive in one read.
const BUFFER_BYTES: usize = 256 << 10;
/// Room made at once for a frame larger than the buffer; beyond this the buffer doubles.
const STEP_BYTES: usize = 2 << 20;
/// A frame from this size on is read by itself.
const LARGE_FRAME_BYTES: usize = 64 << 10;
/// Buffers kept for the next reader. More connections than this are seldom in the middle of a read at once.
const POOLED_MAX: usize = 16;
/// The same for buffers of [`STEP_BYTES`].
const POOLED_LARGE_MAX: usize = 4;
const LENGTH_BYTES: usize = 4;

/// Receive buffers that wait for a reader.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    usual: Mutex<Vec<BytesMut>>,
    large: Mutex<Vec<BytesMut>>,
}

impl BufferPool {
    fn take(&self) -> BytesMut {
        let pooled = self.usual.lock().pop();
        pooled.unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
    }

    fn take_large(&self) -> BytesMut {
        let pooled = self.large.lock().pop();
        pooled.unwrap_or_else(|| BytesMut::with_capacity(STEP_BYTES))
    }

    fn give_back(&self, mut buffer: BytesMut) {
        // Frames that still wait for their answer may share the memory; then it goes when they go.
        let (pool, most) = if buffer.try_reclaim(STEP_BYTES) {
            (&self.large, POOLED_LARGE_MAX)
        } else if buffer.try_reclaim(BUFFER_BYTES) {
            (&self.usual, POOLED_MAX)
        } else {
            return;
        };
        let mut pooled = pool.lock();
        // One that grew beyond a step was for a frame that is an exception.
        if pooled.len() < most && buffer.capacity() < 2 * STEP_BYTES {
            pooled.push(buffer);
        }
    }
}

/// The bytes of one connection that are not yet a frame.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: BytesMut,
    frame_bytes_max: i32,
    /// The frame that has begun, or the last one before it, is a large one.
    large: bool,
}

impl Inbox {
    pub(crate) fn new(frame_bytes_max: i32) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max, large: false }
    }

    /// Somewhere to read into: as much as the rest of a large frame that has begun, or many small ones, take.
    pub(crate) fn room(&mut self, pool: &BufferPool) -> Limit<&mut BytesMut> {
        if self.buffer.capacity() == 0 {
            self.buffer = if self.large { pool.take_large() } else { pool.take() };
        }
        let half = self.buffer.len();
        if half < LARGE_FRAME_BYTES {
            // Back to the front, which is still in the processor's cache, as long as that is cheap.
            let _ = self.buffer.try_reclaim(STEP_BYTES - half) || self.buffer.try_reclaim(BUFFER_BYTES - half);
        }
        if let Some(missing) = self.missing() {
            self.make_room(missing + LENGTH_BYTES, pool);
        } else {
            self.buffer.reserve(BUFFER_BYTES);
        }
        self.limited()
    }

    /// Somewhere to read on while earlier frames in the buffer are still in use, if the next one has begun and fits.
    pub(crate) fn more_room(&mut self) -> Option<Limit<&mut BytesMut>> {
        let missing = self.missing()?;
        (self.spare() >= missing + LENGTH_BYTES).then(|| self.limited())
    }

    /// Makes room for `missing` bytes, or for as many as may be believed.
    fn make_room(&mut self, missing: usize, pool: &BufferPool) {
        let half = self.buffer.len();
        if self.large && self.buffer.capacity() <= BUFFER_BYTES && half <= BUFFER_BYTES {
            let mut larger = pool.take_large();
            larger.extend_from_slice(&self.buffer);
            pool.give_back(std::mem::replace(&mut self.buffer, larger));
        }
        let spare = self.spare();
        if spare < missing && (!self.buffer.try_reclaim(missing) && spare == 0) {
            self.buffer.reserve(missing.min(half.max(STEP_BYTES)));
        }
    }

    fn spare(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }

    /// The spare room, so far as one read should fill it.
    fn limited(&mut self) -> Limit<&mut BytesMut> {
        let bytes_max = match self.missing() {
            Some(missing) if self.large => missing + LENGTH_BYTES,
            _ => BUFFER_BYTES,
        };
        let bytes_max = bytes_max.min(self.spare());
        (&mut self.buffer).limit(bytes_max)
    }

    /// Gives the buffer back when there is nothing in it.
    pub(crate) fn rest(&mut self, pool: &BufferPool) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            pool.give_back(std::mem::take(&mut self.buffer));
        }
    }

    /// Takes out the next frame, without its length, if all of it is there.
    pub(crate) fn next_frame(&mut self) -> Result<Option<BytesMut>, CloseReason> {
        let Some(length) = self.length() else { return Ok(None) };
        if (length < 0 || length > self.frame_bytes_max)
            && let Some(protocol) = ForeignProtocol::of(length.to_be_bytes())
        {
            return Err(CloseReason::Foreign(protocol));
        }
        if length < 0 {
            return Err(CloseReason::NegativeFrame(length));
        }
        if length > self.frame_bytes_max {
            return Err(CloseReason::FrameTooLarge { bytes: length, bytes_max: self.frame_bytes_max });
        }
        self.large = length as usize >= LARGE_FRAME_BYTES;
        if self.buffer.len() < LENGTH_BYTES + length as usize {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length as usize)))
    }

    /// Whether [`next_frame`](Self::next_frame) has something to say.
    pub(crate) fn has_frame(&self) -> bool {
        self.length().is_some_and(|length| {
            !(0..=self.frame_bytes_max).contains(&length) || self.buffer.len() >= LENGTH_BYTES + length as usize
        })
    }

    /// Bytes that wait for the rest of their frame.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes the frame that has begun is to have; 0 while that is not known.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0)
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

    /// What one read does that finds at most `at_most` bytes.
    fn read(inbox: &mut Inbox, pool: &BufferPool, stream: &mut &[u8], at_most: usize) {
        let mut room = inbox.room(pool);
        let (now, later) = stream.split_at(at_most.min(stream.len()).min(room.remaining_mut()));
        assert!(!now.is_empty(), "no room to read into");
        room.put_slice(now);
        *stream = later;
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let pool = BufferPool::default();
        let stream: Vec<u8> = [b"one".as_slice(), b"", &[7; 5000]].iter().flat_map(|bytes| frame(bytes)).collect();
        for chunk in [1, 2, 3, 7, 4096, stream.len()] {
            let mut inbox = Inbox::new(10_000);
            let mut frames = Vec::new();
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                read(&mut inbox, &pool, &mut rest, chunk);
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
            inbox.room(&pool).put_slice(&length.to_be_bytes());
            assert_eq!(inbox.next_frame(), Err(reason));
        }
    }

    #[test]
    fn a_half_sent_frame_costs_what_came_of_it() {
        let pool = BufferPool::default();
        let mut inbox = Inbox::new(200 << 20);
        inbox.room(&pool).put_slice(&(100_i32 << 20).to_be_bytes());
        inbox.room(&pool).put_slice(&[0; 100]);
        assert_eq!(inbox.next_frame(), Ok(None));
        inbox.room(&pool);
        assert!(inbox.buffer.capacity() <= 2 * STEP_BYTES);
    }

    #[test]
    fn large_frames_come_out_whole_however_they_arrive_and_are_not_moved() {
        let pool = BufferPool::default();
        for (bytes, count) in [(LARGE_FRAME_BYTES, 50), (100_000, 50), (1 << 20, 5), (5 << 20, 3)] {
            let sent: Vec<Vec<u8>> = (0..count).map(|at| vec![at as u8; bytes + at]).collect();
            let stream: Vec<u8> = sent.iter().flat_map(|bytes| frame(bytes)).collect();
            for chunk in [1000, 77_777, 300_000, stream.len()] {
                let mut inbox = Inbox::new(i32::MAX);
                let (mut rest, mut came) = (stream.as_slice(), 0);
                while !rest.is_empty() {
                    read(&mut inbox, &pool, &mut rest, chunk);
                    while let Some(frame) = inbox.next_frame().unwrap() {
                        assert_eq!(frame, sent[came]);
                        came += 1;
                    }
                    let lengths = inbox.waiting_bytes();
                    assert!(came < 2 || bytes > STEP_BYTES || lengths <= bytes + count + LENGTH_BYTES, "{lengths}");
                }
                assert_eq!(came, sent.len());
            }
        }
    }

    #[test]
    fn reading_on_leaves_frames_in_use_alone() {
        let pool = BufferPool::default();
        let sent: Vec<Vec<u8>> = (0..40).map(|at| vec![at as u8; 100_000]).collect();
        let stream: Vec<u8> = sent.iter().flat_map(|bytes| frame(bytes)).collect();
        let mut inbox = Inbox::new(i32::MAX);
        let (mut rest, mut came) = (stream.as_slice(), Vec::new());
        while !rest.is_empty() {
            read(&mut inbox, &pool, &mut rest, usize::MAX);
            let mut in_use = Vec::new();
            loop {
                while let Some(frame) = inbox.next_frame().unwrap() {
                    in_use.push(frame);
                }
                let Some(mut room) = inbox.more_room().filter(|_| !rest.is_empty()) else { break };
                let (now, later) = rest.split_at(rest.len().min(room.remaining_mut()));
                room.put_slice(now);
                rest = later;
            }
            came.extend(in_use.into_iter().map(|frame| frame.to_vec()));
        }
        assert_eq!(came, sent);
    }

    #[test]
    fn a_buffer_is_pooled_when_nothing_is_in_it() {
        let pool = BufferPool::default();
        let mut inbox = Inbox::new(100);
        inbox.room(&pool).put_slice(&frame(b"abc"));
        let held = inbox.next_frame().unwrap().unwrap();
        inbox.rest(&pool);
        assert_eq!(pool.usual.lock().len(), 0, "the frame still uses it");
        assert_eq!(inbox.buffer.capacity(), 0);
        drop(held);
        inbox.room(&pool).put_slice(&frame(b"abc"));
        drop(inbox.next_frame().unwrap().unwrap());
        inbox.rest(&pool);
        assert_eq!(pool.usual.lock().len(), 1);
    }
}
