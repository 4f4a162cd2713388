//! What clients measure of themselves and push to the broker (KIP-714), to be shown with its own metrics.
//!
//! 1. [`instances`]: which client may push what and when, as a state machine; the series that are kept
//! 2. this file: the lock around it, the time, and what the settings say
//!
//! A client gets to know with GetTelemetrySubscriptions what is wanted of it: the client-metrics resources say so. The series of
//! a client go when it was silent for three intervals. The number of clients and of series is bounded.

mod instances;

use ottla_front::{Counter, Peer};
use ottla_wire::ErrorCode;
use ottla_wire::message::{GetTelemetrySubscriptionsResponse, PushTelemetryRequest};
use ottla_wire::otlp;
use ottla_wire::record::{Codec, DecompressError, decompress};
use parking_lot::Mutex;
use uuid::Uuid;

use self::instances::{Client, Instances, Push};
pub(crate) use self::instances::{ClientSeries, Series};
use crate::clock;
use crate::config::{Config, MetricsSubscription};
use crate::live::InForce;

/// Codecs that clients may use, best first.
const CODECS: [Codec; 4] = [Codec::Zstd, Codec::Lz4, Codec::Gzip, Codec::Snappy];

/// The telemetry of all clients.
#[derive(Debug)]
pub(crate) struct Telemetry {
    instances: Mutex<Instances>,
    bytes_max: usize,
    /// Pushes that were taken.
    pub(crate) pushes: Counter,
    /// Pushes and questions that were refused.
    pub(crate) refused: Counter,
    /// Metrics that were pushed and are not shown: histograms, differences, and what found no room.
    pub(crate) left_out: Counter,
}

impl Telemetry {
    /// For a broker with these settings.
    pub(crate) fn new(config: &Config, in_force: &InForce) -> Self {
        let telemetry = Self {
            instances: Mutex::new(Instances::new(config.telemetry_series_max)),
            bytes_max: config.telemetry_max_bytes as usize,
            pushes: Counter::default(),
            refused: Counter::default(),
            left_out: Counter::default(),
        };
        telemetry.follow(in_force);
        telemetry
    }

    /// Takes over what is wanted of clients from now on.
    pub(crate) fn follow(&self, in_force: &InForce) {
        let subscriptions = in_force.client_metrics.values().filter_map(|given| MetricsSubscription::read(given).ok());
        self.instances.lock().subscribe(subscriptions.collect());
    }

    /// Answers GetTelemetrySubscriptions.
    pub(crate) fn ask(&self, peer: &Peer, id: Uuid) -> Result<GetTelemetrySubscriptionsResponse<'static>, ErrorCode> {
        let id = if id.is_nil() { Uuid::new_v4() } else { id };
        let mut instances = self.instances.lock();
        let wanted = instances.ask(clock::now_ms(), id, || Client::of(peer)).inspect_err(|_| {
            self.refused.inc();
        })?;
        Ok(GetTelemetrySubscriptionsResponse {
            client_instance_id: id,
            subscription_id: wanted.id,
            accepted_compression_types: CODECS.iter().map(|codec| codec.bits() as i8).collect(),
            push_interval_ms: wanted.interval_ms,
            telemetry_max_bytes: self.bytes_max as i32,
            // What a client counted since its start is whole without the pushes before.
            delta_temporality: false,
            requested_metrics: wanted.metrics.iter().cloned().map(Into::into).collect(),
            ..GetTelemetrySubscriptionsResponse::default()
        })
    }

    /// Takes a push. Unpacks it on the calling thread.
    pub(crate) fn push(&self, peer: &Peer, request: &PushTelemetryRequest<'_>) -> ErrorCode {
        let taken = self.take(peer, request);
        match taken {
            Ok(()) => self.pushes.inc(),
            Err(_) => self.refused.inc(),
        }
        taken.err().unwrap_or(ErrorCode::None)
    }

    fn take(&self, peer: &Peer, request: &PushTelemetryRequest<'_>) -> Result<(), ErrorCode> {
        let id = request.client_instance_id;
        if id.is_nil() {
            return Err(ErrorCode::InvalidRequest);
        }
        let codec = Codec::ALL.into_iter().find(|codec| i16::from(codec.bits()) == i16::from(request.compression_type));
        let push = Push {
            subscription_id: request.subscription_id,
            terminating: request.terminating,
            codec_known: codec.is_some(),
            too_large: request.metrics.len() > self.bytes_max,
        };
        self.instances.lock().admit(clock::now_ms(), id, push, || Client::of(peer))?;
        let unpacked = decompress(codec.unwrap_or_default(), request.metrics, self.bytes_max);
        let read = unpacked.map_err(|error| match error {
            DecompressError::TooLarge { .. } => ErrorCode::TelemetryTooLarge,
            DecompressError::Damaged { .. } | DecompressError::UnknownCodec => ErrorCode::InvalidRecord,
        });
        let read = read.and_then(|bytes| {
            let mut series = Series::default();
            let passed_over = otlp::points(&bytes, |point| series.add(&point)).map_err(|error| {
                tracing::debug!(client = %peer, "{error}");
                ErrorCode::InvalidRecord
            })?;
            Ok((series, passed_over))
        });
        match read {
            Ok((series, passed_over)) => {
                let no_room = self.instances.lock().keep(id, series);
                self.left_out.inc_by((passed_over + no_room) as u64);
                Ok(())
            }
            Err(code) => {
                self.instances.lock().refuse(id, code);
                Err(code)
            }
        }
    }

    /// The series of each client that was heard of lately.
    pub(crate) fn series(&self) -> Vec<ClientSeries> {
        self.instances.lock().series(clock::now_ms())
    }
}
