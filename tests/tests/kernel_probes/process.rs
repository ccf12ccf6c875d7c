//! Forks, execs and exits.

use std::{
    fs,
    io::Write,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{MetadataExt, PermissionsExt},
            process::CommandExt,
        },
    },
    path::Path,
    process::{Command, Stdio},
};

use skep_agent::probe::{ProbeOptions, reading::Exec};
use skep_common::{exec_flag as flag, limit};

use crate::support::{Watch, shell};

/// Runs `command` under the probes and returns its only exec.
fn exec_of(command: &mut Command) -> Exec {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    watch.assert_balanced();
    let execs = watch.execs(pid);
    assert_eq!(execs.len(), 1, "{execs:?}");
    let exec = execs[0].clone();
    assert_eq!(exec.subject.parent.pid, std::process::id());
    assert_eq!(exec.subject.uid, 0);
    exec
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn an_exec_tells_arguments_program_and_folder() {
    let exec = exec_of(Command::new("/bin/true").args(["", "b", "", "c d", ""]).current_dir("/usr/share"));
    let wanted: [&[u8]; 6] = [b"/bin/true", b"", b"b", b"", b"c d", b""];
    assert_eq!(exec.argv, wanted);
    assert_eq!(text(&exec.filename), "/bin/true");
    let real = fs::canonicalize("/bin/true").expect("there is one");
    assert_eq!(Path::new(text(&exec.exe)), real);
    assert_eq!(exec.exe_inode, fs::metadata(&real).expect("there is one").ino());
    assert_eq!(text(&exec.cwd), "/usr/share");
    assert_eq!(exec.flags, 0);
    assert_eq!(&exec.subject.comm[..5], b"true\0");
}

#[test]
fn arguments_beyond_the_bound_are_cut_and_flagged() {
    let exec = exec_of(Command::new("/bin/true").arg("x").arg("y".repeat(40_000)));
    assert!(exec.argv_truncated);
    assert_eq!(exec.argv.len(), 3);
    let kept: usize = exec.argv.iter().map(|argument| argument.len() + 1).sum();
    assert_eq!(kept, limit::ARGV_BYTES + 1, "the last argument has no end");
}

#[test]
fn arguments_up_to_the_bound_are_whole() {
    let room = limit::ARGV_BYTES - "/bin/true".len() - 2;
    let exec = exec_of(Command::new("/bin/true").arg("y".repeat(room)));
    assert!(!exec.argv_truncated);
    assert_eq!(exec.argv[1].len(), room);
}

/// A path that crosses a mount point, and a file on tmpfs.
#[test]
fn a_program_in_dev_shm_is_on_tmpfs() {
    let folder = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is writable");
    let program = folder.path().join("copy-of-true");
    fs::copy("/bin/true", &program).expect("copied");
    let exec = exec_of(&mut Command::new(&program));
    assert_eq!(Path::new(text(&exec.exe)), program);
    assert_eq!(exec.flags, flag::TMPFS);
}

/// Deeper than the walk goes: the end of the path is there, its beginning is not, and it says so.
#[test]
fn a_path_that_is_too_deep_is_cut_and_flagged() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let deep: std::path::PathBuf = (0..limit::PATH_DEPTH).map(|i| format!("d{i}")).collect();
    let place = folder.path().join(&deep);
    fs::create_dir_all(&place).expect("made");
    let program = place.join("deep-true");
    fs::copy("/bin/true", &program).expect("copied");
    let exec = exec_of(Command::new(&program).current_dir(&place));
    assert_eq!(exec.flags, flag::EXE_TRUNCATED | flag::CWD_TRUNCATED);
    assert!(text(&exec.exe).starts_with(".../d") && text(&exec.exe).ends_with("/deep-true"), "{}", text(&exec.exe));
    assert_eq!(text(&exec.filename), program.to_str().expect("text"));
}

#[test]
fn a_deleted_program_is_flagged() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let program = folder.path().join("gone");
    fs::copy("/bin/true", &program).expect("copied");
    let opened = fs::File::open(&program).expect("opened");
    fs::remove_file(&program).expect("removed");
    let exec = exec_of(&mut Command::new(format!("/proc/self/fd/{}", inherited(opened.into()))));
    assert_eq!(exec.flags & (flag::DELETED | flag::MEMFD | flag::TMPFS), flag::DELETED);
}

