//! Runs a conversation. Lines that begin with `>` are what comes out; the others go in. `##` begins a page that explains.
//!
//! ```text
//! settings max=2 delay=0s          the settings that differ
//! topics packages:3 returns:1      the topics there are
//! a joins orders topics=packages   JoinGroup of the client `a`: its member id is the one it was given last
//! a syncs orders a=packages:0,1    SyncGroup, with an assignment if it leads
//! a beats orders                   Heartbeat
//! a enters orders topics=packages  ConsumerGroupHeartbeat with everything in it; regex=, assignor=, owns=
//! a polls orders owns=packages:0   ConsumerGroupHeartbeat with what changed; a quits orders: epoch -1, or epoch=-2
//! a leaves orders                  LeaveGroup; `admin removes orders a b` takes several
//! a commits orders packages/0=42   OffsetCommit; outside=yes: generation -1 and no member
//! +3s                              time passes
//! disk waits / disk goes / disk fails
//! restart                          what was not durable is lost
//! ```
//!
//! Words with `=` change a request: `gen=4`, `id=ghost`, `as=instance`, `v=3`.

mod asks;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ottla_coordinator::group::{GroupConfig, Input, MigrationPolicy, Reply, Request};
use ottla_wire::message::*;

use crate::print;
use crate::stage::{Disk, Seen, Stage};

/// What a client knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) member_id: String,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<String>,
}

pub(crate) struct Script {
    stage: Stage,
    known: BTreeMap<String, Known>,
    out: String,
}

/// A line, split into words and settings.
struct Words<'a> {
    plain: Vec<&'a str>,
    set: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let (mut plain, mut set) = (Vec::new(), BTreeMap::new());
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => drop(set.insert(key, value)),
                None => plain.push(word),
            }
        }
        Self { plain, set }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.set.get(key).copied()
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.get(key).map(|value| value.parse().unwrap())
    }

    /// `as=i` is an instance id.
    fn instance(&self) -> Option<&'a str> {
        self.get("as")
    }

    fn ms(&self, key: &str) -> Option<i32> {
        self.get(key).map(|value| milliseconds(value) as i32)
    }

    /// Settings that are not about the request itself.
    fn rest(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        const OWN: &[&str] =
            &["as", "gen", "id", "v", "session", "rebalance", "type", "protocols", "topics", "because", "name"];
        self.set.iter().filter(|(key, _)| !OWN.contains(key)).map(|(key, value)| (*key, *value))
    }
}

pub(crate) fn milliseconds(text: &str) -> i64 {
    let (digits, unit) = text.split_at(text.find(|c: char| c.is_alphabetic()).expect("3s, 5m, 2h or 1d"));
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => panic!("{text}"),
    };
    digits.parse::<i64>().unwrap() * factor
}

impl Script {
    /// Runs a conversation and writes it down, with what comes out today.
    pub(crate) fn replay(conversation: &str) -> String {
        if conversation.starts_with("##") {
            return conversation.to_owned();
        }
        let mut script = Self { stage: Stage::new(GroupConfig::default()), known: BTreeMap::new(), out: String::new() };
        for line in conversation.lines().filter(|line| !line.starts_with('>')) {
            script.out.push_str(line);
            script.out.push('\n');
            if !line.starts_with('#') {
                script.line(line);
            }
        }
        script.out.trim_end().to_owned()
    }

