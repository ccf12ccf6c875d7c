use std::path::Path;
use std::time::Duration;

use super::*;
use crate::up::log::Notice;
use crate::up::parts::Ready;

/// A shell script in place of a program; it makes the socket its readiness is read from.
fn script(folder: &Path, body: &str) -> Part {
    let socket = folder.join("ready.sock");
    Part {
        name: "agent",
        program: "/bin/sh".into(),
        args: vec!["-c".into(), body.replace("SOCKET", &socket.display().to_string()).into()],
        log: folder.join("log"),
        pid: folder.join("pid"),
        ready: Ready::Socket(socket),
        start_within: Duration::from_secs(10),
        stop_within: Duration::from_secs(10),
    }
}

fn pid(folder: &Path) -> Option<i32> {
    std::fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()
}

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(POLL).await;
    }
}

#[tokio::test]
async fn a_program_that_cannot_start_says_why() {
    let temp = tempfile::tempdir().unwrap();
    let (notices, _heard) = Notices::channel(8);
    let error = start(script(temp.path(), "echo first >&2; echo 'no BTF' >&2; exit 3"), &notices).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("agent did not start (exit code 3): no BTF"), "{text}");
    assert_eq!(std::fs::read_to_string(temp.path().join("log")).unwrap(), "first\nno BTF\n");
}

#[tokio::test]
async fn a_program_that_is_missing_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let (notices, _heard) = Notices::channel(8);
    let mut part = script(temp.path(), "");
    part.program = "/nowhere/skep-agent".into();
    let error = start(part, &notices).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start /nowhere/skep-agent");
}

#[tokio::test]
async fn a_killed_program_comes_back_and_a_stopped_one_does_not() {
    let temp = tempfile::tempdir().unwrap();
    let (notices, mut heard) = Notices::channel(8);
    // The test stands in for the socket: readiness is then a fact from the start.
    let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("ready.sock")).unwrap();
    let part = script(temp.path(), "trap 'echo bye >&2; exit 0' TERM; while :; do sleep 0.05; done");
    let mut keeper = start(part, &notices).await.unwrap().keep();
    let first = pid(temp.path()).unwrap();
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    eventually("it does not come back", || pid(temp.path()).is_some_and(|pid| pid != first)).await;
    let told = heard.recv().await.unwrap();
    assert_eq!(told, Notice { bad: true, text: "agent ended (signal 9); starting it again".to_owned() });
    let second = pid(temp.path()).unwrap();
    // The shell sets its trap a moment after it was started.
    eventually("the shell does not get going", || {
        std::fs::read_to_string(format!("/proc/{second}/status"))
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("SigCgt:"))
            .any(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << 14) != 0))
    })
    .await;
    keeper.stop().await;
    assert_eq!(std::fs::read_to_string(temp.path().join("log")).unwrap(), "bye\n");
    assert!(!Path::new(&format!("/proc/{second}")).exists());
    assert_eq!(pid(temp.path()), None);
}

#[tokio::test]
async fn a_program_that_is_slow_to_stop_can_still_be_killed() {
    let temp = tempfile::tempdir().unwrap();
    let (notices, _heard) = Notices::channel(8);
    let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("ready.sock")).unwrap();
    // The last line of its log says that it is deaf from now on.
    let deaf = script(temp.path(), "trap '' TERM; echo deaf >&2; while :; do sleep 0.1; done");
    let mut keeper = start(deaf, &notices).await.unwrap().keep();
    eventually("it ignores signals", || {
        std::fs::read_to_string(temp.path().join("log")).is_ok_and(|log| log == "deaf\n")
    })
    .await;
    let began = Instant::now();
    assert!(timeout(Duration::from_millis(300), keeper.stop()).await.is_err(), "it ignores what it is asked");
    keeper.kill().await;
    assert!(began.elapsed() < Duration::from_secs(5), "killed only after {:?}", began.elapsed());
    assert_eq!(pid(temp.path()), None);
}
