//! What runs on the host before it is broken, and how it is broken.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::disk::{self, Disk};
use super::fault::Fault;
use crate::ground;
use crate::hog::Hog;
use crate::subject::files;

/// Size of the disks.
const DISK_BYTES: u64 = 128 << 20;

/// Where the service listens. The network is this program's own.
const PORT: u16 = 20_000;

/// Connections a second of a client that is well, and of one that is not.
const CALM_PER_S: u32 = 2;
const STORM_PER_S: u32 = 400;

/// Reads a second that a slow disk does.
const SLOW_READS_PER_S: u32 = 8;

/// Files the service may have open.
const FILES: u32 = 1024;

/// What runs. Dropping this ends it.
#[derive(Debug)]
pub(crate) struct Running {
    fault: Fault,
    jobs: Vec<Hog>,
    disk: Option<Disk>,
}

/// The cgroup of one part.
pub(crate) fn cgroup(part: &str) -> String {
    format!("/find-{part}-{}", std::process::id())
}

impl Running {
    /// Everything as it should be.
    pub(crate) fn start(fault: Fault, folder: &Path) -> Result<Self> {
        let program = std::env::current_exe()?;
        let program = program.display();
        let mut running = Self { fault, jobs: Vec::new(), disk: None };
        let idle = "while :; do sleep 0.2; done";
        match fault {
            Fault::CpuHog | Fault::RunQueue => running.job("job", idle)?,
            Fault::SlowDisk => {
                let disk = Disk::make(folder, DISK_BYTES)?;
                fs::create_dir_all(disk::io_folder(&cgroup("job")))?;
                let read = format!("dd if={} of=/dev/null bs=4k count=200 iflag=direct status=none", disk.device);
                running.job("job", &format!("while :; do {read}; sleep 0.2; done"))?;
                running.disk = Some(disk);
            }
            Fault::DiskFilling => {
                running.disk = Some(Disk::mounted(folder, DISK_BYTES)?);
                running.job("job", idle)?;
            }
            Fault::ConnectionStorm | Fault::FdLeak => {
                fs::create_dir_all(folder.join("v1"))?;
                fs::create_dir_all(folder.join(files::STATE))?;
                fs::write(folder.join("v1").join(files::ANSWER), "200")?;
                symlink("v1", folder.join(files::CURRENT))?;
                let serve = format!("exec {program} subject --port {PORT} --folder {}", folder.display());
                running.job("service", &format!("ulimit -n {FILES}; {serve}"))?;
                let deadline = Instant::now() + Duration::from_secs(10);
                while ground::ask(PORT, "/").is_none() {
                    ensure!(Instant::now() < deadline, "the service does not answer");
                    thread::sleep(Duration::from_millis(50));
                }
                running.job("client", &format!("exec {program} storm {PORT} --per-second {CALM_PER_S}"))?;
            }
        }
        Ok(running)
    }

    /// Breaks it.
    pub(crate) fn break_it(&mut self, folder: &Path) -> Result<()> {
        let program = std::env::current_exe()?;
        let busy = "while :; do :; done";
        match self.fault {
            Fault::CpuHog => self.job("broken", busy)?,
            Fault::RunQueue => {
                let threads = 8 * thread::available_parallelism()?.get();
                let script = format!("for i in $(seq {threads}); do {{ {busy}; }} & done; wait");
                self.job("broken", &script)?;
            }
            Fault::SlowDisk => disk::slow_down(&cgroup("job"), folder, SLOW_READS_PER_S)?,
            Fault::ConnectionStorm => {
                self.job("broken", &format!("exec {} storm {PORT} --per-second {STORM_PER_S}", program.display()))?;
            }
            Fault::FdLeak => {
                ensure!(ground::ask(PORT, "/break/descriptors-slowly").is_some(), "the service does not answer");
            }
            Fault::DiskFilling => {
                let at = self.disk.as_ref().context("no disk")?.at()?.display();
                self.job("broken", &format!("while head -c 256K /dev/zero >> {at}/debug.log; do sleep 0.2; done"))?;
            }
        }
        Ok(())
    }

    fn job(&mut self, part: &str, script: &str) -> Result<()> {
        let cgroup = cgroup(part);
        let io = disk::io_folder(&cgroup);
        let enter = if io.exists() { format!("echo $$ > {}/cgroup.procs && ", io.display()) } else { String::new() };
        self.jobs.push(Hog::start_as_others(&cgroup, &format!("{enter}{script}"))?);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What uses the disk goes before it.
        self.jobs.clear();
        let io = disk::io_folder(&cgroup("job"));
        if io.exists() && fs::remove_dir(&io).is_err() {
            eprintln!("{} is left", io.display());
        }
    }
}

/// Opens so many connections a second to a port of this host, until it is ended.
pub(crate) fn storm(port: u16, per_second: u32) {
    let to = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let pause = Duration::from_secs(1) / per_second.max(1);
    let mut due = Instant::now();
    loop {
        // Whether it is taken is not this one's affair.
        let _open = TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok();
        due = (due + pause).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()).max(pause / 2));
    }
}
