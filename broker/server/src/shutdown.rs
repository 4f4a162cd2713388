//! Stopping: one signal that everybody who waits also listens to, and the signals of the system that cause it.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What a shell reports for a process that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Says once, to all, that the broker stops.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<bool>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Shutdown {
    /// Begins the stop. Calling it again changes nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether the stop has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// An ear for one listener.
    pub fn watch(&self) -> ShutdownWatch {
        ShutdownWatch(self.0.subscribe())
    }
}

/// Hears that the broker stops.
#[derive(Debug, Clone)]
pub struct ShutdownWatch(watch::Receiver<bool>);

impl ShutdownWatch {
    /// Waits for the stop to begin; at once when it has.
    pub async fn begun(&mut self) {
        // An error means that the broker is gone altogether, which is a stop as well.
        let _ = self.0.wait_for(|begun| *begun).await;
    }

    /// Whether the stop has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

/// Listens for Ctrl-C and SIGTERM from now on; the future waits for the first and says which it was. A second Ctrl-C
/// ends the process on the spot, for those who cannot wait.
pub fn stop_signal() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let cause = tokio::select! {
            _ = interrupt.recv() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
        };
        tokio::spawn(async move {
            interrupt.recv().await;
            #[expect(clippy::disallowed_methods, reason = "on the spot is what the second Ctrl-C asks for")]
            std::process::exit(EXIT_INTERRUPTED);
        });
        cause
    })
}
