//! Small file systems on loop devices that lose power: what was written and not synced is gone afterwards.

#![allow(unsafe_code, reason = "the ioctl that shuts a file system down has no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// `_IOR('X', 125, u32)`: the same number on ext4 and XFS.
const FS_IOC_SHUTDOWN: u32 = 0x8004_587D;
/// Nothing more is written, not even the journal: the end of power.
const NO_LOG_FLUSH: u32 = 2;

/// Kinds of file systems, each with what its power cut leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext4 as it is by default; `noauto_da_alloc`, so that it does not repair programs that forget to sync.
    Ext4Ordered,
    /// ext4 whose names may be durable before data is.
    Ext4Writeback,
    /// XFS.
    Xfs,
}

/// Where the image lies, which decides how long a sync takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// In memory: syncs take microseconds, so there are many.
    Memory,
    /// On the disk: syncs take milliseconds, so that every cut hits one under way.
    Disk,
}

/// A mounted file system. Dropping it unmounts and removes it.
#[derive(Debug)]
pub struct Mount {
    kind: Kind,
    directory: TempDir,
    mounted: bool,
}

impl Kind {
    fn image_bytes(self) -> u64 {
        if self == Kind::Xfs { 320 << 20 } else { 256 << 20 }
    }

    fn make(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Kind::Ext4Ordered | Kind::Ext4Writeback => {
                ("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-J", "size=8"])
            }
            Kind::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
        }
    }

    fn options(self) -> &'static str {
        match self {
            Kind::Ext4Ordered => "loop,data=ordered,noauto_da_alloc",
            Kind::Ext4Writeback => "loop,data=writeback,noauto_da_alloc",
            Kind::Xfs => "loop",
        }
    }
}

/// Why this machine has no such file system; `None` where it has.
pub fn unavailable(kind: Kind) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some(format!("{kind:?}: mounting needs root"));
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some(format!("{kind:?}: there are no loop devices"));
    }
    match Mount::new(kind, Backing::Memory).and_then(|mut mount| mount.cut().and_then(|()| mount.restore())) {
        Ok(()) => None,
        Err(error) => Some(format!("{kind:?}: {error}")),
    }
}

impl Mount {
    /// Makes and mounts one, of 256 MiB or a little more.
    pub fn new(kind: Kind, backing: Backing) -> io::Result<Mount> {
        Mount::sized(kind, backing, kind.image_bytes())
    }

    /// Makes and mounts one of `bytes`.
    pub fn sized(kind: Kind, backing: Backing, bytes: u64) -> io::Result<Mount> {
        let shared_memory = Path::new("/dev/shm");
        let builder = || tempfile::Builder::new().prefix("ottla-prove-").clone();
        let directory = match backing {
            Backing::Memory if shared_memory.is_dir() => builder().tempdir_in(shared_memory)?,
            _ => builder().tempdir()?,
        };
        let mut mount = Mount { kind, directory, mounted: false };
        File::create(mount.image())?.set_len(bytes)?;
        let (program, words) = kind.make();
        run(Command::new(program).args(words).arg(mount.image()))?;
        std::fs::create_dir(mount.path())?;
        mount.mount()?;
        Ok(mount)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    fn mount(&mut self) -> io::Result<()> {
        run(Command::new("mount").args(["-o", self.kind.options()]).arg(self.image()).arg(self.path()))?;
        self.mounted = true;
        Ok(())
    }

    /// Cuts the power: from here on every write fails, and nothing that was not synced will be there.
    pub fn cut(&self) -> io::Result<()> {
        let mount = File::open(self.path())?;
        let how = NO_LOG_FLUSH;
        // SAFETY: the request reads one u32 behind the pointer, which outlives the call.
        let result = unsafe { libc::ioctl(mount.as_raw_fd(), FS_IOC_SHUTDOWN.into(), &raw const how) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Power is back: unmounts and mounts again. No process may hold a file any more.
    pub fn restore(&mut self) -> io::Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn unmount(&mut self) -> io::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let begun = Instant::now();
        while let Err(error) = run(Command::new("umount").arg(self.path())) {
            if begun.elapsed() > PATIENCE {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            run(Command::new("umount").arg("-l").arg(self.path())).ok();
        }
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{}: {}", command.get_program().display(), said.trim())))
}
