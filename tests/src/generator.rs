//! Ground truth: a process that does a known number of known things and says what it did.
//!
//! It runs as a process of its own (`skep-generator`), so that everything under its pid is known.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// `getppid` calls.
    pub getppid: u64,
    /// Loopback connections; connection `i` carries [`request_bytes`] there and [`response_bytes`] back.
    pub connects: u64,
    /// Datagrams over loopback; datagram `i` carries [`datagram_bytes`].
    pub datagrams: u64,
    /// Executions of `/bin/true` with [`argv`].
    pub execs: u64,
    /// Sleeps of one millisecond.
    pub sleeps: u64,
}

/// The whole of the plan the tests use.
pub const FULL: Plan = Plan { getppid: 1_000_000, connects: 500, datagrams: 3_000, execs: 200, sleeps: 2_000 };

/// Payload of connection `i` from the caller.
pub fn request_bytes(i: u64) -> u64 {
    1_000 + 7 * i
}

/// Payload of connection `i` back to the caller.
pub fn response_bytes(i: u64) -> u64 {
    20_000 + 13 * i
}

/// Payload of datagram `i`; every 500th is empty.
pub fn datagram_bytes(i: u64) -> u64 {
    i % 500
}

/// Argument vector of exec `i`; every third has an empty argument in the middle and every fifth a long one.
pub fn argv(i: u64) -> Vec<String> {
    let mut argv = vec!["/bin/true".to_owned(), format!("exec-{i}")];
    if i.is_multiple_of(3) {
        argv.push(String::new());
    }
    if i.is_multiple_of(5) {
        argv.push("x".repeat(500 + i as usize));
    }
    argv.push("last one".to_owned());
    argv
}

/// Does all of `plan` and returns the truth as JSON.
///
/// # Errors
/// When the host does not let it.
pub fn run(plan: Plan) -> std::io::Result<Value> {
    for _ in 0..plan.getppid {
        std::hint::black_box(rustix::process::getppid());
    }
    let (sent, received) = connections(plan.connects)?;
    let datagram_bytes = datagrams(plan.datagrams)?;
    for i in 0..plan.execs {
        let argv = argv(i);
        let status = Command::new(&argv[0]).args(&argv[1..]).stdin(Stdio::null()).status()?;
        if !status.success() {
            return Err(std::io::Error::other(format!("exec {i} ended with {status}")));
        }
    }
    let mut sleeps: Vec<u64> = (0..plan.sleeps).map(|_| one_sleep()).collect();
    sleeps.sort_unstable();
    let quantile = |q: f64| sleeps.get(((sleeps.len() as f64 * q).ceil() as usize).saturating_sub(1)).copied();
    Ok(json!({
        "pid": std::process::id(),
        "getppid": plan.getppid,
        "connects": plan.connects,
        "sent_bytes": sent,
        "received_bytes": received,
        "datagrams": plan.datagrams,
        "datagram_bytes": datagram_bytes,
        "execs": plan.execs,
        "sleeps": plan.sleeps,
        "sleep_p50_ns": quantile(0.5),
        "sleep_p99_ns": quantile(0.99),
    }))
}

/// Each is received before the next is sent, so that none has to be dropped.
fn datagrams(count: u64) -> std::io::Result<u64> {
    let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let address = there.local_addr()?;
    let mut room = vec![0; 1_000];
    for i in 0..count {
        here.send_to(&room[..datagram_bytes(i) as usize], address)?;
        there.recv(&mut room)?;
    }
    Ok((0..count).map(datagram_bytes).sum())
}

fn one_sleep() -> u64 {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(1));
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Client and server in this process; every other connection is closed by the server first.
fn connections(count: u64) -> std::io::Result<(u64, u64)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        for i in 0..count {
            let (mut stream, _) = listener.accept()?;
            let mut request = vec![0; request_bytes(i) as usize];
            stream.read_exact(&mut request)?;
            stream.write_all(&vec![b'r'; response_bytes(i) as usize])?;
            if i.is_multiple_of(2) {
                // The caller closes first; wait for it.
                stream.read_to_end(&mut Vec::new())?;
            }
        }
        Ok(())
    });
    let (mut sent, mut received) = (0, 0);
    for i in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&vec![b'q'; request_bytes(i) as usize])?;
        let mut response = vec![0; response_bytes(i) as usize];
        stream.read_exact(&mut response)?;
        if i % 2 == 1 {
            stream.read_to_end(&mut Vec::new())?;
        }
        sent += request_bytes(i);
        received += response_bytes(i);
    }
    server.join().map_err(|_| std::io::Error::other("the server thread panicked"))??;
    Ok((sent, received))
}
