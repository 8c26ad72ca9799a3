//! A filesystem in a file, on a loop device.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use tempfile::TempDir;

use crate::Result;

/// `FS_IOC_SHUTDOWN`, which is `XFS_IOC_GOINGDOWN` too.
const SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);
/// Without writing anything more, the journal included.
const NO_LOG_FLUSH: u32 = 2;

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// With a journal of metadata, data in order.
    Ext4,
    /// With delayed allocation, and a journal of metadata.
    Xfs,
}

impl Filesystem {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// No filesystem of this kind is smaller.
    pub fn least_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 16 << 20,
            Self::Xfs => 320 << 20,
        }
    }
}

/// A mounted filesystem in a file. It is unmounted, and everything removed, when it is dropped.
#[derive(Debug)]
pub struct Volume {
    folder: TempDir,
    device: PathBuf,
    is_mounted: bool,
}

impl Volume {
    /// Why volumes cannot be made here, if they cannot.
    pub fn missing(filesystem: Filesystem) -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("only root may mount".to_owned());
        }
        if !Path::new("/dev/loop-control").exists() {
            return Some("there are no loop devices".to_owned());
        }
        let tool = format!("mkfs.{}", filesystem.name());
        let attempts = [tool.as_str(), "losetup", "mount", "umount"];
        let missing = attempts.into_iter().find(|name| Command::new(name).arg("-V").output().is_err());
        missing.map(|name| format!("there is no {name}"))
    }

    /// Makes and mounts a filesystem of so many bytes.
    ///
    /// # Errors
    /// Where the system refuses, with what it says.
    pub fn create(filesystem: Filesystem, bytes: u64) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let image = folder.path().join("image");
        File::create(&image)?.set_len(bytes)?;
        let quiet = if filesystem == Filesystem::Ext4 { "-F" } else { "-f" };
        run(Command::new(format!("mkfs.{}", filesystem.name())).args(["-q", quiet]).arg(&image))?;
        fs::create_dir(folder.path().join("mount"))?;
        // Without a cache below the filesystem's own: what the file lacks cannot be read.
        let device = run(Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(&image))?;
        let mut volume = Self { folder, device: device.trim().into(), is_mounted: false };
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// The file that it is in.
    pub fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Mounts it, which repairs what a shutdown left.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn mount(&mut self) -> Result<()> {
        run(Command::new("mount").arg(&self.device).arg(self.path()))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Unmounts it. No process may use it any more.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn unmount(&mut self) -> Result<()> {
        run(Command::new("umount").arg(self.path()))?;
        self.is_mounted = false;
        Ok(())
    }

    /// Cuts the power: from now on the filesystem writes nothing, and fails whatever it is asked to.
    ///
    /// # Errors
    /// Where it does not know how.
    pub fn shut_down(root: &File) -> io::Result<()> {
        // SAFETY: this request reads a number of 32 bits, and changes no memory of the process.
        unsafe { ioctl(root, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }?;
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // What cannot be undone is left for whoever looks into it.
        if self.is_mounted {
            let _ = run(Command::new("umount").arg("--lazy").arg(self.path()));
        }
        let _ = run(Command::new("losetup").arg("--detach").arg(&self.device));
    }
}

/// Runs a command that has to succeed; returns what it wrote.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into())
}
