//! Clients that do no harm: each asks one small thing at fixed times, and how long each answer took is kept.
//!
//! A time counts from the moment at which the question was due, so that one long stop is not hidden by the questions that
//! were not asked meanwhile.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use ottla_tests::batch::batch;
use ottla_tests::connection::Connection;
use ottla_wire::ErrorCode;
use ottla_wire::message::{
    ApiVersionsRequest, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, PartitionProduceData,
    ProduceRequest, TopicProduceData,
};

/// The topic of the bystanders, without a plugin.
pub(super) const PLAIN: &str = "plain";
/// Between two questions of one kind.
const EVERY: Duration = Duration::from_millis(10);
/// Between two questions that cost a sync or a search.
const SELDOM: Duration = Duration::from_millis(500);

/// What a bystander asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    ApiVersions,
    Produce,
    Fetch,
    /// A search by time.
    Search,
    CreateTopic,
}

impl Question {
    pub(super) const ALL: [Question; 5] =
        [Self::ApiVersions, Self::Produce, Self::Fetch, Self::Search, Self::CreateTopic];

    /// Those whose answers need neither a sync nor a search.
    pub(super) fn is_quick(self) -> bool {
        matches!(self, Self::ApiVersions | Self::Produce | Self::Fetch)
    }

    fn ask(self, socket: &mut Connection, number: usize) -> io::Result<ErrorCode> {
        match self {
            Self::ApiVersions => socket.try_call(2, &ApiVersionsRequest::default(), |response| response.error_code),
            Self::Produce => {
                let records = batch(&[(b"k", b"bystander")], None);
                let data = PartitionProduceData { index: 0, records: Some(&records) };
                let data =
                    TopicProduceData { name: PLAIN.into(), partition_data: vec![data], ..TopicProduceData::default() };
                let request =
                    ProduceRequest { acks: 1, timeout_ms: 30_000, topic_data: vec![data], ..ProduceRequest::default() };
                socket.try_call(8, &request, |response| response.responses[0].partition_responses[0].error_code)
            }
            Self::Fetch => socket.fetch(PLAIN, 0, 0, 0).map(|fetched| fetched.code),
            Self::Search => {
                let partition = ListOffsetsPartition { timestamp: 1, ..ListOffsetsPartition::default() };
                let topic = ListOffsetsTopic { name: PLAIN.into(), partitions: vec![partition] };
                let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
                socket.try_call(7, &request, |response| response.topics[0].partitions[0].error_code)
            }
            Self::CreateTopic => {
                Ok(socket.create_topic(&format!("bystander-{}-{number}", thread_number()), 1, &[])?.code)
            }
        }
    }
}

/// Tells topics apart that several bystanders create in one broker.
fn thread_number() -> String {
    format!("{:?}", thread::current().id()).chars().filter(char::is_ascii_digit).collect()
}

/// What one bystander saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) question: Question,
    /// How long the answers took, shortest first.
    pub(super) took: Vec<Duration>,
    /// What went wrong first.
    pub(super) wrong: Option<String>,
}

impl Seen {
    /// The time that so many of a hundred answers did not exceed.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let at = (self.took.len() * percent).div_ceil(100).max(1) - 1;
        self.took.get(at).copied().unwrap_or_default()
    }
}

/// Asks until `stop`.
pub(super) fn watch<'scope>(
    scope: &'scope Scope<'scope, '_>,
    question: Question,
    address: SocketAddr,
    stop: &'scope AtomicBool,
) -> ScopedJoinHandle<'scope, Seen> {
    scope.spawn(move || {
        let mut seen = Seen { question, took: Vec::new(), wrong: None };
        if let Err(error) = watch_until(question, address, stop, &mut seen) {
            seen.wrong = Some(error.to_string());
        }
        seen.took.sort_unstable();
        seen
    })
}

fn watch_until(question: Question, address: SocketAddr, stop: &AtomicBool, seen: &mut Seen) -> io::Result<()> {
    let mut socket = Connection::open(address)?;
    let every = if question.is_quick() { EVERY } else { SELDOM };
    let begun = Instant::now();
    for number in 0.. {
        let due = begun + every * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let code = question.ask(&mut socket, number as usize)?;
        seen.took.push(due.elapsed());
        if code != ErrorCode::None && seen.wrong.is_none() {
            seen.wrong = Some(format!("answered {code:?}"));
        }
    }
    Ok(())
}
