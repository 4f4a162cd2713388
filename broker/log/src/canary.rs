//! Canaries: promises that a build for tests breaks on purpose. A test of a promise must fail with its canary.
//!
//! Only builds with the feature `canary` contain them; there `OTTLA_CANARY=<name>` selects one. A release contains
//! none.

#[cfg(feature = "canary")]
use std::{fs::File, io, os::unix::fs::FileExt, sync::OnceLock, time::Duration};

/// A promise to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The log does no sync and reports success for all of them.
    NoFsync,
    /// The log acknowledges appends before it writes them to the file.
    AckBeforeWrite,
    /// Recovery accepts a batch without checking its CRC.
    SkipLastCrc,
    /// Recovery leaves the bytes behind the end of the log in the file.
    KeepTornTail,
    /// The log uses an index file without checks: of its CRC, its end and the batches at its positions.
    TrustIndex,
    /// The log delivers ranges that no check has covered since startup.
    NoReadCheck,
    /// The log repeats a failed sync.
    RetrySync,
    /// A full disk ends all writing until a restart.
    GiveUpWhenFull,
    /// The log takes a short write for a complete one.
    IgnoreShortWrite,
    /// The broker takes a disk error during `sendfile` for a client that closed its connection.
    PeerGone,
    /// The log does not sync the names in directories.
    NoDirSync,
    /// Records are visible as soon as they are appended, durable or not.
    EarlyWatermark,
    /// State files have another layout under the same version number.
    SilentFormat,
    /// Startup applies the route journal without asking which parts the targets already have.
    ReplayTwice,
    /// All writers of a topic's producers write at the same time, through the same file, even if the topic is deleted.
    ShareSnapshotFile,
    /// The broker does not write a producer down while a batch that begins at sequence 0 waits.
    ForgetWrapped,
    /// The broker writes the producers of a held topic down, although it does not know them yet.
    SaveWhileHeld,
    /// A snapshot of producers ignores batches of the route that are appended and not entered yet.
    SaveWithoutParts,
    /// The applier of the route waits for space under the lock of the partition that it appends to.
    HoldApplyingWhileFull,
    /// The route applies items behind one that it could not apply because the broker stops or a log directory failed.
    ApplyBehindStopped,
    /// The broker accepts batches behind one that the journal of the route refused.
    AcceptBehindFailedJournal,
    /// Frames of the metadata are believed without their checksums.
    TrustMetadata,
    /// Requests are read and answers made whether there is memory left or not.
    NoMemoryBound,
    /// Pools start a thread for each piece of work.
    NoThreadBound,
    /// A turn of requests ends when there are none left, however long that takes.
    TurnWithoutEnd,
    /// One topic may fill all lanes.
    NoLaneShare,
    /// Groups take what they wrote for durable as soon as it is appended.
    AnswerCommitsEarly,
}

/// Whether this process has to break `promise`. In a release the answer is the constant `false`.
#[cfg(not(feature = "canary"))]
#[inline]
pub const fn broken(_promise: Canary) -> bool {
    false
}

/// Whether this process has to break `promise`.
#[cfg(feature = "canary")]
pub fn broken(promise: Canary) -> bool {
    chosen() == Some(promise)
}

/// The promise that `OTTLA_CANARY` names.
///
/// # Panics
/// If it names no promise: a build that breaks nothing must not pass for a canary.
#[cfg(feature = "canary")]
pub fn chosen() -> Option<Canary> {
    static CHOSEN: OnceLock<Option<Canary>> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("OTTLA_CANARY").ok()?;
        let named = Canary::ALL.into_iter().find(|canary| format!("{canary:?}") == name);
        assert!(named.is_some(), "OTTLA_CANARY names no promise: {name}");
        named
    })
}

/// Writes `bytes` later, in a thread of its own: the effect of [`Canary::AckBeforeWrite`].
#[cfg(feature = "canary")]
pub(crate) fn write_later(file: &File, bytes: Vec<u8>, position: u64) -> io::Result<()> {
    const LATER: Duration = Duration::from_millis(30);
    let file = file.try_clone()?;
    let write = move || {
        std::thread::sleep(LATER);
        if let Err(error) = file.write_all_at(&bytes, position) {
            tracing::error!(%error, "the late write of a canary failed");
        }
    };
    std::thread::Builder::new().name("ottla-late".to_owned()).spawn(write).map(|_| ())
}

#[cfg(feature = "canary")]
impl Canary {
    const ALL: [Canary; 27] = [
        Canary::NoFsync,
        Canary::AckBeforeWrite,
        Canary::SkipLastCrc,
        Canary::KeepTornTail,
        Canary::TrustIndex,
        Canary::NoReadCheck,
        Canary::RetrySync,
        Canary::GiveUpWhenFull,
        Canary::IgnoreShortWrite,
        Canary::PeerGone,
        Canary::NoDirSync,
        Canary::EarlyWatermark,
        Canary::SilentFormat,
        Canary::ReplayTwice,
        Canary::ShareSnapshotFile,
        Canary::ForgetWrapped,
        Canary::SaveWhileHeld,
        Canary::SaveWithoutParts,
        Canary::HoldApplyingWhileFull,
        Canary::ApplyBehindStopped,
        Canary::AcceptBehindFailedJournal,
        Canary::TrustMetadata,
        Canary::NoMemoryBound,
        Canary::NoThreadBound,
        Canary::TurnWithoutEnd,
        Canary::NoLaneShare,
        Canary::AnswerCommitsEarly,
    ];
}
