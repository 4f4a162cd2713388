//! What a storm rages over: small disks, a broker, topics, and the producers that outlive all of it.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::{Broker, wait};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::model::Topic;
use super::producer::{Producer, Shape};
use crate::image::{Image, quick_directory};
use crate::mount::{Backing, Kind, Mount};
use crate::run::Setting;
use crate::seed::Seed;

/// Nothing that is asked of a healthy machine takes so long: an end, an answer, taking batches again.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The plugin that is there from the beginning.
pub(super) const PLUGIN: &str = "storm";
/// Where record `$index` goes, one version of the plugin after the other: each in turn to another partition, all to the
/// last one, all of a batch to one that its size chooses.
pub(super) const VERSIONS: [&str; 3] = [
    "(i32.rem_u (local.get $index) (local.get $partitions))",
    "(i32.sub (local.get $partitions) (i32.const 1))",
    "(i32.rem_u (local.get $records) (local.get $partitions))",
];
/// The version whose batches go to one partition each.
pub(super) const BY_SIZE: i32 = 3;

/// A disk with one log directory.
pub(super) struct Disk {
    mount: Mount,
    filler: PathBuf,
    is_full: bool,
    has_failed: bool,
}

/// A topic, as it was made and what happened to it.
pub(super) struct Ground {
    pub(super) partitions: i32,
    pub(super) settings: Vec<(&'static str, String)>,
    pub(super) is_page_cache: bool,
    /// What the model has to know.
    pub(super) history: Topic,
    /// How often it was made again, and when each deletion began.
    pub(super) generation: Arc<AtomicU32>,
    pub(super) deletions: Vec<Instant>,
}

/// How a broker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Term,
    Kill,
    Power,
}

pub(super) struct World {
    pub(super) broker: Broker,
    pub(super) disks: Vec<Disk>,
    pub(super) topics: Vec<Ground>,
    pub(super) producers: Vec<Producer>,
    pub(super) random: Seed,
    /// What was done, to look into a broken promise.
    pub(super) story: Vec<String>,
    /// Promises broken so far.
    pub(super) wrongs: Vec<String>,
    /// Whether a disk was full or failed since the start.
    was_disturbed: bool,
    begun: Instant,
    /// The power went, and the producers do not know it yet.
    is_cut: bool,
    /// What is in the page cache since then may be lost with the power.
    clean_since: Instant,
    _data: TempDir,
}

impl Disk {
    pub(super) fn new(bytes: u64) -> Disk {
        let mount = Mount::sized(Kind::Ext4Ordered, Backing::Memory, bytes).expect("a file system");
        let filler = mount.path().join("filler");
        Disk { mount, filler, is_full: false, has_failed: false }
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        self.mount.path().join("log")
    }
}

impl World {
    /// A broker over the first of `disks`; `image` has its metadata and plugins.
    pub(super) fn new(
        setting: &Setting,
        seed: u64,
        disks: Vec<Disk>,
        image: &Image,
        settings: &[(&str, String)],
    ) -> World {
        let data = quick_directory();
        image.restore(data.path());
        let mut builder = setting.broker().data_dir(data.path());
        for (name, value) in settings {
            builder = builder.set(name, value);
        }
        let first = disks.first().map(Disk::log_dir).unwrap_or_default();
        let broker = builder.set("log.dirs", &first.display().to_string()).start();
        let now = Instant::now();
        World {
            broker,
            disks,
            topics: Vec::new(),
            producers: Vec::new(),
            random: Seed::new(seed),
            story: Vec::new(),
            wrongs: Vec::new(),
            was_disturbed: false,
            begun: now,
            is_cut: false,
            clean_since: now,
            _data: data,
        }
    }

    /// Remembers what is done.
    pub(super) fn tell(&mut self, what: impl Into<String>) {
        self.story.push(format!("{} ms: {}", self.begun.elapsed().as_millis(), what.into()));
    }

    pub(super) fn wrong(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.tell(format!("WRONG: {what}"));
        self.wrongs.push(what);
    }

    /// Whether every disk worked and had room since the start: then nothing that is valid is refused. A topic may be held
    /// for a while after there is room again.
    pub(super) fn is_calm(&self) -> bool {
        !self.was_disturbed
    }

    /// A producer to a topic that is there.
    pub(super) fn producer(&mut self, topic: usize, addressed: i32, shape: Shape) -> Producer {
        let ground = &self.topics[topic];
        let shape = Shape { has_keys: ground.history.is_compacted, ..shape };
        Producer::new((topic, &ground.history.name, &ground.generation), addressed, shape, self.random.number())
    }

