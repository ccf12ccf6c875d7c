//! Disks of this program's own: a file, seen as a block device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::neighbour::tool;

/// A loop device. Dropping this detaches it.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) device: String,
    mount: Option<PathBuf>,
}

impl Disk {
    /// So many bytes in `folder`. Its requests go to the disk below at once, and are charged to who asked.
    pub(crate) fn make(folder: &Path, bytes: u64) -> Result<Self> {
        let path = folder.join("disk.img");
        let file = File::create(&path)?;
        // With blocks: what is not there takes no time to read.
        fs::write(&path, vec![0xa5; usize::try_from(bytes)?])?;
        file.sync_all()?;
        let output = Command::new("losetup").args(["--direct-io=on", "--show", "--find"]).arg(&path).output()?;
        ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { device: String::from_utf8(output.stdout)?.trim().to_owned(), mount: None })
    }

    /// With a file system, mounted.
    pub(crate) fn mounted(folder: &Path, bytes: u64) -> Result<Self> {
        let mut disk = Self::make(folder, bytes)?;
        let at = folder.join("disk");
        fs::create_dir(&at)?;
        tool(&format!("mkfs.ext4 -q -m 0 {}", disk.device))?;
        tool(&format!("mount {} {}", disk.device, at.display()))?;
        disk.mount = Some(at);
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn at(&self) -> Result<&Path> {
        self.mount.as_deref().context("it is not mounted")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmount = self.mount.as_ref().map(|at| format!("umount --lazy {}", at.display()));
        for words in unmount.into_iter().chain([format!("losetup --detach {}", self.device)]) {
            if let Err(error) = tool(&words) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// Lets members of `cgroup` have no more than so many reads a second from the disk below `folder`.
pub(crate) fn slow_down(cgroup: &str, folder: &Path, reads_per_s: u32) -> Result<()> {
    let device = below(folder)?;
    let name = cgroup.trim_start_matches('/');
    let unified = Path::new("/sys/fs/cgroup").join(name).join("io.max");
    if unified.exists() {
        return fs::write(&unified, format!("{device} riops={reads_per_s}")).context("io.max");
    }
    let limit = io_folder(cgroup).join("blkio.throttle.read_iops_device");
    fs::write(&limit, format!("{device} {reads_per_s}")).with_context(|| limit.display().to_string())
}

/// The cgroup of this path where disks are limited.
pub(crate) fn io_folder(cgroup: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup/blkio").join(cgroup.trim_start_matches('/'))
}

/// MAJOR:MINOR of the whole disk a folder is on.
fn below(folder: &Path) -> Result<String> {
    use std::os::unix::fs::MetadataExt;
    let number = fs::metadata(folder)?.dev();
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    let at = fs::canonicalize(format!("/sys/dev/block/{number}")).with_context(|| format!("no disk has {number}"))?;
    // A partition lies in its disk's folder.
    let disk = if at.join("partition").exists() { at.parent().context("a disk")? } else { &at };
    Ok(fs::read_to_string(disk.join("dev"))?.trim().to_owned())
}
