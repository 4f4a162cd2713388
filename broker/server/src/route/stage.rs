//! The workers' part: one batch after the other is taken out of a lane, the plugins are asked, and the batch is appended or
//! gets its place in the order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ottla_front::Use;
use ottla_log::JOURNAL_ENTRY_BYTES_MAX;
use ottla_plugin_host::CallError;
use ottla_stage::{Address, Rules, StageError, Staged, Unpacked};
use ottla_wire::Uuid;
use ottla_wire::record::{BatchHeader, Codec};

use super::order::{Item, ItemRecords, OrderClosed};
use super::{Router, Shared, target};
use crate::config::{SettingValue, TopicSettings};
use crate::partition::door::Found;
use crate::partition::lane::Job;
use crate::partition::{Claim, Outcome, Partition, Place, Refusal, ticket};
use crate::plugins::{Binding, BoundPlugin, Instance, RegistryError, Verdicts};
use crate::topics::Topic;

/// Batches that one worker takes from a lane before others get their turn.
const BATCHES_PER_TURN: usize = 16;
/// Time after which it takes no further one.
const LANE_TURN: Duration = Duration::from_millis(20);

impl Router {
    /// Sees to it that a worker takes the batches out of the lane of a partition.
    pub fn work_on(&self, lane: &Arc<Partition>) {
        if self.shared.workers.add(lane) {
            self.shared.start_worker(lane.topic_id);
        }
    }
}

impl Shared {
    /// Lets a worker of the topic queue up for a thread.
    fn start_worker(self: &Arc<Self>, topic_id: Uuid) {
        let shared = Arc::clone(self);
        if let Err(error) = self.way.lanes.submit(move || shared.work(topic_id)) {
            tracing::error!("a lane has no worker: {error}");
        }
    }

    /// One turn of a worker of a topic. Then it queues up again, behind the workers of other topics.
    fn work(self: Arc<Self>, topic_id: Uuid) {
        let Some(lane) = self.workers.next(topic_id) else { return };
        let topic = self.topics.get_by_id(&topic_id);
        if self.work_on_lane(topic.as_ref(), &lane) {
            self.workers.put_back(lane);
        }
        if self.workers.goes_on(topic_id) {
            self.start_worker(topic_id);
        }
    }

    /// Takes a few batches of a lane. True: there may be more. They are refused where the topic is gone.
    fn work_on_lane(&self, topic: Option<&Arc<Topic>>, lane: &Arc<Partition>) -> bool {
        let begun = Instant::now();
        for _ in 0..BATCHES_PER_TURN {
            if begun.elapsed() >= LANE_TURN {
                break;
            }
            let Job { batch, header, charge, stub } = match lane.next_in_lane() {
                Found::Next(job) => job,
                Found::Answered => continue,
                Found::Empty => return false,
            };
            let _held_meanwhile = charge;
            let outcome = match topic {
                // A panic must not leave the lane without a worker for ever.
                Some(topic) => catch_unwind(AssertUnwindSafe(|| self.stage(topic, lane, batch, &header)))
                    .unwrap_or_else(|_| Err(Refusal::Storage("the broker failed on it".to_owned()))),
                None => Err(Refusal::UnknownPartition),
            };
            if outcome.is_err() {
                lane.intake().refuse(Claim::of(&header));
            }
            stub.settle(outcome);
        }
        true
    }

