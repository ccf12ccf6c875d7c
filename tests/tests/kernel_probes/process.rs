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
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().expect("it starts");
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
    assert_eq!((exec.interpreter.as_slice(), exec.terminal.as_slice()), (&b""[..], &b""[..]));
    assert_eq!(exec.capabilities, own_capabilities());
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

/// What this process may do, by its status file.
fn own_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("there is one");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("it tells");
    u64::from_str_radix(line.trim(), 16).expect("hex")
}

/// Who logged in, as far as this kernel keeps it.
fn own_login() -> Option<u32> {
    let text = fs::read_to_string("/proc/self/loginuid").ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

#[test]
fn capabilities_are_those_after_the_exec() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = Command::new("/bin/true").uid(65_534).gid(65_534).spawn().expect("it starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let execs = watch.execs(pid);
    assert_eq!((execs[0].capabilities, execs[0].subject.uid), (0, 65_534));
    assert_eq!(execs[0].login_uid, own_login());
    let forks = watch.forks_of(std::process::id());
    let fork = forks.iter().find(|fork| fork.subject.process.pid == pid).expect("it was forked");
    assert_eq!(fork.capabilities, own_capabilities());
}

#[test]
fn a_script_tells_its_interpreter() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh -e\n:\n").expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
    let exec = exec_of(Command::new(&script).arg("x"));
    assert_eq!(exec.flags, flag::SCRIPT);
    assert_eq!(text(&exec.interpreter), "/bin/sh");
    assert_eq!(Path::new(text(&exec.filename)), script);
    assert_eq!(Path::new(text(&exec.exe)), fs::canonicalize("/bin/sh").expect("there is one"));
    let name = script.to_str().expect("text");
    assert_eq!(exec.argv, ["/bin/sh", "-e", name, "x"].map(str::as_bytes));
}

#[test]
fn pipes_as_standard_streams_are_told_apart() {
    let (reader, writer) = std::io::pipe().expect("made");
    let inode = fs::metadata(format!("/proc/self/fd/{}", writer.as_raw_fd())).expect("it is open").ino();
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut from = Command::new("/bin/true").stdin(Stdio::null()).stdout(writer).spawn().expect("it starts");
    let mut to = Command::new("/bin/true").stdin(reader).stdout(Stdio::null()).spawn().expect("it starts");
    watch.until_ended(&mut from);
    watch.until_ended(&mut to);
    let of = |pid| watch.execs(pid)[0];
    assert_eq!(
        (of(from.id()).flags & flag::STDOUT_PIPE, of(from.id()).stream_inodes[1]),
        (flag::STDOUT_PIPE, Some(inode))
    );
    assert_eq!((of(to.id()).flags & flag::STDIN_PIPE, of(to.id()).stream_inodes[0]), (flag::STDIN_PIPE, Some(inode)));
    assert_eq!(of(to.id()).stream_inodes[1], None);
}

/// `script` gives its child a terminal of its own.
#[test]
fn the_controlling_terminal_is_named() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = Command::new("/usr/bin/script")
        .args(["-qec", "exec /usr/bin/tty", "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script starts");
    watch.until_ended(&mut child);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("piped"), &mut said).expect("it is text");
    let below = watch.events.iter().filter_map(|event| match event {
        skep_agent::probe::Event::Exec(exec) if exec.exe.ends_with(b"/tty") => Some(text(&exec.terminal)),
        _ => None,
    });
    let terminals: Vec<_> = below.map(|name| format!("/dev/{name}")).collect();
    assert_eq!(terminals, [said.trim()]);
}

/// Whatever bytes arguments are made of, they arrive as they are.
#[test]
fn hostile_arguments_arrive_as_they_are() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let hostile: [&[u8]; 5] = [b"", b"line\nbreak", b"\xff\xfe not text", b"\x1b[31mred\x07", b"\x01'\";--"];
    let mut command = Command::new("/bin/true");
    command.arg0(OsStr::from_bytes(b"")).args(hostile.iter().map(|argument| OsStr::from_bytes(argument)));
    let exec = exec_of(&mut command);
    assert_eq!(exec.argv[0], b"");
    assert_eq!(exec.argv[1..], hostile);
    assert!(!exec.argv_truncated);
}

/// A megabyte of arguments in pieces the kernel still takes.
#[test]
fn a_megabyte_of_arguments_is_cut_and_flagged() {
    let exec = exec_of(Command::new("/bin/true").args(std::iter::repeat_n("z".repeat(100_000), 10)));
    assert!(exec.argv_truncated);
    assert_eq!((text(&exec.filename), exec.argv.len()), ("/bin/true", 2));
}

/// No arguments at all: since 5.18 the kernel puts an empty one there.
#[test]
fn an_exec_without_arguments_is_seen() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let script = "import os,ctypes\nctypes.CDLL(None).execv(b'/bin/true', (ctypes.c_char_p * 1)(None))";
    let mut child = Command::new("/usr/bin/env").args(["python3", "-c", script]).spawn().expect("python starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let execs = watch.execs(pid);
    let last = execs.last().expect("it was executed");
    assert_eq!(text(&last.filename), "/bin/true");
    assert!(last.argv.is_empty() || last.argv == [b""], "{:?}", last.argv);
    watch.assert_balanced();
}

/// A name the process gave itself, with bytes that are no text.
#[test]
fn a_process_that_renames_itself_keeps_its_identity() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let script = "import ctypes,os\nctypes.CDLL(None).prctl(15, b'\\x1b[2J\\xff\\n evil', 0, 0, 0)\nos._exit(3)";
    let mut child = Command::new("/usr/bin/env").args(["python3", "-c", script]).spawn().expect("python starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let exits = watch.exits(pid);
    assert_eq!(exits.len(), 1);
    assert_eq!(&exits[0].subject.comm[..12], b"\x1b[2J\xff\n evil\0");
    assert_eq!(exits[0].subject.process, watch.execs(pid)[0].subject.process);
    watch.assert_balanced();
}

#[test]
fn sockets_as_standard_streams_are_seen() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let stream = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (pair, _other) = std::os::unix::net::UnixStream::pair().expect("made");
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = Command::new("/bin/true")
        .stdin(OwnedFd::from(stream))
        .stdout(OwnedFd::from(pair))
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let exec = watch.execs(pid)[0];
    assert_eq!(exec.flags, flag::STDIN_SOCKET | flag::STDIN_INET | flag::STDOUT_SOCKET);
    assert!(exec.stream_inodes[0].is_some() && exec.stream_inodes[1].is_some(), "{:?}", exec.stream_inodes);
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
