//! What deserves a look.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use skep_agent::probe::{
    Event, ProbeOptions,
    reading::{Security, SecurityEvent},
};

use crate::support::{Watch, shell};

/// Runs a piece of Python under the probes, and returns what it did that deserves a look.
fn acts_of(script: &str) -> (Vec<Security>, u32) {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = python(script);
    let pid = child.id();
    watch.until_ended(&mut child);
    watch.assert_balanced();
    let acts = watch.security(pid).into_iter().cloned().collect();
    assert!(child.wait().expect("it ended").success());
    (acts, pid)
}

fn python(script: &str) -> Child {
    let head = "import ctypes,os,struct\nlibc=ctypes.CDLL(None,use_errno=True)\n";
    Command::new("/usr/bin/env")
        .args(["python3", "-c", &format!("{head}{script}")])
        .stdin(Stdio::null())
        .spawn()
        .expect("python starts")
}

#[test]
fn changed_credentials_are_told_and_unchanged_ones_are_not() {
    let (acts, pid) = acts_of("os.setuid(0)\nos.setgid(0)\nos.setgid(7)\nos.setresuid(65534,65534,65534)");
    let [group, user] = acts.as_slice() else { panic!("{acts:?}") };
    assert_eq!((group.subject.process.pid, group.result), (pid, Some(0)));
    let SecurityEvent::Credentials { nr, ids, .. } = group.event else { panic!("{group:?}") };
    assert_eq!((i64::from(nr), ids), (libc::SYS_setgid, [(0, 0), (0, 0), (0, 7), (0, 7)]));
    let SecurityEvent::Credentials { nr, ids, capabilities } = user.event else { panic!("{user:?}") };
    assert_eq!((i64::from(nr), ids[0], ids[1]), (libc::SYS_setresuid, (0, 65_534), (0, 65_534)));
    assert!(capabilities.0 != 0 && capabilities.1 == 0, "{capabilities:x?}");
}

#[test]
fn tracing_another_process_is_told() {
    let mut sleeper = Command::new("/bin/sleep").arg("60").spawn().expect("it starts");
    let target = sleeper.id();
    let script = format!(
        "assert libc.ptrace(16,{target},0,0)==0\nos.waitpid({target},0)\nlibc.ptrace(17,{target},0,0)\nassert libc.ptrace(16,1<<21,0,0)==-1"
    );
    let (acts, _) = acts_of(&script);
    sleeper.kill().expect("it is there");
    sleeper.wait().expect("it ends");
    let told: Vec<_> = acts.iter().map(|act| (act.event.clone(), act.result)).collect();
    let attach = |target| SecurityEvent::Ptrace { target, request: 16 };
    assert_eq!(told, [(attach(target), Some(0)), (attach(1 << 21), Some(-i64::from(libc::ESRCH)))]);
}

#[test]
fn bpf_and_io_uring_of_others_are_told() {
    let script = "attr=ctypes.create_string_buffer(struct.pack('<IIII3I16s',2,4,8,1,0,0,0,b'suspect'),120)\n\
        assert libc.syscall(321,0,attr,72)>=0\n\
        params=ctypes.create_string_buffer(120)\n\
        struct.pack_into('<I',params,8,8)\n\
        libc.syscall(425,4,params)\n";
    let script = if cfg!(target_arch = "aarch64") { script.replace("321", "280") } else { script.to_owned() };
    let (acts, pid) = acts_of(&script);
    let told: Vec<_> = acts.iter().map(|act| act.event.clone()).collect();
    let map = SecurityEvent::Bpf { command: 0, kind: 2, name: b"suspect".to_vec() };
    assert_eq!(told, [map, SecurityEvent::IoUringSetup { entries: 4, flags: 8 }]);
    assert!(acts.iter().all(|act| act.subject.process.pid == pid));
    assert!(acts[0].result >= Some(0), "{:?}", acts[0]);
}

/// The agent's own programs and maps are no news.
#[test]
fn what_the_agent_makes_is_not_told() {
    let mut watch = Watch::start(&ProbeOptions::default());
    watch.flip();
    watch.flip();
    assert_eq!(watch.security(std::process::id()).len(), 0);
    watch.assert_balanced();
}

/// A control group with little memory, removed when dropped.
struct Confined(PathBuf);

impl Confined {
    fn new() -> Self {
        let (root, limit) = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
            .into_iter()
            .find(|(root, _)| fs::metadata(root).is_ok())
            .expect("control groups are mounted");
        drop(fs::write(format!("{root}/cgroup.subtree_control"), "+memory"));
        let folder = PathBuf::from(root).join(format!("skep-test-{}", std::process::id()));
        fs::create_dir(&folder).expect("a control group can be made: run the tests as root");
        fs::write(folder.join(limit), "33554432").expect("memory is controlled");
        // Without room elsewhere there is nothing left but to kill.
        for swap in ["memory.swap.max", "memory.swappiness"] {
            drop(fs::write(folder.join(swap), "0"));
        }
        Self(folder)
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

#[test]
fn a_process_killed_for_want_of_memory_is_told() {
    let group = Confined::new();
    let mut watch = Watch::start(&ProbeOptions::default());
    let procs = group.0.join("cgroup.procs");
    let script = "echo $$ > $0; exec python3 -c 'x=bytearray(256<<20)'";
    let mut child = shell(script, &[procs.to_str().expect("text")]).process_group(0).spawn().expect("the shell starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let victims = watch.events.iter().filter_map(|event| match event {
        Event::Security(seen) => Some(seen),
        _ => None,
    });
    let kills: Vec<_> = victims.filter(|seen| matches!(seen.event, SecurityEvent::OomKill { .. })).collect();
    let [kill] = kills.as_slice() else { panic!("{kills:?}") };
    assert_eq!((kill.subject.process.pid, kill.result), (pid, None));
    assert_eq!(kill.event, SecurityEvent::OomKill { wanted_by: pid, comm: b"python3".to_vec() });
    assert_eq!(watch.exits(pid)[0].signal, 9);
    watch.assert_balanced();
}

/// With system calls off, the calls that deserve a look are still seen, and no others are counted.
#[test]
fn security_stands_alone() {
    let only = ProbeOptions {
        cpu: false,
        off_cpu: false,
        syscall: false,
        tcp: false,
        process: false,
        block: false,
        ..ProbeOptions::default()
    };
    let mut watch = Watch::of_some(&only);
    let mut child = python("os.setgid(7)");
    let pid = child.id();
    watch.until_ended(&mut child);
    assert_eq!(watch.security(pid).len(), 1);
    assert!(watch.readings.iter().all(|reading| reading.syscalls.is_empty()));
    watch.assert_balanced();
}
