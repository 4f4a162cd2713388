//! ListOffsets for consumer and admin: each partition's question goes to its leader, all leaders are asked at once, and one
//! that does not answer costs its own partitions only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, TIMESTAMP_EARLIEST,
    TIMESTAMP_LATEST,
};

use super::cluster::MAIN_CHANNEL;
use super::{Answer, Cluster};
use crate::config::Isolation;
use crate::core::cursor::StartFrom;
use crate::error::ConnectionError;

/// A question about one partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OffsetQuestion {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) timestamp: i64,
}

/// The answer to it.
#[derive(Clone, Debug)]
pub(crate) enum OffsetAnswer {
    /// The offset; none when no record is that young.
    Found(Option<i64>),
    /// The broker refuses.
    Refused(ErrorCode),
    /// The leader does not answer.
    Unanswered(ConnectionError),
}

/// Answers by topic and partition.
pub(crate) type OffsetAnswers = HashMap<(Arc<str>, i32), OffsetAnswer>;

/// What stands for a start in the protocol. An offset stands for itself and is never asked for.
pub(crate) fn timestamp_of(start: StartFrom) -> i64 {
    match start {
        StartFrom::Earliest => TIMESTAMP_EARLIEST,
        StartFrom::Latest | StartFrom::Offset(_) => TIMESTAMP_LATEST,
        StartFrom::Timestamp(ms) => ms.max(0),
    }
}

impl Cluster {
    /// Asks the leaders; every question gets an answer.
    pub(crate) async fn list_offsets(
        self: &Arc<Self>,
        questions: Vec<OffsetQuestion>,
        isolation: Isolation,
    ) -> OffsetAnswers {
        let metadata = self.metadata();
        let mut answers = HashMap::new();
        let mut by_leader: BTreeMap<i32, Vec<OffsetQuestion>> = BTreeMap::new();
        for question in questions {
            if let Some(leader) = metadata.leader(&question.topic, question.partition) {
                by_leader.entry(leader).or_default().push(question);
            } else {
                let unanswered = OffsetAnswer::Refused(ErrorCode::LeaderNotAvailable);
                answers.insert((question.topic, question.partition), unanswered);
            }
        }
        let mut calls = tokio::task::JoinSet::new();
        for (leader, questions) in by_leader {
            let cluster = Arc::clone(self);
            calls
                .spawn_on(async move { cluster.offsets_of_leader(leader, questions, isolation).await }, self.runtime());
        }
        while let Some(call) = calls.join_next().await {
            // A task of ours neither panics nor is it cancelled while we wait for it.
            answers.extend(call.into_iter().flatten());
        }
        answers
    }

    /// Asks one broker. Partitions that it leaves out get `LeaderNotAvailable`.
    pub(crate) async fn offsets_of_leader(
        &self,
        leader: i32,
        questions: Vec<OffsetQuestion>,
        isolation: Isolation,
    ) -> OffsetAnswers {
        let places: Vec<_> = questions.iter().map(|asked| (Arc::clone(&asked.topic), asked.partition)).collect();
        let all = |answer: &OffsetAnswer| places.iter().cloned().map(|place| (place, answer.clone())).collect();
        let mut answers = all(&OffsetAnswer::Refused(ErrorCode::LeaderNotAvailable));
        let read = match self.ask_leader(leader, questions, isolation).await {
            Ok(answer) => read(&answer, &mut answers),
            Err(error) => Err(error),
        };
        read.map_or_else(|error| all(&OffsetAnswer::Unanswered(error)), |()| answers)
    }

    async fn ask_leader(
        &self,
        leader: i32,
        mut questions: Vec<OffsetQuestion>,
        isolation: Isolation,
    ) -> Result<Answer, ConnectionError> {
        questions.sort();
        let topics = questions.chunk_by(|a, b| a.topic == b.topic).map(|questions| ListOffsetsTopic {
            name: questions.first().map(|question| (&*question.topic).into()).unwrap_or_default(),
            partitions: questions
                .iter()
                .map(|question| ListOffsetsPartition {
                    partition_index: question.partition,
                    timestamp: question.timestamp,
                    ..ListOffsetsPartition::default()
                })
                .collect(),
        });
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: isolation.code(),
            timeout_ms: i32::try_from(self.config().request_timeout_ms).unwrap_or(i32::MAX),
            topics: topics.collect(),
        };
        let connection = self.broker(leader, MAIN_CHANNEL).await?;
        connection.ask(&request, i16::MAX, self.request_timeout()).await
    }
}

/// Only what was asked for is taken in.
fn read(answer: &Answer, answers: &mut OffsetAnswers) -> Result<(), ConnectionError> {
    let response: ListOffsetsResponse<'_> = answer.decode()?;
    for topic in &response.topics {
        for partition in &topic.partitions {
            let Some(place) = answers.get_mut(&(Arc::from(&*topic.name), partition.partition_index)) else { continue };
            *place = match partition.error_code {
                ErrorCode::None => OffsetAnswer::Found(Some(partition.offset).filter(|offset| *offset >= 0)),
                code => OffsetAnswer::Refused(code),
            };
        }
    }
    Ok(())
}
