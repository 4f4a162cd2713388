//! Stopping: one signal to which every task that waits also listens.

use tokio::sync::watch;

/// Says once, to all, that the server stops.
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

    /// What one task listens to.
    pub fn watch(&self) -> ShutdownWatch {
        ShutdownWatch(self.0.subscribe())
    }
}

/// Hears that the server stops.
#[derive(Debug, Clone)]
pub struct ShutdownWatch(watch::Receiver<bool>);

impl ShutdownWatch {
    /// Waits for the stop to begin; at once when it has.
    pub async fn begun(&mut self) {
        // An error means that the server is gone altogether, which is a stop as well.
        let _ = self.0.wait_for(|begun| *begun).await;
    }

    /// Whether the stop has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}
