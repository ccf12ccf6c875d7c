//! bpftrace, answering the question of a domain as cheaply as it can.
//!
//! Debian 12 has 0.17, which knows no raw tracepoints, and kfunc probes need fentry: what remains are the perf-style
//! tracepoints, and tracefs for them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long bpftrace may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

const TRACEFS: &str = "/sys/kernel/tracing";

/// A way to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    /// The domain whose question it answers.
    pub(crate) domain: &'static str,
    /// Distinguishes several for one domain; the figures compare with the cheapest.
    pub(crate) name: &'static str,
    text: &'static str,
    /// How a line of its answer begins.
    answer: &'static str,
}

/// All of them.
pub(crate) const SCRIPTS: [Script; 6] = [
    // Count, errors and latency by process and call. A thread's start stays behind when it ends.
    Script {
        domain: "syscall",
        name: "bpftrace",
        text: "tracepoint:raw_syscalls:sys_enter { @start[tid] = nsecs; }
            tracepoint:raw_syscalls:sys_exit {
                $start = @start[tid];
                if ($start) { @latency[pid, args->id, args->ret < 0] = hist(nsecs - $start); }
            }",
        answer: "@latency",
    },
    // The same as most examples write it.
    Script {
        domain: "syscall",
        name: "bpftrace_usual",
        text: "tracepoint:raw_syscalls:sys_enter { @start[tid] = nsecs; }
            tracepoint:raw_syscalls:sys_exit /@start[tid]/ {
                @latency[pid, args->id, args->ret < 0] = hist(nsecs - @start[tid]);
                delete(@start[tid]);
            }",
        answer: "@latency",
    },
    Script {
        domain: "cpu",
        name: "bpftrace",
        text: "tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @woken[args->pid] = nsecs; }
            tracepoint:sched:sched_switch {
                $now = nsecs;
                $since = @since[cpu];
                if ($since) { @on_cpu[pid] = sum($now - $since); }
                @since[cpu] = $now;
                if (args->prev_state == 0) { @woken[args->prev_pid] = $now; }
                $woken = @woken[args->next_pid];
                if ($woken) { @delay[args->next_pid] = hist($now - $woken); delete(@woken[args->next_pid]); }
            }",
        answer: "@delay",
    },
    Script {
        domain: "process",
        name: "bpftrace",
        text: "tracepoint:sched:sched_process_fork { @born[args->child_pid] = nsecs; }
            tracepoint:syscalls:sys_enter_execve { printf(\"exec %d %s \", pid, comm); join(args->argv); }
            tracepoint:sched:sched_process_exit {
                $born = @born[tid];
                printf(\"exit %d %s %d\\n\", pid, comm, nsecs - $born);
                delete(@born[tid]);
            }",
        answer: "exit",
    },
    Script {
        domain: "tcp",
        name: "bpftrace",
        text: "tracepoint:sock:inet_sock_set_state {
                if (args->newstate == 2) { @begun[args->skaddr] = nsecs; }
                if (args->newstate == 1) { @open[args->skaddr] = nsecs; }
                if (args->newstate == 7) {
                    printf(\"tcp %d %s %s %d %d %d %d\\n\", pid, comm, ntop(args->family, args->daddr), args->sport,
                        args->dport, @open[args->skaddr] - @begun[args->skaddr], nsecs - @open[args->skaddr]);
                    delete(@begun[args->skaddr]);
                    delete(@open[args->skaddr]);
                }
            }",
        answer: "tcp",
    },
    Script {
        domain: "block",
        name: "bpftrace",
        text: "tracepoint:block:block_rq_issue { @issued[args->dev, args->sector] = nsecs; }
            tracepoint:block:block_rq_complete {
                $issued = @issued[args->dev, args->sector];
                if ($issued) {
                    @latency[args->dev] = hist(nsecs - $issued);
                    @sectors[args->dev] = hist(args->nr_sector);
                    delete(@issued[args->dev, args->sector]);
                }
            }",
        answer: "@latency",
    },
];

/// Said once everything is attached: bpftrace handles no event before.
const MARK: &str = "interval:ms:20 /!@attached/ { @attached = 1; printf(\"attached\\n\"); }";

/// A running bpftrace.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    /// Reads what it says; ends with whether that was an answer.
    listener: Option<JoinHandle<bool>>,
}

/// Whether there is one, and what it needs is there.
pub(crate) fn prepare() -> Result<()> {
    let version = Command::new("bpftrace").arg("--version").stdout(Stdio::null()).status();
    ensure!(version.is_ok_and(|status| status.success()), "bpftrace is missing: install it, or give --no-bpftrace");
    if !std::path::Path::new(TRACEFS).join("events").exists() {
        let mounted = Command::new("mount").args(["-t", "tracefs", "tracefs", TRACEFS]).status();
        ensure!(mounted.is_ok_and(|status| status.success()), "bpftrace needs tracefs at {TRACEFS}");
    }
    Ok(())
}

impl Script {
    /// Starts bpftrace and waits until it has attached everything.
    pub(crate) fn start(&self) -> Result<Peer> {
        let mut child = Command::new("bpftrace")
            .args(["-B", "line", "-e", &format!("{}\n{MARK}", self.text)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run bpftrace")?;
        let output = child.stdout.take().context("bpftrace has an output")?;
        let (sender, attached) = mpsc::sync_channel(1);
        let answer = self.answer;
        let listener = std::thread::spawn(move || listen(output, &sender, answer));
        let mut peer = Peer { child, listener: Some(listener) };
        if attached.recv().is_err() {
            let mut complaint = String::new();
            let _ = peer.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut complaint));
            bail!("bpftrace did not attach: {}", complaint.trim());
        }
        Ok(peer)
    }
}

/// Takes what bpftrace says from it, so that it never waits.
fn listen(output: ChildStdout, attached: &mpsc::SyncSender<()>, answer: &str) -> bool {
    // Strings of the kernel are not always text.
    let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
    lines.fold(false, |answered, line| {
        if line == b"attached" {
            // Nobody waits any more once it is said.
            let _ = attached.try_send(());
        }
        answered || line.starts_with(answer.as_bytes())
    })
}

impl Peer {
    /// Stops it and makes sure that it had an answer. One that does not end when asked is killed, without an answer: it
    /// was attached, and must not stay.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                eprintln!("bpftrace does not end when asked and is killed");
                return Ok(());
            }
            rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
            std::thread::sleep(Duration::from_millis(100));
        }
        let answered = self.listener.take().and_then(|listener| listener.join().ok());
        ensure!(answered == Some(true), "bpftrace saw nothing");
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // After a stop it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
