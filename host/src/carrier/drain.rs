//! The word that the gateway shuts down.

use tokio::sync::watch;

/// Tells when the gateway shuts down.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

impl Drain {
    /// Tells when `draining` becomes true.
    pub fn new(draining: &watch::Sender<bool>) -> Drain {
        Drain(draining.subscribe())
    }

    /// Returns when the gateway shuts down.
    pub async fn wait(&mut self) {
        // An error means that the gateway is gone, which is as good.
        let _ = self.0.wait_for(|draining| *draining).await;
    }
}
