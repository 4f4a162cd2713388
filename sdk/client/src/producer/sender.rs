//! The background task of a producer: looks at the outbox, does everything that can be done now, sleeps until something
//! changes. Waiting (for metadata, a producer id, a connection) is left to short tasks that ring when they are done.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ottla_wire::message::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_wire::{ApiKey, ErrorCode, ProducerEpoch, ProducerId};

use super::{ProducerState, exchange};
use crate::config::Acks;
use crate::core::backoff::Backoff;
use crate::core::batch::Settled;
use crate::core::sequence::Identity;
use crate::error::{ConnectionError, ProduceError};
use crate::net::{MAIN_CHANNEL, Topics};

/// Requests whose frames wait to be written, where no answers pace us (acks=0).
const UNANSWERED_BURST: usize = 8;

/// A question that is asked once at a time, with pauses after failures.
#[derive(Default)]
struct Errand {
    under_way: bool,
    failures: u32,
    not_before_ms: u64,
}

/// What the short tasks report back.
#[derive(Default)]
struct Errands {
    metadata: Errand,
    identity: Errand,
    /// Brokers being connected to.
    connecting: HashSet<i32>,
    /// When all topics were last asked about.
    refreshed_ms: u64,
}

struct Sender {
    shared: Arc<ProducerState>,
    errands: Mutex<Errands>,
}

