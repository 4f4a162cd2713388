//! The front of one server, as its connections see it.

use std::sync::Arc;

use crate::complaints::Complaints;
use crate::delivery::Delivery;
use crate::inbox::BufferPool;
use crate::memory::Memory;
use crate::metrics::FrontMetrics;
use crate::service::Service;
use crate::settings::{Bounds, FrontSettings};
use crate::shutdown::ShutdownWatch;

/// What all connections share.
pub struct Front<S> {
    pub(crate) service: Arc<S>,
    pub(crate) settings: FrontSettings,
    pub(crate) stop: ShutdownWatch,
    pub(crate) delivery: Delivery,
    /// Receive buffers between two uses.
    pub(crate) buffers: BufferPool,
    pub(crate) memory: Arc<Memory>,
    pub(crate) complaints: Complaints,
}

impl<S: Service> Front<S> {
    /// A front that gives frames to `service` until `stop`.
    pub fn new(
        service: Arc<S>,
        settings: FrontSettings,
        bounds: Bounds,
        metrics: &FrontMetrics,
        stop: ShutdownWatch,
    ) -> Self {
        let delivery = Delivery::new(&settings, &bounds, metrics);
        let (buffers, complaints) = (BufferPool::default(), Complaints::default());
        Self { service, settings, stop, delivery, buffers, memory: bounds.memory, complaints }
    }
}
