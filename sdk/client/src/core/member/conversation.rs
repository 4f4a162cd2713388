//! Golden conversations: what a member asks and does, told as text.
//!
//! `memberships/*.txt` hold commands and, indented, all that came of them; `REWRITE_CONVERSATIONS=1` writes what happens. The
//! commands:
//!
//! ```text
//! with WORDS                    before all else: consumer, instance NAME, or assignors
//! at MS                         time passes; the application polls
//! sleeps until MS               time passes; it does not
//! subscribe TOPIC …             or `subscribe matching EXPRESSION`
//! sees TOPIC=COUNT …            the topics of the cluster; ids are their places in it, from 1
//! found NODE                    the coordinator
//! joined GENERATION ID NAME     as a follower, NAME is the assignor chosen …
//! leads GENERATION ID NAME MEMBER:TOPIC,TOPIC …   … or as the leader
//! synced PARTITION …            the share
//! ok                            to a heartbeat, or a farewell
//! beat EPOCH INTERVAL [PLACE …]  KIP-848: no word of an assignment, or places ID-PARTITION; `none` is an empty one
//! refused CODE [ID]
//! lost                          no answer
//! finished                      the application has finished with what it gives up
//! leave
//! ```

use std::fmt::Write as _;
use std::sync::Arc;

use ottla_wire::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use ottla_wire::{ErrorCode, Uuid};

use super::{Answer, Beat, Call, Effect, Member, Pattern, Protocol, Seen, Settings, Wish};
use crate::core::assignor::{Assignor, Subscription, partitions_of};
use crate::core::backoff::Backoff;
use crate::core::topic_partition::TopicPartition;

struct Conversation {
    member: Member,
    now_ms: u64,
    last_poll_ms: u64,
    call: u64,
    giving_up: u64,
    told: String,
}

fn settings() -> Settings {
    Settings {
        protocol: Protocol::Classic,
        assignors: vec![Assignor::CooperativeSticky],
        instance_id: None,
        heartbeat_interval_ms: 1_000,
        poll_interval_ms_max: 60_000,
        metadata_age_ms_max: 300_000,
        retry: Backoff::new(4, 4),
    }
}

fn place(text: &str) -> TopicPartition {
    let (topic, partition) = text.rsplit_once('-').unwrap();
    TopicPartition::new(topic, partition.parse().unwrap())
}

fn code(name: &str) -> ErrorCode {
    (0..200).map(ErrorCode::from_code).find(|code| code.name() == name).unwrap_or_else(|| panic!("no code {name}"))
}

fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}

impl Conversation {
    fn new(settings: Settings) -> Self {
        let member = Member::new(settings, "own-id".into());
        Self { member, now_ms: 0, last_poll_ms: 0, call: 0, giving_up: 0, told: String::new() }
    }

    fn run(&mut self, command: &str) {
        let now_ms = self.now_ms;
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["at", ms] => {
                self.now_ms = ms.parse().unwrap();
                self.last_poll_ms = self.now_ms;
            }
            ["sleeps", "until", ms] => self.now_ms = ms.parse().unwrap(),
            ["subscribe", "matching", expression] => {
                self.member.subscribe(Wish::Pattern(Pattern::new(expression).unwrap()), now_ms);
            }
            ["subscribe", topics @ ..] => {
                self.member.subscribe(Wish::Topics(topics.iter().map(|topic| Arc::from(*topic)).collect()), now_ms);
            }
            ["sees", topics @ ..] => {
                let seen = topics.iter().enumerate().map(|(at, topic)| {
                    let (name, count) = topic.split_once('=').unwrap();
                    let id = Uuid::from_u128(at as u128 + 1);
                    Seen { name: name.into(), id, partitions: count.parse().unwrap(), internal: name.starts_with("__") }
                });
                self.member.looked_up(Some(&seen.collect::<Vec<_>>()), now_ms);
            }
            ["found", node] => self.answer(Answer::Coordinator(node.parse().unwrap())),
            ["joined", generation, id, protocol] => self.joined(generation, id, protocol, None),
            ["leads", generation, id, protocol, members @ ..] => {
                let member = |text: &&str| {
                    let (id, topics) = text.split_once(':').unwrap();
                    let topics = topics.split(',').map(Arc::from).collect();
                    Subscription { member_id: id.into(), topics, ..Subscription::default() }
                };
                self.joined(generation, id, protocol, Some(members.iter().map(member).collect()));
            }
            ["synced", places @ ..] => self.answer(Answer::Synced(places.iter().map(|text| place(text)).collect())),
            ["ok"] => self.answer(Answer::Done),
            ["beat", epoch, interval_ms, places @ ..] => {
                let by_id = |text: &&str| {
                    let (id, partition) = text.split_once('-').unwrap();
                    (Uuid::from_u128(id.parse().unwrap()), partition.parse().unwrap())
                };
                let assignment = match places {
                    [] => None,
                    ["none"] => Some(Vec::new()),
                    places => Some(places.iter().map(by_id).collect()),
                };
                let (epoch, interval_ms) = (epoch.parse().unwrap(), interval_ms.parse().unwrap());
                self.answer(Answer::Beat { member_id: None, epoch, interval_ms, assignment });
            }
            ["refused", name, id @ ..] => {
                let member_id = id.first().map(|id| Arc::from(*id));
                self.answer(Answer::Refused { code: code(name), message: None, member_id });
            }
            ["lost"] => self.answer(Answer::Lost),
            ["finished"] => self.member.finished(self.giving_up, now_ms),
            ["leave"] => self.member.leave(now_ms),
            _ => panic!("no such command: {command}"),
        }
        self.member.observe(false, self.last_poll_ms, self.now_ms);
        for effect in self.member.take_effects() {
            let line = self.describe(effect);
            let _ = writeln!(self.told, "    {line}");
        }
    }

    fn joined(&mut self, generation: &str, id: &str, protocol: &str, leads: Option<Vec<Subscription>>) {
        let generation = generation.parse().unwrap();
        let (member_id, protocol) = (id.into(), protocol.into());
        self.answer(Answer::Joined { generation, member_id, protocol, leads, skips: false });
    }

    fn answer(&mut self, answer: Answer) {
        self.member.answered(self.call, answer, self.now_ms);
    }

    fn describe(&mut self, effect: Effect) -> String {
        match effect {
            Effect::Call(number, call) => {
                self.call = number;
                describe_call(call)
            }
            Effect::LookUp(None) => "looks up all topics".to_owned(),
            Effect::LookUp(Some(topics)) => format!("looks up {}", list(topics)),
            Effect::GiveUp(number, partitions) => {
                self.giving_up = number;
                format!("GIVES UP {}", list(partitions))
            }
            Effect::Lose(partitions) => format!("LOSES {}", list(partitions)),
            Effect::Assign(partitions) => format!("GETS {}", list(partitions)),
            Effect::TellLate => "tells that the application polls too late".to_owned(),
            Effect::Refuse(code, _) => format!("tells that it is refused: {}", code.name()),
            Effect::Left => "has left".to_owned(),
        }
    }
}

