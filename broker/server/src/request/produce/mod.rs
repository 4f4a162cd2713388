//! Produce, versions 3-13 (advertised from 0; 0-2 close the connection).
//!
//! Behaviour: one record batch per partition, checked and appended in the order of arrival; on a topic with a
//! partitioner plugin its records go where the plugin says. acks=1 is answered after the append, acks=all once the
//! records survive what the topic's durability promises, acks=0 never: a failure then ends the connection. Topics come by
//! name, from v13 on by id.
//! Where records left the partition that the client chose, it gets no offset that could be mistaken for one: see
//! [`base_offset_of_moved`](answer).
//! Not supported: transactions (INVALID_TXN_STATE), recompression (batches stay as they were sent).
//!
//! 1. [`accept`]: reads a request and checks its batches; all of a turn then go through the [door](crate::partition::door)
//! 2. [`settle`]: waits for what the client wants to be true
//! 3. [`answer`]: says where the records are

mod accept;
mod answer;
mod settle;

use std::ops::Range;
use std::sync::Arc;

use ottla_front::Taken;
use ottla_wire::Uuid;
use tokio::time::Instant;

use super::{CloseReason, Frame, Peer, Reply, RequestHead};
use crate::broker::Broker;
use crate::partition::door::{Submission, submit_all};
use crate::partition::{Outcome, Refusal};
use crate::topics::Topic;
use accept::{Surveyed, survey};

/// Produce requests that arrived together on one connection. Each is checked as it is added and answered by itself; what
/// they have for the same partition goes to the log together.
#[derive(Default)]
pub struct Joined {
    requests: Vec<JoinedRequest>,
    batches: Vec<Submission>,
}

struct JoinedRequest {
    head: RequestHead,
    request: Taken,
    accepted: Accepted,
}

/// What became of a request when it was read.
enum Accepted {
    /// Its batches are checked.
    Checked(Produced),
    /// Its batches have to be unpacked, which is not done on the thread of a connection.
    Unpacks(Box<Surveyed>),
    /// The connection ends with it.
    Ends(CloseReason),
}

impl Joined {
    /// Reads and checks a request. False when it is the last one that is joined.
    pub(super) fn add(&mut self, broker: &Broker, head: RequestHead, request: Taken, frame: Frame) -> bool {
        let accepted = match survey(broker, head, frame) {
            Ok(surveyed) if surveyed.unpacks(broker, head) => Accepted::Unpacks(Box::new(surveyed)),
            Ok(surveyed) => Accepted::Checked(surveyed.check(broker, head, &mut self.batches)),
            Err(reason) => Accepted::Ends(reason),
        };
        let goes_on = matches!(accepted, Accepted::Checked(_));
        self.requests.push(JoinedRequest { head, request, accepted });
        goes_on
    }

    /// Sends the batches on their way. The reply to each request comes back in turn, with the request.
    pub(super) fn send(self, broker: &Arc<Broker>, peer: &Arc<Peer>) -> impl Iterator<Item = (Reply, Taken)> {
        let submitted = submit_all(self.batches, &broker.memory, |lane| broker.router.work_on(lane));
        let mut outcomes = submitted.into_iter();
        self.requests.into_iter().map(move |JoinedRequest { head, request, accepted }| {
            let reply = match accepted {
                Accepted::Checked(mut produced) => {
                    produced.take_outcomes(&mut outcomes);
                    produced.reply(broker, peer, head)
                }
                Accepted::Unpacks(surveyed) => surveyed.reply(broker, peer, head),
                Accepted::Ends(reason) => reason.into(),
            };
            (reply, request)
        })
    }
}

/// When the client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acks {
    Never,
    Appended,
    Durable,
}

/// A request whose batches are on their way.
struct Produced {
    acks: Acks,
    deadline: Instant,
    topics: Vec<ProducedTopic>,
}

struct ProducedTopic {
    name: String,
    id: Uuid,
    /// As it was found when the request came.
    topic: Option<Arc<Topic>>,
    partitions: Vec<ProducedPartition>,
}

struct ProducedPartition {
    index: i32,
    /// Where its batch was in the frame.
    records: Option<Range<usize>>,
    record_count: i32,
    append_time_ms: i64,
    /// Its batch was checked, and the door says what becomes of it.
    is_submitted: bool,
    outcome: Outcome,
}

impl Produced {
    /// Takes what became of its batches off the front.
    fn take_outcomes(&mut self, outcomes: &mut impl Iterator<Item = Outcome>) {
        let partitions = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for produced in partitions.filter(|produced| produced.is_submitted) {
            produced.outcome = outcomes.next().unwrap_or(Err(Refusal::Stopping));
        }
    }
}

impl ProducedPartition {
    fn refusal(&self) -> Option<&Refusal> {
        self.outcome.as_ref().err()
    }
}
