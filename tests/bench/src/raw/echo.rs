//! A small frame for a small frame, on the same runtime as the broker.

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of the answer, about those of an `ApiVersions` response.
const ANSWER_BYTES: usize = 256;

pub(super) fn serve() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        super::announce(listener.local_addr()?);
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::spawn(connection(socket));
        }
    })
}

async fn connection(mut socket: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0_u8; 64 << 10];
    let mut filled = 0;
    let mut frame = [0_u8; 4 + ANSWER_BYTES];
    frame[..4].copy_from_slice(&(ANSWER_BYTES as u32).to_be_bytes());
    loop {
        let n = socket.read(&mut buffer[filled..]).await?;
        if n == 0 {
            return Ok(());
        }
        filled += n;
        let mut parsed = 0;
        while let Some(prefix) = buffer[parsed..filled].first_chunk::<4>() {
            let end = parsed + 4 + u32::from_be_bytes(*prefix) as usize;
            if end > filled {
                break;
            }
            socket.write_all(&frame).await?;
            parsed = end;
        }
        buffer.copy_within(parsed..filled, 0);
        filled -= parsed;
    }
}