/// Runs until the producer is closed and empty.
pub(super) async fn run(shared: Arc<ProducerState>) {
    let sender = Arc::new(Sender { shared: Arc::clone(&shared), errands: Mutex::default() });
    loop {
        let next_ms = sender.step();
        if shared.is_closed() && shared.outbox().is_empty() {
            break;
        }
        let pause = next_ms.map(|next_ms| Duration::from_millis(next_ms.saturating_sub(shared.now_ms())));
        tokio::select! {
            () = shared.wake.notified() => {}
            () = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
    tracing::debug!("producer ended");
}

impl Sender {
    /// Everything that can be done now. Returns when to look again if nothing rings before.
    fn step(self: &Arc<Self>) -> Option<u64> {
        let shared = &self.shared;
        let now_ms = shared.now_ms();
        let (settled, wanted, wants_identity, due) = {
            let mut outbox = shared.outbox();
            outbox.expire(now_ms);
            let due = outbox.due_brokers(now_ms);
            (outbox.take_settled(), outbox.wanted_topics(), outbox.wants_identity(), due)
        };
        shared.tell(settled);
        let mut next_ms = None;
        let mut look_again = |at_ms: Option<u64>| next_ms = [next_ms, at_ms].into_iter().flatten().min();
        look_again(self.refresh_metadata(now_ms, wanted));
        if wants_identity {
            look_again(self.fetch_identity(now_ms));
        }
        for node in due {
            look_again(self.serve(now_ms, node));
        }
        look_again(shared.outbox().next_ms(now_ms));
        next_ms
    }

    fn errands(&self) -> std::sync::MutexGuard<'_, Errands> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is due to this broker, as far as its connection has room. Returns when the broker wants more.
    fn serve(self: &Arc<Self>, now_ms: u64, node: i32) -> Option<u64> {
        let shared = &self.shared;
        let Some(connection) = shared.cluster.open_connection(node, MAIN_CHANNEL) else {
            self.connect(node);
            return None;
        };
        if let Some(pause) = connection.held_back() {
            return Some(now_ms + pause.as_millis() as u64 + 1);
        }
        let room = match shared.config.acks {
            Acks::None => UNANSWERED_BURST,
            _ => shared.config.requests_in_flight_max.saturating_sub(connection.in_flight()),
        };
        for _ in 0..room {
            let parcels = shared.outbox().pack_request(shared.now_ms(), node);
            if parcels.is_empty() {
                break;
            }
            exchange::send(shared, &connection, parcels);
        }
        None
    }

    /// Connects to a broker. When that fails, another one may lead its partitions by now, or it may have moved.
    fn connect(self: &Arc<Self>, node: i32) {
        if !self.errands().connecting.insert(node) {
            return;
        }
        let this = Arc::clone(self);
        self.shared.cluster.runtime().spawn(async move {
            if let Err(error) = this.shared.cluster.broker(node, MAIN_CHANNEL).await {
                let words: Arc<str> = error.to_string().into();
                this.shared.trouble.note(&words);
                this.shared.outbox().doubt_leader(node, &words);
            }
            this.errands().connecting.remove(&node);
            this.shared.wake.notify_one();
        });
    }

    /// Asks about all known topics: at once if some are wanted, else when what is known is old. Returns when that is.
    fn refresh_metadata(self: &Arc<Self>, now_ms: u64, wanted: Vec<Arc<str>>) -> Option<u64> {
        let shared = &self.shared;
        let urgent = !wanted.is_empty();
        let known = shared.outbox().known_topics();
        if known.is_empty() {
            return None;
        }
        let (topics, is_full) = {
            let mut errands = self.errands();
            let old_at_ms = errands.refreshed_ms + shared.config.client.metadata_age_ms_max;
            let at_ms = if urgent { 0 } else { old_at_ms }.max(errands.metadata.not_before_ms);
            if errands.metadata.under_way {
                return None;
            }
            if at_ms > now_ms {
                return Some(at_ms);
            }
            errands.metadata.under_way = true;
            // Those that are not urgent come along when they are old: their age is that of the last full answer.
            if old_at_ms <= now_ms { (known, true) } else { (wanted, false) }
        };
        let this = Arc::clone(self);
        shared.cluster.runtime().spawn(async move {
            let create = this.shared.config.auto_create_topics;
            let answer = this.shared.cluster.refresh(Topics::Named(&topics), create).await;
            let learned = answer.map(|metadata| {
                let now_ms = this.shared.now_ms();
                let mut outbox = this.shared.outbox();
                outbox.learn(now_ms, &metadata, &topics);
                let incomplete = !outbox.wanted_topics().is_empty();
                (outbox.take_settled(), incomplete)
            });
            this.take_in_metadata(learned, is_full);
        });
        None
    }

    fn take_in_metadata(&self, answer: Result<(Vec<Settled>, bool), ConnectionError>, is_full: bool) {
        let shared = &self.shared;
        let now_ms = shared.now_ms();
        let again = match answer {
            Ok((settled, incomplete)) => {
                shared.tell(settled);
                if is_full {
                    self.errands().refreshed_ms = now_ms;
                }
                incomplete
            }
            Err(error) => {
                tracing::debug!(%error, "no metadata");
                shared.trouble.note(&error.to_string());
                true
            }
        };
        self.errands().metadata.finish(now_ms, !again, self.backoff());
        shared.wake.notify_one();
    }

    /// Asks any broker for a producer id.
    fn fetch_identity(self: &Arc<Self>, now_ms: u64) -> Option<u64> {
        {
            let mut errands = self.errands();
            if errands.identity.under_way {
                return None;
            }
            if errands.identity.not_before_ms > now_ms {
                return Some(errands.identity.not_before_ms);
            }
            errands.identity.under_way = true;
        }
        let this = Arc::clone(self);
        self.shared.cluster.runtime().spawn(async move {
            let answer = ask_identity(&this.shared).await;
            let now_ms = this.shared.now_ms();
            let done = this.take_in_identity(answer);
            this.errands().identity.finish(now_ms, done, this.backoff());
            this.shared.wake.notify_one();
        });
        None
    }

    fn take_in_identity(&self, answer: Result<Result<Identity, ErrorCode>, ConnectionError>) -> bool {
        let shared = &self.shared;
        match answer {
            Ok(Ok(identity)) => {
                shared.outbox().identify(identity);
                return true;
            }
            Ok(Err(code)) if code.is_retriable() => shared.trouble.note(&format!("no producer id: {}", code.name())),
            Ok(Err(code)) => shared.fail(&ProduceError::NoProducerId { code, message: None }),
            Err(error @ ConnectionError::Unsupported { .. }) => {
                let message = Some(format!("{error}; set `idempotent` to false for such a broker").into());
                shared.fail(&ProduceError::NoProducerId { code: ErrorCode::UnsupportedVersion, message });
            }
            // One broker may answer nonsense, and the next one not.
            Err(error) => shared.trouble.note(&error.to_string()),
        }
        false
    }

    fn backoff(&self) -> Backoff {
        let config = &self.shared.config.client;
        Backoff::new(config.retry_backoff_ms, config.retry_backoff_ms_max)
    }
}

impl Errand {
    fn finish(&mut self, now_ms: u64, done: bool, backoff: Backoff) {
        self.under_way = false;
        self.failures = if done { 0 } else { self.failures.saturating_add(1) };
        // Even what succeeds is not asked again and again: an answer may lag behind what made us ask.
        self.not_before_ms = now_ms + backoff.pause_ms(self.failures.max(1), now_ms);
    }
}

async fn ask_identity(shared: &ProducerState) -> Result<Result<Identity, ErrorCode>, ConnectionError> {
    let request = InitProducerIdRequest { transaction_timeout_ms: 60_000, ..InitProducerIdRequest::default() };
    let connection = shared.cluster.any().await?;
    let version = connection.version_of(ApiKey::InitProducerId, i16::MAX)?;
    let answer = connection.call(version, &request, shared.cluster.request_timeout()).await?;
    let response: InitProducerIdResponse = answer.decode()?;
    Ok(match response.error_code {
        ErrorCode::None => {
            Ok(Identity { id: ProducerId(response.producer_id), epoch: ProducerEpoch(response.producer_epoch) })
        }
        code => Err(code),
    })
}
