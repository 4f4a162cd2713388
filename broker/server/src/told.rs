//! Log lines about what can happen a thousand times in a moment: topics that come and go. The first ones of a period have
//! a line each; the others are counted and told in one line at its end.

use std::sync::Arc;
use std::time::Duration;

use ottla_front::Peer;
use parking_lot::Mutex;
use tokio::runtime::Handle;

/// Lines of one kind that a period has, before the others are counted.
const LINES_MAX: usize = 10;
/// How long a period lasts from its first line on.
const PERIOD: Duration = Duration::from_secs(10);

/// What happens to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicEvent {
    /// A client created it.
    Created,
    /// A client named it, and the broker created it.
    CreatedOnUse,
    /// A client deleted it.
    Deleted,
}

impl TopicEvent {
    fn words(self) -> &'static str {
        match self {
            Self::Created => "topic created",
            Self::CreatedOnUse => "topic created on first use",
            Self::Deleted => "topic deleted",
        }
    }
}

/// What was told of topics lately.
#[derive(Debug)]
pub struct Told {
    bursts: [Arc<Mutex<Burst>>; 3],
    /// Where the ends of periods are waited for. The threads that call have no runtime of their own.
    runtime: Option<Handle>,
}

/// The events of one kind in a period.
#[derive(Debug, Default)]
struct Burst {
    lines: usize,
    more: usize,
    /// The last topic that had no line.
    last: String,
}

impl Told {
    /// For a broker that is opened in a tokio runtime; without one each topic has a line.
    pub fn in_current_runtime() -> Self {
        Self { bursts: Default::default(), runtime: Handle::try_current().ok() }
    }

    /// Tells of a topic, at once or, where there are many, with others.
    pub fn topic(&self, event: TopicEvent, topic: &str, partitions: i32, client: &Peer) {
        let burst = &self.bursts[event as usize];
        {
            let mut burst = burst.lock();
            if burst.lines >= LINES_MAX {
                burst.more += 1;
                topic.clone_into(&mut burst.last);
                return;
            }
            burst.lines += 1;
            if burst.lines > 1 {
                drop(burst);
                tracing::info!(topic, partitions, client = %client, "{}", event.words());
                return;
            }
        }
        tracing::info!(topic, partitions, client = %client, "{}", event.words());
        match &self.runtime {
            Some(runtime) => {
                let burst = Arc::clone(burst);
                runtime.spawn(async move {
                    tokio::time::sleep(PERIOD).await;
                    end(event, &burst);
                });
            }
            // Where nothing ends a period there is none.
            None => end(event, burst),
        }
    }

    /// Tells of everything that was not told yet: the broker stops.
    pub fn tell_rest(&self) {
        for event in [TopicEvent::Created, TopicEvent::CreatedOnUse, TopicEvent::Deleted] {
            end(event, &self.bursts[event as usize]);
        }
    }
}

fn end(event: TopicEvent, burst: &Mutex<Burst>) {
    let Burst { more, last, .. } = std::mem::take(&mut *burst.lock());
    if more > 0 {
        tracing::info!(more, last, "{}, more of them", event.words());
    }
}
