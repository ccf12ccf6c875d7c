//! A program of this host, without a shell.
//!
//! It gets nothing of what the agent may do, a process group of its own, and an end when its time is over: dropping the run
//! ends the whole group.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::Fault;

/// As much of what it prints is read as can tell why; the rest is read and dropped, so that it never waits for a reader.
const KEPT_BYTES: usize = 4096;

/// How long what it printed is waited for when it has ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Characters of its last line that are told.
const TOLD_CHARACTERS: usize = 200;

pub(super) async fn ask(argv: &[String], exit_code: i32) -> Result<(), Fault> {
    let [program, arguments @ ..] = argv else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    without_privileges(&mut command);
    let spawn = |source| Fault::Spawn { program: program.clone(), source };
    let mut child = command.spawn().map_err(spawn)?;
    let _group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let (mut printed, mut complained) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = {
        let mut read =
            std::pin::pin!(async { tokio::join!(tail(stdout, &mut printed), tail(stderr, &mut complained)) });
        let early = tokio::select! {
            status = child.wait() => Some(status),
            _ = &mut read => None,
        };
        match early {
            None => child.wait().await,
            Some(status) => {
                // What it left behind may hold the other end for ever.
                let _held = tokio::time::timeout(LAST_WORDS, read).await.is_err();
                status
            }
        }
    };
    let status = status.map_err(Fault::Broken)?;
    if status.code() == Some(exit_code) {
        return Ok(());
    }
    let said = last_line(&complained).or_else(|| last_line(&printed));
    Err(Fault::Exit { status: told(status), said: said.map_or(String::new(), |line| format!(": {line}")) })
}

/// The agent's ambient capabilities would go on to every program it starts.
fn without_privileges(command: &mut Command) {
    let drop_them = || rustix::thread::clear_ambient_capability_set().map_err(std::io::Error::from);
    // SAFETY: between fork and exec only one system call is made; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(drop_them);
    }
}

/// Ends what is left of a program and its children. The leader that has been waited for is gone, its group may not be.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // None left is what is hoped for.
            let _none = kill_process_group(group, Signal::KILL).is_err();
        }
    }
}

async fn tail(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let mut part = [0; 1024];
    let Some(mut stream) = stream else { return };
    while let Ok(count @ 1..) = stream.read(&mut part).await {
        kept.extend_from_slice(&part[..count]);
        let surplus = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..surplus);
    }
}

fn last_line(printed: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(printed);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().filter(|character| !character.is_control()).take(TOLD_CHARACTERS).collect())
}

fn told(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}