#[test]
fn a_program_in_memory_is_flagged() {
    let memory = rustix::fs::memfd_create("in-memory", rustix::fs::MemfdFlags::empty()).expect("created");
    let mut file = fs::File::from(memory);
    file.write_all(&fs::read("/bin/true").expect("there is one")).expect("written");
    let exec = exec_of(&mut Command::new(format!("/proc/self/fd/{}", inherited(file.into()))));
    assert_eq!(exec.flags & (flag::DELETED | flag::MEMFD | flag::TMPFS), flag::MEMFD);
    assert_eq!(text(&exec.exe), "/memfd:in-memory");
}

/// Lets the descriptor survive the exec; it lives as long as the test.
fn inherited(file: OwnedFd) -> i32 {
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).expect("flags can be set");
    let fd = file.as_raw_fd();
    std::mem::forget(file);
    fd
}

#[test]
fn a_set_user_id_program_gains_privileges() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    let program = folder.path().join("setuid");
    fs::copy("/bin/true", &program).expect("copied");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("set");
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = Command::new(&program).uid(65_534).spawn().expect("it starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let execs = watch.execs(pid);
    assert_eq!(execs.len(), 1);
    assert_eq!(execs[0].flags & (flag::SETUID | flag::PRIVILEGE_GAIN), flag::SETUID | flag::PRIVILEGE_GAIN);
    assert_eq!((execs[0].subject.uid, execs[0].subject.effective_uid), (65_534, 0));
}

#[test]
fn sockets_as_standard_streams_are_seen() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let stream = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (pair, _other) = std::os::unix::net::UnixStream::pair().expect("made");
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child =
        Command::new("/bin/true").stdin(OwnedFd::from(stream)).stdout(OwnedFd::from(pair)).spawn().expect("it starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    assert_eq!(watch.execs(pid)[0].flags, flag::STDIN_SOCKET | flag::STDIN_INET | flag::STDOUT_SOCKET);
}

#[test]
fn an_exit_tells_code_or_signal() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut ended = shell("exit 42", &[]).spawn().expect("the shell starts");
    let mut killed = shell("kill -9 $$", &[]).spawn().expect("the shell starts");
    watch.until_ended(&mut ended);
    watch.until_ended(&mut killed);
    let of = |pid| watch.exits(pid).iter().map(|exit| (exit.code, exit.signal)).collect::<Vec<_>>();
    assert_eq!(of(ended.id()), [(42, 0)]);
    assert_eq!(of(killed.id()), [(0, 9)]);
    let fork = watch.forks_of(std::process::id());
    assert!(fork.iter().any(|fork| fork.subject.process.pid == ended.id()));
    let start = watch.execs(ended.id())[0].subject.process.start_ns;
    assert_eq!(watch.exits(ended.id())[0].subject.process.start_ns, start);
}

/// Threads are not processes: one with many is forked once and ends once, with its own code.
#[test]
fn a_process_with_threads_ends_once() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let script = "import threading,os,time\nfor i in range(20): threading.Thread(target=lambda: time.sleep(0.05)).start()\nos._exit(7)";
    let mut child = Command::new("/usr/bin/env").args(["python3", "-c", script]).spawn().expect("python starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let exits: Vec<_> = watch.exits(pid).iter().map(|exit| (exit.code, exit.signal)).collect();
    assert_eq!(exits, [(7, 0)]);
    let forked = watch.forks_of(std::process::id()).iter().filter(|fork| fork.subject.process.pid == pid).count();
    assert_eq!(forked, 1);
    watch.assert_balanced();
}

/// A thread that is not the first executes a program: it takes over the number of the first.
#[test]
fn an_exec_from_a_thread_keeps_the_process() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let script = "import threading,os,time\nthreading.Thread(target=lambda: os.execv('/bin/sleep', ['sleep','0.01'])).start()\ntime.sleep(9)";
    let mut child = Command::new("/usr/bin/env").args(["python3", "-c", script]).spawn().expect("python starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let execs = watch.execs(pid);
    let last = execs.last().expect("it was executed");
    assert_eq!(last.argv, [&b"sleep"[..], b"0.01"]);
    assert_eq!(watch.exits(pid).len(), 1);
    assert_eq!(last.subject.process, watch.exits(pid)[0].subject.process);
    watch.assert_balanced();
}