    /// All producers send while `act` goes on.
    pub(super) fn work(&mut self, act: impl FnOnce(&mut World)) {
        struct StopAtEnd<'a>(&'a AtomicBool);
        impl Drop for StopAtEnd<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let (stop, address) = (AtomicBool::new(false), self.broker.address());
        let mut producers = std::mem::take(&mut self.producers);
        let batches = self.random.within(30..200) as usize;
        thread::scope(|scope| {
            let stop = &stop;
            for producer in &mut producers {
                scope.spawn(move || producer.run(address, stop, batches));
            }
            let _end = StopAtEnd(stop);
            act(self);
        });
        self.producers.append(&mut producers);
        for wrong in
            self.producers.iter_mut().flat_map(|producer| std::mem::take(&mut producer.wrongs)).collect::<Vec<_>>()
        {
            self.wrong(wrong);
        }
        if std::mem::take(&mut self.is_cut) {
            self.forget();
        }
    }

    /// Everything that was sent is acknowledged, and `batches` more.
    pub(super) fn finish(&mut self, batches: usize) -> bool {
        let address = self.broker.address();
        let failures: Vec<String> = thread::scope(|scope| {
            let running: Vec<_> = self
                .producers
                .iter_mut()
                .map(|producer| scope.spawn(move || producer.finish(address, batches, PATIENCE)))
                .collect();
            running.into_iter().filter_map(|it| it.join().expect("a producer").err()).collect()
        });
        let wrongs = self.producers.iter_mut().flat_map(|producer| std::mem::take(&mut producer.wrongs));
        let wrongs: Vec<String> = failures.into_iter().chain(wrongs).collect();
        let is_done = wrongs.is_empty();
        for wrong in wrongs {
            self.wrong(wrong);
        }
        is_done
    }

    /// Takes all space of a disk but `left` bytes.
    pub(super) fn fill(&mut self, disk: usize, left: u64) {
        self.tell(format!("disk {disk} is filled, {} KiB are left", left >> 10));
        self.was_disturbed = true;
        let disk = &mut self.disks[disk];
        if !disk.has_failed {
            disk.is_full = true;
            fill(&disk.mount.path(), &disk.filler, left);
        }
    }

    /// Makes room on every disk.
    pub(super) fn free(&mut self) {
        if self.disks.iter().any(|disk| disk.is_full) {
            self.tell("there is room again");
        }
        for disk in &mut self.disks {
            std::fs::remove_file(&disk.filler).ok();
            disk.is_full = false;
        }
    }

    /// A disk fails under the broker: every write to it is refused from here on. Everything is acknowledged
    /// before, since what is under way then could not be judged. False: not everything could be.
    pub(super) fn fail_quietly(&mut self, disk: usize) -> bool {
        self.free();
        if !self.finish(0) {
            return false;
        }
        self.tell(format!("disk {disk} fails"));
        self.was_disturbed = true;
        self.disks[disk].has_failed = true;
        self.disks[disk].mount.cut().expect("the disk can be made to fail");
        self.forget();
        true
    }

    /// Ends the broker.
    pub(super) fn stop(&mut self, stop: Stop) {
        self.tell(format!("{stop:?}"));
        match stop {
            Stop::Term => self.terminate(),
            Stop::Kill => self.broker.kill9(),
            Stop::Power => {
                self.is_cut = true;
                // With the power the processor stops: nothing is answered that a disk says while it goes, and no disk is
                // written to because another one said yes.
                self.signal(Signal::STOP);
                let pid = self.broker.pid();
                wait::until_true("the broker to stand still", || stands_still(pid));
                for disk in &mut self.disks {
                    if !disk.has_failed {
                        disk.mount.cut().expect("the power can be cut");
                        disk.has_failed = true;
                    }
                }
                self.broker.kill9();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.broker.pid().cast_signed());
        pid.map(|pid| rustix::process::kill_process(pid, signal).ok());
    }

    fn terminate(&mut self) {
        if !self.broker.is_running() {
            self.wrong("the broker ended by itself");
            return;
        }
        self.signal(Signal::TERM);
        let begun = Instant::now();
        while self.broker.is_running() {
            if begun.elapsed() > PATIENCE {
                self.wrong(format!("{} s after SIGTERM the broker still runs", PATIENCE.as_secs()));
                self.broker.kill9();
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.tell("it has ended");
        if self.is_calm() {
            self.clean_since = Instant::now();
        }
    }

    /// Starts the broker again, after disks that failed are repaired. False: it does not come up.
    pub(super) fn start(&mut self, settings: &[(&str, &str)]) -> bool {
        for disk in self.disks.iter_mut().filter(|disk| disk.has_failed) {
            disk.mount.restore().expect("the file system comes back");
            disk.has_failed = false;
            if !disk.is_full {
                // Its removal may have been lost with the power.
                std::fs::remove_file(&disk.filler).ok();
            }
        }
        self.was_disturbed = self.disks.iter().any(|disk| disk.is_full);
        let dirs: Vec<String> = self.disks.iter().map(|disk| disk.log_dir().display().to_string()).collect();
        let dirs = dirs.join(",");
        let said = self.broker.log_lines();
        self.story.extend(said.into_iter().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")));
        self.tell("start");
        let started = catch_unwind(AssertUnwindSafe(|| {
            self.broker.restart_with(|builder| {
                let builder = builder.set("log.dirs", &dirs);
                settings.iter().fold(builder, |builder, (name, value)| builder.set(name, value))
            });
        }));
        if started.is_err() {
            self.wrong("the broker does not start");
            return false;
        }
        true
    }

    /// Without power, what is in the page cache only may be lost.
    fn forget(&mut self) {
        let topics = &self.topics;
        for producer in self.producers.iter_mut().filter(|producer| topics[producer.topic].is_page_cache) {
            producer.lose_since(self.clean_since);
        }
    }
}

/// Whether no thread goes on: each is stopped, or in a system call from which it will not return.
fn stands_still(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    let states: Vec<char> = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok())
        // The name of a thread stands in parentheses before its state.
        .filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next())
        .collect();
    // The first that stops has told all others to.
    states.contains(&'T') && states.iter().all(|state| matches!(state, 'T' | 'D' | 'Z' | 'X'))
}

/// Takes all space but `left`.
fn fill(mount: &Path, filler: &Path, left: u64) {
    std::fs::remove_file(filler).ok();
    let space = rustix::fs::statvfs(mount).expect("a file system");
    let file = File::create(filler).expect("a filler");
    // The file system keeps some space for itself: the filler takes what it gets, and then leaves what is to be left.
    let mut bytes = space.f_bfree * space.f_frsize;
    while bytes > 0 && rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).is_err() {
        bytes = bytes.saturating_sub(64 << 10);
    }
    file.set_len(bytes.saturating_sub(left)).expect("a shorter filler");
}
