//! What a consumer, its callers and the task of its membership share: the member's standing, and the news that the
//! application has yet to hear.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{StartFrom, TopicPartition};
use crate::config::{GroupConfig, GroupProtocol};
use crate::core::member::messages::Card;
use crate::core::member::{Answer, Identity, Seen, Wish};
use crate::error::ConsumeError;

/// What happened to the partitions of a member.
#[derive(Clone, Debug)]
pub(super) enum News {
    Assigned(Vec<TopicPartition>),
    /// To be finished with, under this number.
    Revoked(u64, Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
    Failed(ConsumeError),
}

/// Where a partition of a group begins.
#[derive(Clone, Debug)]
pub(super) enum Start {
    /// Where the group is.
    Committed(i64),
    /// By the rule, since the group is nowhere.
    From(StartFrom),
    /// It cannot begin.
    Failed(ConsumeError),
}

/// What the task is told.
pub(super) enum Input {
    Subscribe(Wish),
    Leave(oneshot::Sender<()>),
    /// The application polls again, after it did not for too long.
    Polled,
    Commit,
    Close,
    Answered(u64, Answer),
    LookedUp(Option<Vec<Seen>>),
    /// The application is done with what it gives up under this number.
    Finish(u64),
    /// The same, and its offsets are committed, or cannot be.
    Finished(u64),
    /// Where the partitions assigned under this number begin.
    Starts(u64, Vec<(TopicPartition, Start)>),
}

/// The part of a consumer that belongs to its group.
pub(super) struct Group {
    pub(super) config: GroupConfig,
    pub(super) id: Arc<str>,
    /// Time counts from here, in the consumer too.
    pub(super) started: Instant,
    inbox: mpsc::UnboundedSender<Input>,
    pub(super) standing: Mutex<Standing>,
    news: Mutex<Told>,
    /// Calls of the application that poll at this moment.
    pub(super) polls: AtomicUsize,
    pub(super) last_poll_ms: AtomicU64,
    pub(super) asleep: AtomicBool,
    subscribed: AtomicBool,
    /// Commits go out one after another, so that none overtakes a later one.
    pub(super) commit_turn: tokio::sync::Mutex<()>,
}

/// The member as of its last step.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) identity: Identity,
    pub(super) coordinator: Option<i32>,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) waiting: VecDeque<News>,
    /// What the application was shown last and is busy with until it polls again.
    shown: Option<u64>,
}

/// The other end of a group, for its task.
pub(super) struct Inbox(pub(super) mpsc::UnboundedReceiver<Input>);

/// A poll under way. Time does not count against the application meanwhile.
pub(super) struct Polling<'a>(&'a Group);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.last_poll_ms.store(self.0.now_ms(), Ordering::Release);
        self.0.polls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Group {
    pub(super) fn new(config: GroupConfig) -> (Self, Inbox) {
        let (inbox, requests) = mpsc::unbounded_channel();
        let identity = Identity { member_id: "".into(), generation: -1 };
        let group = Self {
            id: config.id.as_str().into(),
            started: Instant::now(),
            config,
            inbox,
            standing: Mutex::new(Standing { identity, coordinator: None }),
            news: Mutex::default(),
            polls: AtomicUsize::new(0),
            last_poll_ms: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            subscribed: AtomicBool::new(false),
            commit_turn: tokio::sync::Mutex::new(()),
        };
        (group, Inbox(requests))
    }

    pub(super) fn subscribe(&self, wish: Wish) {
        self.subscribed.store(true, Ordering::Release);
        self.tell(Input::Subscribe(wish));
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::Acquire)
    }

    /// Leaves the group; the answer comes when the coordinator knows, or cannot be told.
    pub(super) fn leave(&self) -> oneshot::Receiver<()> {
        self.subscribed.store(false, Ordering::Release);
        let (tell, told) = oneshot::channel();
        self.tell(Input::Leave(tell));
        told
    }

    /// Whether commits of this group carry an epoch of KIP-848.
    pub(super) fn has_epochs(&self) -> bool {
        self.config.protocol == GroupProtocol::Consumer
    }

    /// Ends the task.
    pub(super) fn close(&self) {
        self.tell(Input::Close);
    }

    /// Commits in the background.
    pub(super) fn commit(&self) {
        self.tell(Input::Commit);
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The coordinator has been lost, or has been found.
    pub(super) fn set_coordinator(&self, node: Option<i32>) {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).coordinator = node;
    }

    /// The application polls: what it was given before is done with.
    pub(super) fn begin_poll(&self) -> Polling<'_> {
        self.polls.fetch_add(1, Ordering::AcqRel);
        self.last_poll_ms.store(self.now_ms(), Ordering::Release);
        if self.asleep.swap(false, Ordering::AcqRel) {
            self.tell(Input::Polled);
        }
        Polling(self)
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news().waiting.is_empty()
    }

    /// What the application has to hear before it gets more records.
    pub(super) fn next_news(&self) -> Option<News> {
        let mut news = self.news();
        if let Some(number) = news.shown.take() {
            self.tell(Input::Finish(number));
        }
        let next = news.waiting.pop_front()?;
        if let News::Revoked(number, _) = &next {
            news.shown = Some(*number);
        }
        Some(next)
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(super) fn news(&self) -> MutexGuard<'_, Told> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task ends with the consumer: then no reader of the news is left.
    pub(super) fn tell(&self, input: Input) {
        let _ = self.inbox.send(input);
    }

    pub(super) fn card(&self) -> Card {
        Card {
            group_id: Arc::clone(&self.id),
            instance_id: self.config.instance_id.as_deref().map(Arc::from),
            session_timeout_ms: wire_ms(self.config.session_timeout_ms),
            rebalance_timeout_ms: wire_ms(self.config.poll_interval_ms_max),
            broker_assignor: self.config.broker_assignor.as_deref().map(Arc::from),
        }
    }
}

fn wire_ms(ms: u64) -> i32 {
    i32::try_from(ms).unwrap_or(i32::MAX)
}