    /// The plugin, and the way on, for one batch. No other worker takes batches of this partition meanwhile.
    fn stage(
        &self,
        topic: &Arc<Topic>,
        partition: &Arc<Partition>,
        mut batch: BytesMut,
        header: &BatchHeader,
    ) -> Outcome {
        let claim = Claim::of(header);
        let (staged, plugin) = self.ask_plugins(topic, partition, &mut batch, header)?;
        if staged == Staged::Stays
            && let Some(outcome) = append_if_first(partition, &mut batch, claim)
        {
            return outcome;
        }
        self.check_targets(topic, &staged)?;
        check_entry_bytes(&staged, claim)?;
        let (records, bytes) = match staged {
            Staged::Stays => {
                let bytes = batch.len();
                (ItemRecords::Stays { batch, records: i64::from(header.last_offset_delta) + 1 }, bytes)
            }
            Staged::Moves(split) => {
                let bytes = split.bytes();
                (ItemRecords::Moves(split), bytes)
            }
        };
        self.order.reserve(bytes).map_err(|OrderClosed| Refusal::Stopping)?;
        let mut intake = partition.intake();
        // Checked once more: the batch it follows may have failed since.
        let next = match intake.admit(claim) {
            Ok(next) => next,
            Err(known) => {
                self.order.release(bytes);
                return known;
            }
        };
        let (stub, ticket) = ticket();
        let place = Place::Waiting(ticket);
        if let Some(claim) = claim {
            intake.take(claim, place.clone());
        }
        intake.lane.routed += 1;
        self.order.push(Item {
            topic: Arc::clone(topic),
            addressed: Arc::clone(partition),
            claim,
            follows: next.follows,
            after: next.after,
            plugin,
            records,
            stub,
            bytes,
            mark: None,
        });
        Ok(place)
    }

    /// Asks the plugins of the topic: the serializer what is to be stored, then the partitioner where. `batch` is what is to be
    /// stored afterwards. With the answer comes the digest of the last plugin that was asked.
    fn ask_plugins(
        &self,
        topic: &Topic,
        partition: &Partition,
        batch: &mut BytesMut,
        header: &BatchHeader,
    ) -> Result<(Staged, [u8; 32]), Refusal> {
        let settings = topic.settings();
        let plugins = self.plugins_for(topic, &settings)?;
        if plugins.is_empty() {
            return Ok((Staged::Stays, [0; 32]));
        }
        let mut unpacked = self.way.memory.charge(Use::Work);
        // Bounded by the threads of the lanes.
        let is_packed = header.codec() != Ok(Codec::None);
        unpacked.set(if is_packed { self.options.unpacked_bytes_max } else { batch.len() });
        let asking = Asking {
            address: Address {
                topic_id: topic.id,
                topic: &topic.name,
                partition: partition.index,
                partition_count: topic.partitions.len() as i32,
            },
            rules: Rules {
                batch_bytes_max: usize::try_from(settings.max_message_bytes).unwrap_or(0),
                needs_keys: settings.cleanup_policy.compact,
            },
            unpacked_bytes_max: self.options.unpacked_bytes_max,
        };
        let staged = asking.ask_all(&plugins, batch);
        self.instances.lock().set(self.plugins.host().memory_bytes() as usize);
        let digest = plugins.last().map_or([0; 32], |plugin| *plugin.digest().as_bytes());
        Ok((staged?, digest))
    }

    /// A target that takes no batches refuses this one while its numbers are still free: one whose log directory is
    /// offline, one in another topic that is gone or held.
    fn check_targets(&self, topic: &Arc<Topic>, staged: &Staged) -> Result<(), Refusal> {
        let Staged::Moves(split) = staged else { return Ok(()) };
        for part in &split.parts {
            let target = target(&self.topics, topic, part).ok_or(Refusal::UnknownPartition)?;
            if let Some(reason) = target.log.offline_reason() {
                return Err(Refusal::Storage(reason));
            }
            if part.topic_id != topic.id && target.intake().held.is_some() {
                return Err(Refusal::Storage(format!(
                    "{target:?} takes no batches before the route journal is carried out"
                )));
            }
        }
        Ok(())
    }

    /// The plugins of a topic in the order in which they are asked.
    fn plugins_for(&self, topic: &Topic, settings: &TopicSettings) -> Result<Vec<Arc<BoundPlugin>>, Refusal> {
        let serializer = settings.serializer.as_ref().filter(|_| settings.is_encoded());
        let serializer = serializer.map(|plugin| Binding::serializer(plugin, &settings.serializer_config));
        let partitioner = settings.partitioner.as_ref().filter(|_| settings.is_routed());
        let partitioner = partitioner.map(|plugin| Binding::partitioner(plugin, &settings.partitioner_config));
        serializer.into_iter().chain(partitioner).map(|binding| self.bound(topic, binding)).collect()
    }

