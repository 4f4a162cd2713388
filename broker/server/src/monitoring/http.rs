//! The listener for metrics: two pages, nothing that changes anything.
//!
//! `GET /metrics` is everything the broker counts; `GET /healthz` answers 200 while it serves, and says which log
//! directories are offline. One request per connection, which is then closed: a scraper asks every few seconds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::page;
use super::text::CONTENT_TYPE;
use crate::broker::Broker;

/// Connections served at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may live.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// Rest after a failed accept.
const ACCEPT_REST: Duration = Duration::from_millis(100);

const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Serves until the broker stops.
pub(crate) async fn serve(listener: TcpListener, broker: Arc<Broker>) {
    let mut stop = broker.shutdown.watch();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.begun() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let broker = Arc::clone(&broker);
                tokio::spawn(async move {
                    // A client that is slow or gone is not worth a log line.
                    let _ = timeout(PATIENCE, serve_one(stream, &broker)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!("cannot accept a connection for metrics: {error}");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// An answer.
struct Page {
    status: &'static str,
    kind: &'static str,
    text: String,
}

impl Page {
    fn text(status: &'static str, text: impl Into<String>) -> Self {
        Self { status, kind: TEXT_TYPE, text: text.into() }
    }
}

async fn serve_one(mut stream: TcpStream, broker: &Arc<Broker>) -> io::Result<()> {
    let mut received = Vec::with_capacity(1024);
    let page = loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        match wanted(&received) {
            Ok(Some(path)) => break answer(&path, broker).await,
            Ok(None) if received.len() < HEAD_BYTES_MAX => {}
            Ok(None) => break Page::text("431 Request Header Fields Too Large", "the request is too long\n"),
            Err(page) => break page,
        }
    };
    let Page { status, kind, text } = page;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// The path that a request asks for; none while its head has not come whole.
fn wanted(received: &[u8]) -> Result<Option<String>, Page> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(received) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(_)) if request.method != Some("GET") => {
            Err(Page::text("405 Method Not Allowed", "only GET\n"))
        }
        Ok(httparse::Status::Complete(_)) => {
            let target = request.path.unwrap_or_default();
            Ok(Some(target.split('?').next().unwrap_or_default().to_owned()))
        }
        Err(_) => Err(Page::text("400 Bad Request", "this is no HTTP request\n")),
    }
}

async fn answer(path: &str, broker: &Arc<Broker>) -> Page {
    match path {
        "/metrics" => {
            let (metrics, broker) = (Arc::clone(&broker.pools.metrics), Arc::clone(broker));
            // It asks the disks how much is left.
            match metrics.run(move || page::text(&broker)).await {
                Ok(text) => Page { status: "200 OK", kind: CONTENT_TYPE, text },
                Err(_) => Page::text("500 Internal Server Error", "the metrics cannot be shown\n"),
            }
        }
        "/healthz" => health(broker),
        _ => Page::text("404 Not Found", "/metrics and /healthz are here\n"),
    }
}

fn health(broker: &Broker) -> Page {
    const UNWELL: &str = "503 Service Unavailable";
    if broker.shutdown.has_begun() {
        return Page::text(UNWELL, "stopping\n");
    }
    if let Some(reasons) = broker.log.all_offline() {
        return Page::text(UNWELL, format!("every log directory is offline: {reasons}\n"));
    }
    let offline = broker.log.all().iter().filter_map(|it| Some((it.path(), it.offline_reason()?)));
    let lines = offline.map(|(path, reason)| format!("offline {}: {reason}\n", path.display()));
    Page::text("200 OK", format!("ok\n{}", lines.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_get_requests_are_answered() {
        assert!(matches!(wanted(b"GET /metrics HTTP/1.1\r\nHost: x\r\n"), Ok(None)));
        assert!(matches!(wanted(b"GET /metrics?a=b HTTP/1.1\r\n\r\n"), Ok(Some(path)) if path == "/metrics"));
        assert!(matches!(wanted(b"POST /metrics HTTP/1.1\r\n\r\n"), Err(page) if page.status.starts_with("405")));
        assert!(matches!(wanted(b"\x00\x00\x00\x01"), Err(page) if page.status.starts_with("400")));
    }
}
