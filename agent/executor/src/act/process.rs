//! A process held by a pidfd: whatever becomes of its number, what is sent to the hold reaches it or nobody.
//!
//! Source: pidfd_open(2), pidfd_send_signal(2) (5.3 and later); proc_pid_stat(5), field 22.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::kind::ActError;

/// The kernel tells start times in hundredths of a second.
const TICK_NS: i64 = 10_000_000;

/// A process that was there when it was looked at.
#[derive(Debug)]
pub struct Process {
    /// Its number, for people.
    pub pid: u32,
    fd: OwnedFd,
}

/// Why a process cannot be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotHeld {
    /// It has ended.
    Gone,
    /// Its number belongs to another process by now.
    Another,
    /// The kernel refused.
    Refused(String),
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    parent: u32,
    /// Hundredths of a second since boot.
    start_ticks: i64,
    is_zombie: bool,
    /// Hundredths of a second on a CPU.
    pub cpu_ticks: u64,
    /// Pages in memory.
    pub resident_pages: u64,
}

impl Process {
    /// Holds the process with this number, if it is the one that began then (nanoseconds since boot).
    ///
    /// # Errors
    /// [`NotHeld`].
    pub fn hold(pid: u32, start_ns: i64) -> Result<Self, NotHeld> {
        let process = Self::hold_any(pid)?;
        // Asked after the hold: the number was not given to another while it is held, or the answer is another's.
        match stat(pid) {
            Some(stat) if stat.start_ticks != start_ns / TICK_NS => Err(NotHeld::Another),
            Some(stat) if !stat.is_zombie => Ok(process),
            _ => Err(NotHeld::Gone),
        }
    }

    fn hold_any(pid: u32) -> Result<Self, NotHeld> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(NotHeld::Gone)?;
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Ok(Self { pid, fd }),
            Err(Errno::SRCH | Errno::INVAL) => Err(NotHeld::Gone),
            Err(error) => Err(NotHeld::Refused(std::io::Error::from(error).to_string())),
        }
    }

    /// Sends it a signal; one that has ended is no error.
    ///
    /// # Errors
    /// [`ActError::Host`]: the right is lacking.
    pub fn send(&self, signal: Signal) -> Result<(), ActError> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(Errno::PERM) => Err(ActError::Host(format!(
                "process {} may not be signalled: this program lacks CAP_KILL, see skep-executor-kill.conf",
                self.pid
            ))),
            Err(error) => Err(ActError::Host(format!("process {} cannot be signalled: {error}", self.pid))),
        }
    }

    /// Whether it has ended, reaped by its parent or not.
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// Looks a process up.
pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The start of a process as commands name it, rounded down to what the kernel tells.
pub fn start_ns(pid: u32) -> Option<i64> {
    stat(pid).map(|stat| stat.start_ticks * TICK_NS)
}

/// The name may hold anything, a closing parenthesis too.
fn parse_stat(text: &str) -> Option<Stat> {
    let words: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| words.get(field - 3)?.parse::<i64>().ok();
    Some(Stat {
        is_zombie: matches!(*words.first()?, "Z" | "X"),
        parent: u32::try_from(number(4)?).ok()?,
        cpu_ticks: u64::try_from(number(14)? + number(15)?).ok()?,
        start_ticks: number(22)?,
        resident_pages: u64::try_from(number(24)?).ok()?,
    })
}

/// These processes and everything below them, held, a parent before its children. What is started meanwhile is found the
/// next time, below whoever started it.
pub fn with_children(roots: Vec<Process>) -> Vec<Process> {
    let mut children: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for pid in all_pids() {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().insert(pid);
        }
    }
    let known: BTreeSet<u32> = roots.iter().map(|process| process.pid).collect();
    let mut waiting: VecDeque<u32> = known.iter().copied().collect();
    let mut found = roots;
    while let Some(parent) = waiting.pop_front() {
        for child in children.remove(&parent).unwrap_or_default().difference(&known) {
            // Held first, asked then: a number given away between listing and holding has another parent.
            let Ok(process) = Process::hold_any(*child) else { continue };
            if stat(*child).is_some_and(|stat| stat.parent == parent && !stat.is_zombie) {
                waiting.push_back(*child);
                found.push(process);
            }
        }
    }
    found
}

/// These, held, but for those that have ended.
pub fn hold_all(pids: &[u32]) -> Vec<Process> {
    pids.iter().filter_map(|&pid| Process::hold_any(pid).ok()).filter(|process| !process.has_ended()).collect()
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_a_parenthesis_does_not_confuse() {
        let text = "77 (a) b ) S 5 77 77 0 -1 4194304 1 2 3 4 10 20 0 0 20 0 1 0 12345 1000 55 1 1 1\n";
        let expected = Stat { parent: 5, start_ticks: 12_345, is_zombie: false, cpu_ticks: 30, resident_pages: 55 };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("77 (a"), None);
    }

    #[test]
    fn another_start_is_another_process() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let start = start_ns(child.id()).unwrap();
        let held = Process::hold(child.id(), start + TICK_NS / 2).unwrap();
        assert_eq!(Process::hold(child.id(), start + TICK_NS).unwrap_err(), NotHeld::Another);
        assert!(!held.has_ended());
        held.send(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(held.has_ended());
        held.send(Signal::KILL).unwrap();
        assert_eq!(Process::hold(child.id(), start).unwrap_err(), NotHeld::Gone);
    }

    #[test]
    fn a_tree_is_the_process_and_all_below_it() {
        let mut shell = Command::new("sh").args(["-c", "(sleep 60 & wait) & wait"]).spawn().unwrap();
        let start = start_ns(shell.id()).unwrap();
        let mut held = Vec::new();
        for _ in 0..200 {
            held = with_children(vec![Process::hold(shell.id(), start).unwrap()]);
            if held.len() == 3 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(held.len(), 3, "shell, subshell and sleep");
        assert_eq!(held[0].pid, shell.id());
        held.iter().for_each(|process| process.send(Signal::KILL).unwrap());
        shell.wait().unwrap();
    }
}
