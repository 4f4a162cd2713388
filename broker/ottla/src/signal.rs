//! The signals of the system that stop the broker.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports for a process that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Listens for Ctrl-C and SIGTERM from now on; the future waits for the first and says which it was. A second Ctrl-C
/// ends the process on the spot, for a user who cannot wait.
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = &'static str>> {
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
