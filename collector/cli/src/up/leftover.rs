//! Children of an earlier `skep up` that was killed: they still hold the folder and have to go first.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::folder::Folder;
use super::log::Notices;

/// A child gets this long to end in order.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// Stops what still runs, in the order agent, executor, collector.
pub(super) async fn clear(folder: &Folder, notices: &Notices) {
    for part in ["agent", "executor", "collector"] {
        let path = folder.pid(part);
        let Some(pid) = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<i32>().ok()) else {
            continue;
        };
        if is_ours(pid, part, folder.root()) {
            notices.say(false, format!("an earlier skep-{part} (pid {pid}) still runs here: stopping it"));
            stop(pid, part, folder.root()).await;
        }
        // Gone or never ours; either way the number means nothing now.
        drop(std::fs::remove_file(path));
    }
}

async fn stop(pid: i32, part: &str, root: &Path) {
    let Some(target) = Pid::from_raw(pid) else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        if kill_process(target, signal).is_err() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !is_ours(pid, part, root) {
                return;
            }
            sleep(POLL).await;
        }
    }
}

/// A process id may have been given to somebody else since: only our program on this folder counts.
fn is_ours(pid: i32, part: &str, root: &Path) -> bool {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let comm = read("comm");
    let line = read("cmdline");
    let root = root.as_os_str().as_encoded_bytes();
    comm.trim_ascii_end() == format!("skep-{part}").as_bytes()
        && line.split(|byte| *byte == 0).any(|word| word.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_ours_is_left_alone() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!is_ours(own, "agent", Path::new("/")));
        assert!(!is_ours(i32::MAX, "agent", Path::new("/")));
    }
}