fn describe_call(call: Call) -> String {
    match call {
        Call::FindCoordinator => "FindCoordinator".to_owned(),
        Call::Join { member_id, protocols, reason } => {
            let protocol = |(assignor, metadata): &(Assignor, Vec<u8>)| {
                let (_, told) = ConsumerProtocolSubscription::parse(metadata).unwrap();
                let owned = list(partitions_of(&told.owned_partitions));
                format!("{} of {}, owns {owned} since {}", assignor.name(), list(told.topics), told.generation_id)
            };
            let protocols: Vec<_> = protocols.iter().map(protocol).collect();
            format!("JoinGroup as {member_id:?} since {reason}: {}", protocols.join("; "))
        }
        Call::Sync { generation, member_id, protocol, shares } => {
            let share = |(member_id, bytes): &(Arc<str>, Vec<u8>)| {
                let (_, share) = ConsumerProtocolAssignment::parse(bytes).unwrap();
                format!(", {} for {member_id}", list(partitions_of(&share.assigned_partitions)))
            };
            let shares: String = shares.iter().map(share).collect();
            format!("SyncGroup {generation} as {member_id:?} by {protocol}{shares}")
        }
        Call::Heartbeat { generation, member_id } => format!("Heartbeat {generation} as {member_id:?}"),
        Call::Leave { member_id, reason } => format!("LeaveGroup as {member_id:?} since {reason}"),
        Call::Beat(Beat { member_id, epoch, topics, owned, .. }) => {
            let topics = topics.map(|topics| format!(", reads {}", list(topics))).unwrap_or_default();
            let place = |(id, partition): (Uuid, i32)| format!("{}-{partition}", id.as_u128());
            let owned = owned.map(|owned| format!(", owns {}", list(owned.into_iter().map(place)))).unwrap_or_default();
            format!("ConsumerGroupHeartbeat {epoch} as {member_id:?}{topics}{owned}")
        }
    }
}

fn transcript(text: &str) -> String {
    let mut settings = settings();
    let mut conversation: Option<Conversation> = None;
    let mut written = String::new();
    for line in text.lines().filter(|line| !line.starts_with("    ")) {
        written.push_str(line);
        written.push('\n');
        if let Some(words) = line.strip_prefix("with ") {
            match words.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["consumer"] => settings.protocol = Protocol::Consumer,
                ["instance", name] => settings.instance_id = Some(Arc::from(*name)),
                names => settings.assignors = names.iter().map(|name| Assignor::of_name(name).unwrap()).collect(),
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            let conversation = conversation.get_or_insert_with(|| Conversation::new(settings.clone()));
            conversation.run(line);
            written.push_str(&std::mem::take(&mut conversation.told));
        }
    }
    written
}

#[test]
fn memberships_go_as_written() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("memberships");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 6, "the memberships are gone");
    for path in files {
        let expected = std::fs::read_to_string(&path).unwrap();
        let happened = transcript(&expected);
        if std::env::var_os("REWRITE_CONVERSATIONS").is_some() {
            std::fs::write(&path, happened).unwrap();
        } else {
            assert_eq!(happened, expected, "{}", path.display());
        }
    }
}
