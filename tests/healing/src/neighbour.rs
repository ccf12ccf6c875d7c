//! Somebody's machine, in a network of its own: whoever calls it on one of its ports is listened to.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

/// Its address; for documentation, and outside all private networks.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// The box's address on the way there.
const OURS: &str = "203.0.113.1/24";

/// Where it listens: the ports of all services that may be broken into.
pub(crate) const PORTS: std::ops::Range<u16> = 20_600..20_700;

/// A running neighbour. Dropping this ends it, and its network with it.
#[derive(Debug)]
pub(crate) struct Neighbour {
    child: Child,
}

/// Runs a program of this host's to its end.
pub(crate) fn tool(words: &str) -> Result<()> {
    let mut parts = words.split(' ');
    let status = Command::new(parts.next().unwrap_or_default()).args(parts).stdout(Stdio::null()).status();
    ensure!(status.with_context(|| words.to_owned())?.success(), "{words} failed");
    Ok(())
}

impl Neighbour {
    /// Makes it, joined with this network.
    pub(crate) fn start() -> Result<Self> {
        let child = Command::new("unshare")
            .args(["--net", "--"])
            .arg(std::env::current_exe()?)
            .arg("neighbour")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        let mut neighbour = Self { child };
        // It has its network when it says so.
        neighbour.hear()?;
        let pid = neighbour.child.id();
        tool(&format!("ip link add heal0 type veth peer name heal1 netns {pid}"))?;
        tool(&format!("ip addr add {OURS} dev heal0"))?;
        tool("ip link set heal0 up")?;
        let stdin = neighbour.child.stdin.as_mut().context("no way to it")?;
        stdin.write_all(b"\n")?;
        neighbour.hear()?;
        Ok(neighbour)
    }

    fn hear(&mut self) -> Result<()> {
        let stdout: &mut ChildStdout = self.child.stdout.as_mut().context("no way from it")?;
        stdout.read_exact(&mut [0]).context("the neighbour does not speak")
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The neighbour's own life: ends with its input.
pub(crate) fn run() -> Result<()> {
    let word = || -> Result<()> {
        io::stdout().write_all(b"\n")?;
        io::stdout().flush()?;
        Ok(())
    };
    word()?;
    if io::stdin().read(&mut [0])? == 0 {
        bail!("nobody is there");
    }
    tool("ip link set lo up")?;
    tool(&format!("ip addr add {ADDRESS}/24 dev heal1"))?;
    tool("ip link set heal1 up")?;
    for port in PORTS {
        let listener = TcpListener::bind((ADDRESS, port))?;
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Held until the other end lets go.
                thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
            }
        });
    }
    word()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
