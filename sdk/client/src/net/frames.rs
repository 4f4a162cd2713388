//! Bytes from the socket to whole frames. Memory grows with the bytes that arrive, not with the length announced.

use bytes::{Bytes, BytesMut};
use ottla_wire::frame::{FRAME_LENGTH_BYTES, frame_length};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The most that a frame of any announced size gets before its bytes arrive.
const READ_BYTES: usize = 256 * 1024;

/// The least that is asked of the socket, so that a small frame takes one call.
const READ_BYTES_MIN: usize = 4 * 1024;

/// Cuts what it reads into frames. Cancel-safe: what was read stays for the next call.
pub(super) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
    bytes_max: usize,
}

/// Why no more frames come.
#[derive(Debug)]
pub(super) enum FrameEnd {
    /// The peer closed the connection.
    Closed,
    /// The socket failed.
    Io(std::io::Error),
    /// The peer announced a frame that is not accepted.
    Refused(ottla_wire::frame::FrameError),
}

impl std::fmt::Display for FrameEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed"),
            Self::Io(error) => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(from: R, bytes_max: usize) -> Self {
        Self { from, buffer: BytesMut::new(), bytes_max }
    }

    /// The next frame without its length. Every frame owns its memory, so that keeping a small one keeps only that.
    pub(super) async fn next(&mut self) -> Result<Bytes, FrameEnd> {
        loop {
            let wanted = match self.buffer.first_chunk::<FRAME_LENGTH_BYTES>() {
                None => FRAME_LENGTH_BYTES,
                Some(prefix) => {
                    FRAME_LENGTH_BYTES + frame_length(*prefix, self.bytes_max).map_err(FrameEnd::Refused)?
                }
            };
            if wanted > FRAME_LENGTH_BYTES && self.buffer.len() >= wanted {
                return Ok(self.cut(wanted));
            }
            if wanted == FRAME_LENGTH_BYTES && self.buffer.len() >= FRAME_LENGTH_BYTES {
                // An empty frame is no answer to anything; its reader will say so.
                return Ok(self.cut(wanted));
            }
            let missing = wanted - self.buffer.len();
            // Doubling: a peer that announces much and sends little costs little.
            self.buffer.reserve(missing.min(self.buffer.len().max(READ_BYTES)).max(READ_BYTES_MIN));
            match self.from.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(FrameEnd::Closed),
                Ok(_) => {}
                Err(error) => return Err(FrameEnd::Io(error)),
            }
        }
    }

    fn cut(&mut self, frame_bytes: usize) -> Bytes {
        if self.buffer.len() == frame_bytes {
            return std::mem::take(&mut self.buffer).freeze().slice(FRAME_LENGTH_BYTES..);
        }
        // More frames follow in the same memory. The smaller part is copied, so that neither keeps the other alive.
        if frame_bytes <= self.buffer.len() / 2 {
            let frame = Bytes::copy_from_slice(&self.buffer[FRAME_LENGTH_BYTES..frame_bytes]);
            let _ = self.buffer.split_to(frame_bytes);
            frame
        } else {
            let rest = BytesMut::from(&self.buffer[frame_bytes..]);
            let frame = std::mem::replace(&mut self.buffer, rest);
            frame.freeze().slice(FRAME_LENGTH_BYTES..frame_bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes()[..], body].concat()
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_however_they_were_cut() {
        let bodies = [vec![1; 3], vec![2; 700_000], vec![], vec![3; 10], vec![4; 5000]];
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        for piece_bytes in [1000, 65_536, stream.len()] {
            let mut mock = tokio_test_reader(&stream, piece_bytes);
            let mut frames = FrameReader::new(&mut mock, 1 << 20);
            for body in &bodies {
                assert_eq!(frames.next().await.unwrap(), *body);
            }
            assert!(matches!(frames.next().await, Err(FrameEnd::Closed)));
        }
    }

    #[tokio::test]
    async fn an_announced_length_takes_no_memory() {
        let mut prefix: &[u8] = &(100_i32 << 20).to_be_bytes();
        let mut frames = FrameReader::new(&mut prefix, 128 << 20);
        assert!(matches!(frames.next().await, Err(FrameEnd::Closed)));
        assert!(frames.buffer.capacity() <= 2 * READ_BYTES);
        for length in [-1, i32::MAX] {
            let bytes = length.to_be_bytes();
            let mut frames = FrameReader::new(&bytes[..], 1 << 20);
            assert!(matches!(frames.next().await, Err(FrameEnd::Refused(_))));
        }
    }

    /// A reader that hands out at most `piece_bytes` at a time.
    fn tokio_test_reader(stream: &[u8], piece_bytes: usize) -> impl AsyncRead + Unpin {
        let (mut near, far) = tokio::io::duplex(piece_bytes);
        let stream = stream.to_vec();
        tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut near, &stream).await;
        });
        far
    }
}