    fn say(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.out, "> {}", print::short(&text.to_string()));
    }

    fn line(&mut self, line: &str) {
        let words = Words::of(line);
        match words.plain[..] {
            ["settings"] => {
                let config = settings(&words);
                self.stage = Stage::new(config);
            }
            // As `settings`, for the next start of a broker that keeps its log.
            ["settings-kept"] => self.stage.set_config(settings(&words)),
            ["topics", ref topics @ ..] => {
                let topics = topics.iter().map(|topic| {
                    let (name, partitions) = topic.split_once(':').unwrap();
                    (name.to_owned(), partitions.parse().unwrap())
                });
                self.stage.set_topics(topics.collect::<Vec<_>>());
            }
            ["disk", "waits"] => self.stage.disk = Disk::Waits,
            ["disk", "goes"] => self.stage.let_writes_go(),
            ["disk", "fails"] => {
                self.stage.writes.clear();
                self.stage.step(Input::Failed);
            }
            ["restart"] => self.stage.restart(),
            ["restart", "loading"] => self.stage.restart_and_wait(),
            ["loaded"] => self.stage.load(),
            ["waiting"] => {
                let waiting = self.stage.waiting().join(" ");
                self.say(if waiting.is_empty() { "nothing waits".to_owned() } else { format!("waiting: {waiting}") });
            }
            [time] if time.starts_with('+') => return self.pass(milliseconds(&time[1..])),
            [who, "joins", group] => self.join(who, group, &words),
            [who, "enters", group] => self.enter(who, group, &words),
            [who, "polls", group] => self.poll(who, group, &words),
            [who, "quits", group] => self.quit(who, group, &words),
            ["describe", "consumer", group] => {
                let described = print::described_consumer(&self.stage.shard.describe_consumer(group));
                self.say(described);
            }
            [who, "syncs", group] => self.sync(who, group, &words),
            [who, "beats", group] => self.beat(who, group, &words),
            [who, "leaves", group] => self.leave(who, group, &words),
            [who, "removes", group, ref members @ ..] => self.remove(who, group, members, &words),
            [who, "commits", group] => self.commit(who, group, &words),
            ["fetch", group, ref partitions @ ..] => self.fetch(group, partitions, &words),
            ["describe", group] => {
                let version = words.number("v").unwrap_or(6) as i16;
                let described = print::described(&self.stage.shard.describe(version, group));
                self.say(described);
            }
            ["list"] => {
                let states: Vec<&str> = words.get("states").map(|s| s.split(',').collect()).unwrap_or_default();
                let types: Vec<&str> = words.get("types").map(|s| s.split(',').collect()).unwrap_or_default();
                let listed = print::listed(&self.stage.shard.list(&states, &types));
                self.say(listed);
            }
            [who, "deletes", "groups", ref groups @ ..] => {
                self.stage.ask(who, 2, Request::DeleteGroups(groups.to_vec()));
            }
            [who, "deletes", "offsets", group, ref partitions @ ..] => {
                let topics = by_topic(partitions.iter().map(|partition| print::partition(partition)));
                let topics = topics.into_iter().map(|(name, partitions)| OffsetDeleteRequestTopic {
                    name: name.into(),
                    partitions: partitions
                        .into_iter()
                        .map(|partition_index| OffsetDeleteRequestPartition { partition_index })
                        .collect(),
                });
                let request = OffsetDeleteRequest { group_id: group.into(), topics: topics.collect() };
                self.stage.ask(who, 0, Request::OffsetDelete(request));
            }
            _ => panic!("what is meant by: {line}"),
        }
        self.tell();
    }

    /// Time passes; what happens in it is told with the time at which it does.
    fn pass(&mut self, ms: i64) {
        let end_ms = self.stage.now_ms + ms;
        // Step by step, so that every event can be told with its own time.
        while self.stage.now_ms < end_ms {
            let step_ms = (end_ms - self.stage.now_ms).min(500 - self.stage.now_ms % 500);
            self.stage.pass(step_ms);
            self.tell_at(true);
        }
    }

    fn tell(&mut self) {
        self.tell_at(false);
    }

    fn tell_at(&mut self, with_time: bool) {
        for seen in self.stage.seen() {
            self.learn(&seen);
            let time = if with_time { format!("at {}: ", print::time(self.stage.now_ms)) } else { String::new() };
            for line in print::seen(&seen, &self.stage.topics) {
                self.say(format!("{time}{line}"));
            }
        }
    }

    /// What a client learns from its answers.
    fn learn(&mut self, seen: &Seen) {
        let Seen::Reply(who, reply) = seen else { return };
        let known = self.known.entry(who.clone()).or_default();
        if let Reply::ConsumerGroupHeartbeat(response) = reply
            && response.error_code.is_none()
        {
            response.member_id.as_deref().unwrap_or_default().clone_into(&mut known.member_id);
            known.generation = response.member_epoch;
        }
        if let Reply::JoinGroup(reply) = reply
            && matches!(reply.error, ottla_wire::ErrorCode::None | ottla_wire::ErrorCode::MemberIdRequired)
        {
            known.member_id = reply.member_id.to_string();
            known.generation = reply.generation;
            known.protocol = reply.protocol.as_deref().map(str::to_owned);
        }
    }

    fn known(&self, who: &str) -> Known {
        self.known.get(who).cloned().unwrap_or_default()
    }

    fn member_id(&self, who: &str, words: &Words<'_>) -> String {
        match words.get("id") {
            Some("none") => String::new(),
            Some(id) => print::long(id),
            None => self.known(who).member_id,
        }
    }
}

fn by_topic<'a>(partitions: impl Iterator<Item = (&'a str, i32)>) -> BTreeMap<&'a str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(partition);
    }
    topics
}

fn settings(words: &Words<'_>) -> GroupConfig {
    let mut config = GroupConfig::default();
    for (key, value) in &words.set {
        match *key {
            "max" => config.classic_size_max = value.parse().unwrap(),
            "consumer_max" => config.consumer_size_max = value.parse().unwrap(),
            "delay" => config.initial_rebalance_delay_ms = milliseconds(value) as i32,
            "note_max" => config.offset_metadata_max_bytes = value.parse().unwrap(),
            "retention" => config.offsets_retention_ms = milliseconds(value),
            "interval" => config.assignment_interval_ms = milliseconds(value) as i32,
            "regex_refresh" => config.regex_refresh_interval_ms = milliseconds(value) as i32,
            "migration" => {
                config.migration = match *value {
                    "both" => MigrationPolicy::Bidirectional,
                    "up" => MigrationPolicy::Upgrade,
                    "down" => MigrationPolicy::Downgrade,
                    "off" => MigrationPolicy::Disabled,
                    _ => panic!("{value}"),
                };
            }
            _ => panic!("{key}"),
        }
    }
    config
}
