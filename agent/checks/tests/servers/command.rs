//! Programs of this host.

use std::fs;
use std::time::Duration;

use crate::support::Asked;

fn shell(script: &str, rest: &str) -> Asked {
    Asked::new(&format!("kind = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"{script}\"]\n{rest}"))
}

#[tokio::test]
async fn the_exit_code_counts_and_the_last_line_says_why() {
    assert_eq!(shell("exit 0", "").run().await, Ok(()));
    assert_eq!(shell("exit 3", "exit_code = 3").run().await, Ok(()));
    let failed = shell("echo fine; echo disk full >&2; echo; exit 2", "").run().await.unwrap_err();
    assert_eq!(failed, "it ended with exit code 2: disk full");
    assert_eq!(shell("echo no; exit 1", "").run().await.unwrap_err(), "it ended with exit code 1: no");
    assert_eq!(shell("kill -9 $$", "").run().await.unwrap_err(), "it ended with signal: 9 (SIGKILL)");
    let absent = Asked::new("kind = \"command\"\nargv = [\"/no/such/program\"]\n").run().await.unwrap_err();
    assert_eq!(absent, "/no/such/program does not start: No such file or directory (os error 2)");
    // No shell looks at arguments.
    let mut test = Asked::new("kind = \"command\"\nargv = [\"/usr/bin/test\", \"$HOME; exit 0\", \"=\", \"x\"]\n");
    assert_eq!(test.run().await.unwrap_err(), "it ended with exit code 1");
    assert_eq!(shell("yes | head -c 3000000; exit 0", "").run().await, Ok(()), "more than anybody reads");
}

/// Processes with this argument.
fn running(argument: &str) -> usize {
    let lines =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())).count()
}

#[tokio::test]
async fn one_that_hangs_is_ended_with_all_it_started() {
    let mark = format!("{}.25", 100_000 + std::process::id());
    let mut hangs = shell(&format!("sleep {mark} & sleep {mark}"), "timeout = \"300ms\"");
    assert_eq!(hangs.run().await.unwrap_err(), "timeout");
    for _ in 0..100 {
        if running(&mark) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(running(&mark), 0);
    let mut leaves = shell(&format!("sleep {mark} >/dev/null 2>&1 & exit 0"), "");
    assert_eq!(leaves.run().await, Ok(()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(running(&mark), 0, "what was left behind");
}
