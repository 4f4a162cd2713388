//! Metadata put together again from what the partitions on the disk know: `partition.meta` has the id of the topic, its
//! durability and its segment sizes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use ottla_log::PartitionOptions;
use ottla_log::inspect::PartitionFiles;
use uuid::Uuid;

use super::{Contents, TopicRecord};
use crate::config::SettingValue;
use crate::config::topic::SEGMENT_BYTES_MIN;

/// What was put together, and how.
#[derive(Debug)]
pub struct Rescue {
    /// The result.
    pub contents: Contents,
    /// What is different from what the copies had.
    pub notes: Vec<Note>,
}

/// Something that the operator should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A topic that no copy knew.
    Found(TopicRecord),
    /// A topic whose partitions belong to a later topic of the same name.
    OtherId {
        /// Its name.
        topic: String,
        /// The id in the copies.
        was: Uuid,
        /// The id of the partitions.
        is: Uuid,
    },
    /// Partitions that differ in the topic they belong to; the others have to be moved away.
    Mixed {
        /// Its name.
        topic: String,
        /// Partitions that belong to another topic.
        others: Vec<i32>,
    },
    /// A topic with more partitions than the copies knew.
    More {
        /// Its name.
        topic: String,
        /// How many there are.
        partitions: i32,
    },
    /// A topic without any partition: it may have been deleted, or its log directory is missing.
    Empty(String),
    /// Producer ids begin here now: which ones were handed out is not known.
    ProducerIds(i64),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(topic) => {
                let settings: Vec<_> = topic.configs.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let (name, count, id) = (&topic.name, topic.partition_count, topic.id);
                write!(
                    f,
                    "topic {name}: found by its {count} partitions, id {id}, {}; its other settings are the defaults",
                    settings.join(" ")
                )
            }
            Self::OtherId { topic, was, is } => {
                write!(f, "topic {topic}: its partitions belong to the topic with id {is}, not {was}")
            }
            Self::Mixed { topic, others } => {
                write!(
                    f,
                    "topic {topic}: partitions {others:?} belong to another topic: move them out of the log directory"
                )
            }
            Self::More { topic, partitions } => write!(f, "topic {topic}: it has {partitions} partitions"),
            Self::Empty(topic) => {
                write!(
                    f,
                    "topic {topic}: no partition of it is there; it begins empty, or was deleted: delete it again"
                )
            }
            Self::ProducerIds(mark) => write!(f, "producer ids: new ones begin at {mark}, which no producer has"),
        }
    }
}

/// Completes `known` by what the partitions say. Where something was lost, producer ids begin at `now_ms`: a broker that
/// hands out less than one per millisecond has handed out none above it.
pub fn rescue(known: Contents, partitions: &[PartitionFiles], is_lossy: bool, now_ms: i64) -> Rescue {
    let mut contents = known;
    let mut notes = Vec::new();
    let mut by_topic: BTreeMap<&str, Vec<&PartitionFiles>> = BTreeMap::new();
    for files in partitions {
        by_topic.entry(&files.name.topic).or_default().push(files);
    }
    for (name, files) in &by_topic {
        let count = files.iter().map(|files| files.name.index + 1).max().unwrap_or(0);
        let Some((id, options)) = identity(files) else { continue };
        let others = files.iter().filter(|files| files.identity.as_ref().is_some_and(|it| it.topic_id != id));
        let others: Vec<i32> = others.map(|files| files.name.index).collect();
        if !others.is_empty() {
            notes.push(Note::Mixed { topic: (*name).to_owned(), others });
        }
        match contents.topics.get_mut(*name) {
            // A start finishes that.
            Some(topic) if topic.deleting => {}
            Some(topic) => {
                if topic.id != id {
                    notes.push(Note::OtherId { topic: (*name).to_owned(), was: topic.id, is: id });
                    topic.id = id;
                }
                if topic.partition_count < count {
                    notes.push(Note::More { topic: (*name).to_owned(), partitions: count });
                    topic.partition_count = count;
                }
            }
            None => {
                let configs = settings(options);
                let topic =
                    TopicRecord { name: (*name).to_owned(), id, partition_count: count, configs, deleting: false };
                notes.push(Note::Found(topic.clone()));
                contents.topics.insert(topic.name.clone(), topic);
            }
        }
    }
    let is_empty = |topic: &&TopicRecord| !topic.deleting && !by_topic.contains_key(topic.name.as_str());
    notes.extend(contents.topics.values().filter(is_empty).map(|topic| Note::Empty(topic.name.clone())));
    if is_lossy && contents.producer_id_mark < now_ms {
        contents.producer_id_mark = now_ms;
        notes.push(Note::ProducerIds(now_ms));
    }
    Rescue { contents, notes }
}

/// The topic that most of the partitions belong to, and how one of them is configured.
fn identity(files: &[&PartitionFiles]) -> Option<(Uuid, PartitionOptions)> {
    let mut votes: HashMap<Uuid, (usize, PartitionOptions)> = HashMap::new();
    // A partition.meta that was made again by a start knows no topic.
    for identity in files.iter().filter_map(|files| files.identity.as_ref()).filter(|it| !it.topic_id.is_nil()) {
        votes.entry(identity.topic_id).or_insert((0, identity.options)).0 += 1;
    }
    let (id, (_, options)) = votes.into_iter().max_by_key(|(id, (votes, _))| (*votes, *id))?;
    Some((id, options))
}

fn settings(options: PartitionOptions) -> BTreeMap<String, String> {
    let is_small = options.segment_bytes < SEGMENT_BYTES_MIN as u64;
    let segment = if is_small { "internal.segment.bytes" } else { "segment.bytes" };
    BTreeMap::from([
        ("ottla.durability".to_owned(), options.durability.show()),
        (segment.to_owned(), options.segment_bytes.to_string()),
        ("index.interval.bytes".to_owned(), options.index_interval_bytes.to_string()),
    ])
}
