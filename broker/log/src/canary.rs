//! Promises that can be broken on purpose, so that a test which watches over one can show that it would notice.
//!
//! Only builds with the feature `canary` have them, and there `OTTLA_CANARY=<name>` picks one; a release has neither.

#[cfg(feature = "canary")]
use std::{fs::File, io, os::unix::fs::FileExt, sync::OnceLock, time::Duration};

/// A promise to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// No sync is carried out, all of them are said to have been.
    NoFsync,
    /// Appends are acknowledged before they reach the file.
    AckBeforeWrite,
    /// Recovery believes a batch without its CRC.
    SkipLastCrc,
    /// Recovery leaves what it found behind the end of the log.
    KeepTornTail,
    /// What an index file says is believed: its CRC, its end and the batches it leads to are not checked.
    TrustIndex,
    /// Ranges are delivered although nobody has checked them since the start.
    NoReadCheck,
    /// A failed sync is repeated.
    RetrySync,
    /// A full disk ends all writing until the restart.
    GiveUpWhenFull,
    /// A write that took only a part is taken for the whole.
    IgnoreShortWrite,
    /// A disk that fails under `sendfile` is taken for a client that left.
    PeerGone,
    /// Names in directories are not synced.
    NoDirSync,
    /// Records are visible once they are appended, durable or not.
    EarlyWatermark,
    /// State files have another layout under the same version number.
    SilentFormat,
    /// A start carries out the route journal without asking what its targets have already.
    ReplayTwice,
    /// Everybody who writes the producers of a topic down writes at once, through the same file, deleted topic or not.
    ShareSnapshotFile,
    /// What a producer sent is not written down while a batch that begins at sequence 0 waits.
    ForgetWrapped,
    /// Producers of a held topic are written down, although they are not known yet.
    SaveWhileHeld,
    /// A snapshot of producers takes no note of batches of the route that are appended and not entered yet.
    SaveWithoutParts,
    /// The applier of the route waits for space under the lock of the partition that it appends to.
    HoldApplyingWhileFull,
    /// Items of the route are applied behind one that the stop of the broker, or a log directory, kept from being applied.
    ApplyBehindStopped,
    /// Batches are taken behind one that the journal of the route refused.
    AcceptBehindFailedJournal,
    /// Frames of the metadata are believed without their checksums.
    TrustMetadata,
}

/// Whether `promise` is to be broken in this process. `false`, and known so to the compiler, in every release.
#[cfg(not(feature = "canary"))]
#[inline]
pub const fn broken(_promise: Canary) -> bool {
    false
}

/// Whether `promise` is to be broken in this process.
#[cfg(feature = "canary")]
pub fn broken(promise: Canary) -> bool {
    chosen() == Some(promise)
}

/// What `OTTLA_CANARY` names.
///
/// # Panics
/// When it names nothing that could be broken: a canary that breaks nothing must not look like one.
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

/// Writes `bytes` some time later, in a thread of its own: what [`Canary::AckBeforeWrite`] amounts to.
#[cfg(feature = "canary")]
pub(crate) fn write_later(file: &File, bytes: Vec<u8>, position: u64) -> io::Result<()> {
    const LATER: Duration = Duration::from_millis(30);
    let file = file.try_clone()?;
    let write = move || {
        std::thread::sleep(LATER);
        if let Err(error) = file.write_all_at(&bytes, position) {
            tracing::error!(%error, "the late write of a canary");
        }
    };
    std::thread::Builder::new().name("ottla-late".to_owned()).spawn(write).map(|_| ())
}

#[cfg(feature = "canary")]
impl Canary {
    const ALL: [Canary; 22] = [
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
    ];
}
