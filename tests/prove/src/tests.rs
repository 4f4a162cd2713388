//! The list of tests: what each one shows, how many cases, which canaries.

use crate::report::Outcome;
use crate::run::Setting;
use crate::{
    t01_kill_nine, t02_power_cut, t03_torn_tail, t04_index, t05_bit_rot, t05_metadata, t06_failed_sync, t07_disk_full,
    t08_short_io, t09_send_errors, t10_broker_points, t10_crash_points, t12_commits, t29_old_formats, t31_combined,
    t32_bounds,
};

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    /// With every commit: all tests together in less than eight minutes on two cores.
    Commit,
    /// Every night: about an hour.
    Night,
    /// Before a release.
    Release,
}

/// One test.
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub shows: &'static str,
    /// Cases for every commit, every night, every release.
    pub cases: [u64; 3],
    /// The promises that are broken on purpose, and within how many cases that must be noticed.
    pub canaries: &'static [(&'static str, u64)],
    /// Runs the log in this process, so that its canaries need another build of this program, not of the broker.
    pub in_process: bool,
    /// Runs it.
    pub run: fn(&Setting) -> Outcome,
}

impl Test {
    /// How many cases `size` asks for.
    pub fn cases_of(&self, size: Size) -> u64 {
        self.cases[size as usize]
    }
}

/// All of them.
pub const ALL: &[Test] = &[
    Test {
        name: "t01_kill_nine",
        shows: "kill -9 while producing: nothing acknowledged is lost, doubled, reordered or overwritten",
        cases: [20, 1_000, 10_000],
        canaries: &[("AckBeforeWrite", 20)],
        in_process: false,
        run: t01_kill_nine::run,
    },
    Test {
        name: "t02_power_cut",
        shows: "power cut on ext4 (ordered and writeback) and XFS: nothing acknowledged is lost or doubled",
        cases: [30, 1_000, 10_000],
        canaries: &[("NoFsync", 30)],
        in_process: false,
        run: t02_power_cut::run,
    },
    Test {
        name: "t03_torn_tail",
        shows: "every length and every subset of torn sectors of the last bytes: the log is an exact prefix afterwards",
        cases: [6_000, 122_000, 122_000],
        canaries: &[("SkipLastCrc", 3_000), ("KeepTornTail", 3_000)],
        in_process: true,
        run: t03_torn_tail::run,
    },
    Test {
        name: "t04_index",
        shows: "an index that is gone, damaged or lies changes no answer",
        cases: [500, 10_000, 10_000],
        canaries: &[("TrustIndex", 200)],
        in_process: true,
        run: t04_index::run,
    },
    Test {
        name: "t05_bit_rot",
        shows: "one flipped bit at rest: the broker starts, no damaged record is delivered, no other one is lost",
        cases: [504, 10_000, 50_000],
        canaries: &[("NoReadCheck", 120)],
        in_process: false,
        run: t05_bit_rot::run,
    },
    Test {
        name: "t05_metadata",
        shows: "one flipped bit in a copy of the metadata at rest: the broker starts, no id and no setting is another one",
        cases: [200, 10_000, 50_000],
        canaries: &[("TrustMetadata", 100)],
        in_process: false,
        run: t05_metadata::run,
    },
    Test {
        name: "t06_failed_sync",
        shows: "after a sync that failed nothing is acknowledged, the file is not synced again, a restart loses nothing",
        cases: [20, 200, 200],
        canaries: &[("RetrySync", 5)],
        in_process: false,
        run: t06_failed_sync::run,
    },
    Test {
        name: "t07_disk_full",
        shows: "a full disk is refused cleanly, reads go on, producing resumes by itself, nothing is lost",
        cases: [5, 200, 200],
        canaries: &[("GiveUpWhenFull", 2)],
        in_process: false,
        run: t07_disk_full::run,
    },
    Test {
        name: "t08_short_io",
        shows: "writes that take a part and calls that are interrupted change no byte, on the way in or out",
        cases: [10_000, 1_000_000, 10_000_000],
        canaries: &[("IgnoreShortWrite", 2_000)],
        in_process: false,
        run: t08_short_io::run,
    },
    Test {
        name: "t09_send_errors",
        shows: "a disk that fails under sendfile is answered with an error code within a second, not taken for a lost client",
        cases: [50, 500, 500],
        canaries: &[("PeerGone", 10)],
        in_process: false,
        run: t09_send_errors::run,
    },
    Test {
        name: "t10_crash_points",
        shows: "killed at any system call of a change to the log directory, the change is there as a whole or not at all",
        cases: [100, 2_000, 2_000],
        canaries: &[("NoDirSync", 7)],
        in_process: true,
        run: t10_crash_points::run,
    },
    Test {
        name: "t10_broker_points",
        shows: "killed at one system call after another of routing and of changes to the metadata: once or not at all, and usable",
        cases: [50, 2_000, 2_000],
        canaries: &[("NoDirSync", 5), ("ReplayTwice", 10)],
        in_process: false,
        run: t10_broker_points::run,
    },
    Test {
        name: "t11_visible",
        shows: "a consumer at the head during power cuts never saw a record that recovery does not have",
        cases: [20, 500, 5_000],
        canaries: &[("EarlyWatermark", 20)],
        in_process: false,
        run: t02_power_cut::run_with_consumer,
    },
    Test {
        name: "t12_commits",
        shows: "kill -9 and power cuts while groups commit: no answered commit is lost, none goes back, members stay",
        cases: [40, 1_000, 10_000],
        canaries: &[("NoFsync", 30), ("AnswerCommitsEarly", 60)],
        in_process: false,
        run: t12_commits::run,
    },
    Test {
        name: "t29_old_formats",
        shows: "data directories of every release are read and go on, also after a start killed at a system call; a newer format is refused and left alone",
        cases: [1, 1, 1],
        canaries: &[("SilentFormat", 1)],
        in_process: false,
        run: t29_old_formats::run,
    },
    Test {
        name: "t31_combined",
        shows: "a storm of faults over topics of every kind: nothing acknowledged is lost or doubled, no refusal lasts for ever, and an end takes bounded time",
        cases: [20, 500, 5_000],
        canaries: &[
            ("SaveWhileHeld", 80),
            ("SaveWithoutParts", 40),
            ("ShareSnapshotFile", 30),
            ("HoldApplyingWhileFull", 40),
            ("ApplyBehindStopped", 40),
            ("AcceptBehindFailedJournal", 30),
            ("ForgetWrapped", 16),
        ],
        in_process: false,
        run: t31_combined::run,
    },
    Test {
        name: "t32_bounds",
        shows: "one client that asks for everything: others are served in time, memory and threads stay within their bounds",
        cases: [8, 8, 24],
        canaries: &[("NoMemoryBound", 1), ("NoThreadBound", 1), ("TurnWithoutEnd", 1), ("NoLaneShare", 1)],
        in_process: false,
        run: t32_bounds::run,
    },
];
