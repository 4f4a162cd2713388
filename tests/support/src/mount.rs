//! File systems of a test's own: small ones, to be filled, and ones that can be made to fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// ext4's `FS_IOC_SHUTDOWN`: from here on every write and every sync of the file system fails, and nothing reaches the
/// disk. The kernel has it for tests like these.
const SHUT_DOWN: &str = "import fcntl, os, struct, sys\n\
                         directory = os.open(sys.argv[1], os.O_RDONLY)\n\
                         fcntl.ioctl(directory, 0x8004587D, struct.pack('I', 2))";

/// A file system in a directory of its own, unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
    mounted: bool,
    /// Goes after the unmounting.
    _directory: TempDir,
}

impl Mount {
    /// An ext4 of so many bytes in a file. The error says why there is none here.
    pub fn ext4(bytes: u64) -> Result<Mount, String> {
        let directory = TempDir::with_prefix("ottla-disk-").map_err(|error| error.to_string())?;
        let image = directory.path().join("image");
        let file = std::fs::File::create(&image).and_then(|file| file.set_len(bytes));
        file.map_err(|error| error.to_string())?;
        done(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        Mount::of(directory, |point| {
            let mut mount = Command::new("mount");
            mount.args(["-o", "loop"]).arg(&image).arg(point);
            mount
        })
    }

    /// A file system in memory of so many bytes.
    pub fn tmpfs(bytes: u64) -> Result<Mount, String> {
        let directory = TempDir::with_prefix("ottla-disk-").map_err(|error| error.to_string())?;
        Mount::of(directory, |point| {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(point);
            mount
        })
    }

    fn of(directory: TempDir, mount: impl FnOnce(&Path) -> Command) -> Result<Mount, String> {
        let point = directory.path().join("mnt");
        std::fs::create_dir(&point).map_err(|error| error.to_string())?;
        done(&mut mount(&point))?;
        Ok(Mount { point, mounted: true, _directory: directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Makes every write and sync of an ext4 fail from here on.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn fail(&self) {
        done(Command::new("python3").args(["-c", SHUT_DOWN]).arg(&self.point)).expect("the file system shuts down");
    }

    /// Takes it away, as a disk that is pulled; what is left is an empty directory.
    ///
    /// # Panics
    /// If a process still uses it.
    pub fn unmount(&mut self) {
        done(Command::new("umount").arg(&self.point)).expect("no process uses it any more");
        self.mounted = false;
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a broker that a failed test leaves behind may still hold files.
            done(Command::new("umount").arg("-l").arg(&self.point)).ok();
        }
    }
}

fn done(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("no {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
