//! What is done to a broker while all producers send.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::connection::Connection;
use ottla_wire::ErrorCode;

use super::producer::BEING_MADE;
use super::world::{Ground, PATIENCE, PLUGIN, Stop, VERSIONS, World};
use crate::check;
use crate::seed::Seed;

impl World {
    pub(super) fn sleep(&mut self, ms: std::ops::Range<u64>) {
        thread::sleep(Duration::from_millis(self.random.within(ms)));
    }

    /// A topic, made now.
    pub(super) fn create(&mut self, mut ground: Ground) -> usize {
        let name = ground.history.name.clone();
        ground.history.asked = vec![0; ground.partitions as usize];
        ground.history.deleted = vec![0; ground.partitions as usize];
        let settings: Vec<(&str, &str)> = ground.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let partitions = ground.partitions;
        let code =
            self.ask(&format!("create {name}"), |socket| Ok(socket.create_topic(&name, partitions, &settings)?.code));
        assert_eq!(code, Some(ErrorCode::None), "{name} cannot be made");
        self.topics.push(ground);
        self.topics.len() - 1
    }

    /// Asks the broker for something. Not answered in time is wrong, and so is a refusal while nothing is in the way.
    fn ask(&mut self, what: &str, request: impl FnOnce(&mut Connection) -> io::Result<ErrorCode>) -> Option<ErrorCode> {
        self.tell(what);
        let answer = connected(self, request);
        self.judge_answer(what, answer)
    }

    fn judge_answer(&mut self, what: &str, answer: io::Result<ErrorCode>) -> Option<ErrorCode> {
        match answer {
            Ok(ErrorCode::None) => Some(ErrorCode::None),
            Ok(code) => {
                if self.is_calm() {
                    self.wrong(format!("{what} is answered with {code:?}"));
                } else {
                    self.tell(format!("{what} is answered with {code:?}"));
                }
                Some(code)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.wrong(format!("{what} is not answered within {} s", PATIENCE.as_secs()));
                None
            }
            Err(error) => {
                self.wrong(format!("{what}: {error}"));
                None
            }
        }
    }

    /// Deletes some of the oldest records of one partition.
    pub(super) fn delete_records(&mut self, topic: usize, partition: i32) {
        let name = self.topics[topic].history.name.clone();
        let Some(offset) = some_offset(self, &name, partition) else { return };
        self.topics[topic].asks(partition, offset);
        let what = format!("delete the records of {name}-{partition} before {offset}");
        let code = self.ask(&what, |socket| socket.delete_records(&name, partition, offset));
        if code == Some(ErrorCode::None) {
            self.topics[topic].answers(partition, offset);
        }
    }

    /// The same of any partition.
    pub(super) fn delete_somewhere(&mut self, topic: usize) {
        let partition = self.random.within(0..self.topics[topic].partitions as u64) as i32;
        self.delete_records(topic, partition);
    }

    /// Deletes records of all partitions of a topic at once, each over a connection of its own, `rounds` times.
    pub(super) fn delete_records_together(&mut self, topic: usize, rounds: usize) {
        let name = self.topics[topic].history.name.clone();
        self.tell(format!("delete records of all partitions of {name} together, {rounds} times"));
        let address = self.broker.address();
        let seeds: Vec<u64> = (0..self.topics[topic].partitions).map(|_| self.random.number()).collect();
        let name = name.as_str();
        let said: Vec<Vec<(i64, io::Result<ErrorCode>)>> = thread::scope(|scope| {
            let asking: Vec<_> = (0..)
                .zip(seeds)
                .map(|(partition, seed)| scope.spawn(move || delete_often(address, name, partition, rounds, seed)))
                .collect();
            asking.into_iter().map(|it| it.join().expect("an answer")).collect()
        });
        for (partition, said) in (0..).zip(said) {
            for (offset, answer) in said {
                self.topics[topic].asks(partition, offset);
                let what = format!("delete the records of {name}-{partition} before {offset}, with its siblings,");
                if self.judge_answer(&what, answer) == Some(ErrorCode::None) {
                    self.topics[topic].answers(partition, offset);
                }
            }
        }
    }

    /// Lets retention take all but the last bytes of a topic.
    pub(super) fn retain(&mut self, topic: usize) {
        let name = self.topics[topic].history.name.clone();
        self.topics[topic].history.is_retained = true;
        let bytes = self.random.within(1..60_000).to_string();
        self.ask(&format!("keep {bytes} bytes of {name}"), |socket| {
            Ok(socket.set_topic(&name, "retention.bytes", &bytes)?.code)
        });
    }

    /// Changes where segments end.
    pub(super) fn resize(&mut self, topic: usize) {
        let name = self.topics[topic].history.name.clone();
        let bytes = self.random.within(8_000..100_000).to_string();
        self.ask(&format!("segments of {name} get {bytes} bytes"), |socket| {
            Ok(socket.set_topic(&name, "internal.segment.bytes", &bytes)?.code)
        });
    }

