//! Processes that come and go, calls that signals cut short, and floods of both; prints its pid, what it did, and how many
//! signals it handled.
//!
//! `skep-churn interrupted N | short-lived N | execs N | connects N | keys N`

use std::io::{Error, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Signals handled.
static HANDLED: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = || Error::other("skep-churn interrupted N | short-lived N | execs N | connects N | keys N");
    let [what, count] = arguments.as_slice() else { return Err(usage()) };
    let count: u64 = count.parse().map_err(|_| usage())?;
    let did = match what.as_str() {
        "interrupted" => interrupted(count)?,
        "short-lived" => children(count, ask_for_parent)?,
        "keys" => children(count, call_a_thousand)?,
        "execs" => execs(count)?,
        "connects" => connects(count)?,
        _ => return Err(usage()),
    };
    let mut out = std::io::stdout();
    writeln!(out, "{} {did} {}", std::process::id(), HANDLED.load(Ordering::Relaxed))?;
    out.flush()
}

/// Sleeps that a timer's signal ends before their time; returns how many were.
fn interrupted(count: u64) -> Result<u64> {
    extern "C" fn handle(_: libc::c_int) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
    let interval = libc::timeval { tv_sec: 0, tv_usec: 400 };
    // SAFETY: the handler only counts, and both structs outlive the calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        let every = libc::itimerval { it_interval: interval, it_value: interval };
        libc::setitimer(libc::ITIMER_REAL, &raw const every, std::ptr::null_mut());
    }
    let mut cut = 0;
    while cut < count {
        let second = libc::timespec { tv_sec: 1, tv_nsec: 0 };
        // SAFETY: the struct outlives the call.
        let result =
            unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const second, std::ptr::null_mut()) };
        cut += u64::from(result == libc::EINTR);
    }
    // SAFETY: as above.
    unsafe {
        let never: libc::itimerval = std::mem::zeroed();
        libc::setitimer(libc::ITIMER_REAL, &raw const never, std::ptr::null_mut());
    }
    Ok(cut)
}

fn ask_for_parent() {
    // SAFETY: the call takes nothing.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

/// A thousand numbers that are no calls: each is refused, and each is another key.
fn call_a_thousand() {
    for nr in 10_000..11_000 {
        // SAFETY: the kernel refuses a number it has no call for.
        unsafe { libc::syscall(nr) };
    }
}

/// Children, one after the other, that do one thing and end with 7.
fn children(count: u64, work: fn()) -> Result<u64> {
    for _ in 0..count {
        // SAFETY: this process has one thread, and the child only makes system calls.
        let child = unsafe { libc::fork() };
        match child {
            -1 => return Err(Error::last_os_error()),
            0 => {
                work();
                // SAFETY: it does not return.
                unsafe { libc::_exit(7) }
            }
            _ => wait_for(child)?,
        }
    }
    Ok(count)
}

fn wait_for(child: libc::pid_t) -> Result<()> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    if libc::WEXITSTATUS(status) == 7 { Ok(()) } else { Err(Error::other(format!("a child ended with {status}"))) }
}

/// Executions of `/bin/true`, two at a time.
fn execs(count: u64) -> Result<u64> {
    let half = |count: u64| move || (0..count).try_for_each(|_| true_once());
    let other = std::thread::spawn(half(count / 2));
    half(count - count / 2)()?;
    other.join().map_err(|_| Error::other("a thread broke"))??;
    Ok(count)
}

fn true_once() -> Result<()> {
    std::process::Command::new("/bin/true").status().map(drop)
}

/// Loopback connections that are reset at once, so that no port waits. Each is accepted before the next: a queue that
/// runs over would make the kernel wait a second.
fn connects(count: u64) -> Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    for _ in 0..count {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        let accepted = listener.accept()?;
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the struct outlives the call, which is told its size.
        unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&stream),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            );
        }
        drop((stream, accepted));
    }
    Ok(count)
}