    fn bound(&self, topic: &Topic, binding: Binding<'_>) -> Result<Arc<BoundPlugin>, Refusal> {
        self.plugins.bound(topic.id, &topic.name, binding).map_err(|error| {
            tracing::error!(topic = %topic.name, kind = %binding.kind, %error, "the plugin of a topic cannot be run");
            let plugin = SettingValue::show(binding.plugin);
            let reason = match error {
                RegistryError::Load { source, .. } => source.to_string(),
                other => other.to_string(),
            };
            Refusal::PluginUnavailable { plugin, reason }
        })
    }
}

/// Appends a batch that stays, unless earlier ones of its partition still wait. Its sequence is checked once more: the batch
/// it follows may have failed since.
fn append_if_first(partition: &Partition, batch: &mut BytesMut, claim: Option<Claim>) -> Option<Outcome> {
    let mut intake = partition.intake();
    (intake.lane.routed == 0).then(|| intake.append(&partition.log, batch, claim))
}

/// What the plugins of a topic are asked about a batch.
struct Asking<'a> {
    address: Address<'a>,
    rules: Rules,
    unpacked_bytes_max: usize,
}

impl Asking<'_> {
    /// Asks one plugin after the other. A batch that one rewrites is `batch` for the next.
    fn ask_all(&self, plugins: &[Arc<BoundPlugin>], batch: &mut BytesMut) -> Result<Staged, Refusal> {
        let mut staged = Staged::Stays;
        for plugin in plugins {
            let rewritten = {
                let unpacked =
                    Unpacked::of(batch, self.unpacked_bytes_max).map_err(|error| self.refusal(plugin, error))?;
                match plugin.instance() {
                    Instance::Serializer(serializer) => {
                        let encode = || unpacked.encode(serializer, self.address, self.rules);
                        let encoded = self.timed(plugin, encode)?;
                        let rewritten = encoded.rewritten as u64;
                        let accepted = encoded.records as u64 - rewritten;
                        plugin.note_records(Verdicts { accepted, rewritten, refused: 0 });
                        encoded.batch
                    }
                    Instance::Partitioner(partitioner) => {
                        staged = self.timed(plugin, || unpacked.partition(partitioner, self.address))?;
                        plugin.note_records(Verdicts { accepted: unpacked.len() as u64, ..Verdicts::default() });
                        None
                    }
                }
            };
            if let Some(rewritten) = rewritten {
                *batch = BytesMut::from(&*rewritten);
            }
        }
        Ok(staged)
    }

    /// Asks a plugin and counts what came of it. A failure is a refusal of this batch and a line in the log.
    fn timed<T>(&self, plugin: &BoundPlugin, ask: impl FnOnce() -> Result<T, StageError>) -> Result<T, Refusal> {
        let began = Instant::now();
        let answer = ask();
        let took = began.elapsed();
        match &answer {
            Err(StageError::Plugin { source, .. }) => plugin.note(took, Some(source)),
            Err(StageError::Refused { refused, records }) => {
                plugin.note(took, None);
                let refused = refused.len() as u64;
                plugin.note_records(Verdicts { accepted: *records as u64 - refused, rewritten: 0, refused });
            }
            Ok(_) | Err(StageError::RewrittenTooLarge { .. } | StageError::RewrittenWithoutKey { .. }) => {
                plugin.note(took, None);
            }
            // The plugin was not asked.
            Err(_) => {}
        }
        answer.map_err(|error| self.refusal(plugin, error))
    }

    fn refusal(&self, plugin: &BoundPlugin, error: StageError) -> Refusal {
        match error {
            StageError::Corrupt(error) => Refusal::Corrupt(error.to_string()),
            StageError::Transactional => Refusal::TransactionalRoute,
            StageError::UnpackedTooLarge { bytes_max } => Refusal::UnpackedTooLarge { bytes_max },
            StageError::Undecodable(reason) => Refusal::Undecodable(reason),
            StageError::Refused { refused, records } => Refusal::refused(plugin.label(), refused, records),
            StageError::RewrittenTooLarge { bytes, bytes_max } => {
                Refusal::RewrittenTooLarge { plugin: plugin.label(), bytes, bytes_max }
            }
            StageError::RewrittenWithoutKey { record } => Refusal::NoKey { indexes: vec![record] },
            StageError::Plugin { source, records } => {
                let reason = source.to_string();
                plugin.complain(self.address.topic, self.address.partition, &reason);
                refusal(plugin.label(), &source, reason, records)
            }
        }
    }
}