    /// Turns routing off or on, or lets a topic in the page cache be synced or not.
    pub(super) fn configure(&mut self, topic: usize) {
        let ground = &self.topics[topic];
        let name = ground.history.name.clone();
        let (setting, values) = match () {
            () if ground.history.is_routed => ("ottla.partitioner.mode", ["route", "off"]),
            () if ground.is_page_cache => ("ottla.durability", ["page-cache", "fsync"]),
            () => ("segment.ms", ["50", "3600000"]),
        };
        let value = *self.random.pick(&values);
        self.ask(&format!("{setting} of {name} is {value}"), |socket| {
            Ok(socket.set_topic(&name, setting, value)?.code)
        });
    }

    /// Another version of the plugin runs from here on.
    pub(super) fn activate(&mut self, version: i32) {
        self.ask(&format!("version {version} of the plugin"), |socket| {
            socket.name_as_ottla()?;
            Ok(socket.activate_plugin(PLUGIN, version)?.code)
        });
    }

    /// Deletes a topic and makes it again.
    pub(super) fn make_again(&mut self, topic: usize) {
        let name = self.topics[topic].history.name.clone();
        // From here on no sender begins to send to it.
        self.topics[topic].generation.fetch_or(BEING_MADE, Ordering::AcqRel);
        self.topics[topic].deletions.push(Instant::now());
        self.ask(&format!("delete {name}"), |socket| Ok(socket.delete_topic(&name)?.code));
        let ground = &mut self.topics[topic];
        ground.history.asked.fill(0);
        ground.history.deleted.fill(0);
        ground.history.is_retained = false;
        let (settings, partitions) = (ground.settings.clone(), ground.partitions);
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.ask(&format!("make {name} again"), |socket| Ok(socket.create_topic(&name, partitions, &settings)?.code));
        self.topics[topic].generation.fetch_add(1, Ordering::AcqRel);
    }

    /// One of everything.
    pub(super) fn act(&mut self) {
        let topic = self.random.within(0..self.topics.len() as u64) as usize;
        let partition = self.random.within(0..self.topics[topic].partitions as u64) as i32;
        let deletes = !self.topics[topic].history.is_compacted;
        match self.random.within(0..11) {
            0 | 1 if deletes => self.delete_records(topic, partition),
            2 if deletes => self.delete_records_together(topic, 3),
            3 if deletes => self.retain(topic),
            4 => self.resize(topic),
            5 => {
                let version = 1 + self.random.within(0..VERSIONS.len() as u64) as i32;
                self.activate(version);
            }
            6 if self.is_calm() => self.make_again(topic),
            7 => {
                let disk = self.random.within(0..self.disks.len() as u64) as usize;
                let left = self.random.within(0..600 << 10);
                self.fill(disk, left);
            }
            8 => self.free(),
            9 => self.configure(topic),
            _ => self.sleep(5..50),
        }
    }

    pub(super) fn some_stop(&mut self) {
        let stop = *self.random.pick(&[Stop::Term, Stop::Kill, Stop::Power]);
        self.stop(stop);
    }
}

impl Ground {
    fn asks(&mut self, partition: i32, offset: i64) {
        let asked = &mut self.history.asked[partition as usize];
        *asked = offset.max(*asked);
    }

    fn answers(&mut self, partition: i32, offset: i64) {
        let deleted = &mut self.history.deleted[partition as usize];
        *deleted = offset.max(*deleted);
    }
}

fn connected<T>(world: &World, request: impl FnOnce(&mut Connection) -> io::Result<T>) -> io::Result<T> {
    let mut socket = Connection::open(world.broker.address())?;
    socket.set_patience(PATIENCE);
    request(&mut socket)
}

/// An offset of a partition that can be read.
fn some_offset(world: &mut World, topic: &str, partition: i32) -> Option<i64> {
    let (start, end) = connected(world, |socket| check::bounds(socket, topic, partition)).ok()?;
    Some(start + world.random.within(1..(end - start).max(1) as u64 + 1) as i64).filter(|_| end > start)
}

fn delete_often(
    address: std::net::SocketAddr,
    topic: &str,
    partition: i32,
    rounds: usize,
    seed: u64,
) -> Vec<(i64, io::Result<ErrorCode>)> {
    let mut random = Seed::new(seed);
    let mut said = Vec::new();
    let Ok(mut socket) = Connection::open(address) else { return said };
    socket.set_patience(PATIENCE);
    for _ in 0..rounds {
        let Ok((start, end)) = check::bounds(&mut socket, topic, partition) else { break };
        // A little each time, so that there is something left for the next.
        let offset = start + random.within(0..((end - start).max(0) as u64).div_ceil(4) + 1) as i64;
        let answer = socket.delete_records(topic, partition, offset);
        let is_over = answer.is_err();
        said.push((offset, answer));
        if is_over {
            break;
        }
    }
    said
}