fn refusal(plugin: String, error: &CallError, reason: String, records: i32) -> Refusal {
    match error {
        CallError::OutOfRange { record, .. } => {
            Refusal::Plugin { plugin, reason, index: Some(*record as i32), records }
        }
        CallError::Trap { .. }
        | CallError::Deadline { .. }
        | CallError::Memory { .. }
        | CallError::Refused { .. }
        | CallError::WrongCount { .. }
        | CallError::WrongAnswer { .. }
        | CallError::ConfigRefused { .. }
        | CallError::ConfigTooLarge { .. }
        | CallError::ConfigMisfit { .. }
        | CallError::NoAsset { .. }
        | CallError::AssetsTooLarge { .. } => Refusal::Plugin { plugin, reason, index: None, records },
        // The plugin was not at fault, and neither is the batch: the producer may try again.
        CallError::MemoryTotal { .. }
        | CallError::Busy { .. }
        | CallError::TooManyInstances { .. }
        | CallError::NoPartitions
        | CallError::WrongColumns => Refusal::PluginUnavailable { plugin, reason },
    }
}

/// Bytes of a journal entry besides those of its parts and runs: more than there are.
const ENTRY_HEAD_BYTES: usize = 256;
/// Bytes of an entry for each part and for each run, besides the part itself.
const ENTRY_ITEM_BYTES: usize = 24;

/// A batch that one entry of the journal cannot hold is refused while its numbers are still free.
fn check_entry_bytes(staged: &Staged, claim: Option<Claim>) -> Result<(), Refusal> {
    let Staged::Moves(split) = staged else { return Ok(()) };
    let items = split.parts.len() + split.runs.len();
    let bytes = split.bytes() + items * ENTRY_ITEM_BYTES + ENTRY_HEAD_BYTES;
    if claim.is_some() && bytes > JOURNAL_ENTRY_BYTES_MAX {
        return Err(Refusal::PartsTooLarge { bytes, bytes_max: JOURNAL_ENTRY_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ottla_coordinator::sequence::Span;
    use ottla_stage::{Split, SubBatch};
    use ottla_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

    use super::*;

    #[test]
    fn a_batch_that_no_journal_entry_can_hold_is_refused_as_too_large() {
        let part =
            |partition, length| SubBatch { topic_id: Uuid::nil(), partition, records: 1, bytes: vec![0; length] };
        let half = JOURNAL_ENTRY_BYTES_MAX / 2;
        let moves = |length| Staged::Moves(Split { parts: vec![part(0, half), part(1, length)], runs: Vec::new() });
        let span = Span::new(ProducerEpoch(0), Sequence(0), 2);
        let claim = Some(Claim { producer_id: ProducerId(1), span });
        let refused = check_entry_bytes(&moves(half), claim).unwrap_err();
        assert_eq!(refused.error_code(), ErrorCode::MessageTooLarge);
        assert_eq!(check_entry_bytes(&moves(half - 4096), claim), Ok(()));
        // What is not idempotent has no entry.
        assert_eq!(check_entry_bytes(&moves(half), None), Ok(()));
    }
}
