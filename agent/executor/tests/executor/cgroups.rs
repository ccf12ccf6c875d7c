//! Limits on memory and on block devices, and standing still.

use std::fs;

use skep_executor::act::hierarchy::Version;
use skep_wire::v1::{self, Step, command::Action};

use crate::support::{Agent, Busy, Executor, eventually};

const ACT: &str = "act = true\nactions = [\"limit_memory\", \"limit_io\", \"freeze\"]\n\
                   [limit_memory]\nmin_bytes = 1048576\n[limit_io]\nmin_bytes_per_s = 65536\n";

fn undo(executor: &mut Executor, agent: &mut Agent, action: &str) -> String {
    let undo = executor.undo(action);
    agent.execute(executor.sign(&undo));
    agent.expect(Step::Undone).detail
}

#[test]
fn a_frozen_cgroup_uses_nothing_until_it_goes_on() {
    let busy = Busy::start("freeze");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    eventually("a busy loop", || Some(busy.cores()).filter(|cores| *cores > 0.2));
    let command = executor.at_cgroup(&busy, Action::Freeze(v1::Freeze {}), 60);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    assert_eq!(agent.expect(Step::Improved).detail, "all its 1 processes stand still");
    assert!(busy.cores() < 0.001, "{} cores", busy.cores());
    let again = executor.at_cgroup(&busy, Action::Freeze(v1::Freeze {}), 60);
    assert!(agent.refused(executor.sign(&again)).contains("stands on cgroup"));
    assert_eq!(undo(&mut executor, &mut agent, &command.id), "an operator asked for it: it goes on");
    eventually("the loop to go on", || Some(busy.cores()).filter(|cores| *cores > 0.2));

    fs::write(busy.unified().join("cgroup.freeze"), "1").unwrap();
    let command = executor.at_cgroup(&busy, Action::Freeze(v1::Freeze {}), 60);
    agent.execute(executor.sign(&command));
    let moot = agent.expect(Step::Moot).detail;
    assert_eq!(moot, format!("trigger gone: {} is frozen already", busy.path));
}

#[test]
fn a_limit_on_writing_bites_and_goes() {
    let mut busy = Busy::idle("io");
    // On a disk, not in memory.
    let file = std::env::current_exe().unwrap().with_extension("io-test");
    let path = file.display();
    busy.run(&format!(
        "while :; do dd if=/dev/zero of={path} bs=64k count=64 oflag=direct conv=notrunc 2>/dev/null; done"
    ));
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let limit = v1::LimitIo { read_bytes_per_s: 0, write_bytes_per_s: 1 << 20 };
    let command = executor.at_cgroup(&busy, Action::LimitIo(limit), 60);
    agent.execute(executor.sign(&command));
    let applied = agent.expect(Step::Applied).detail;
    assert!(applied.contains("limited to writing at 1048576 bytes a second for 60 s"), "{applied}");
    let improved = agent.expect(Step::Improved).detail;
    assert!(improved.contains("bytes a second now"), "{improved}");
    let io = busy.hierarchies.io.clone().unwrap();
    let name = if io.version == Version::V1 { "blkio.throttle.write_bps_device" } else { "io.max" };
    let limits = || fs::read_to_string(io.folder(&busy.path).join(name)).unwrap();
    assert!(limits().contains("1048576"), "{}", limits());
    let undone = undo(&mut executor, &mut agent, &command.id);
    assert!(undone.contains("limits are as before"), "{undone}");
    assert_eq!(limits().trim(), "");
    busy.end();
    fs::remove_file(file).unwrap();
    let command = executor.at_cgroup(&busy, Action::LimitIo(limit), 60);
    agent.execute(executor.sign(&command));
    let moot = agent.expect(Step::Moot).detail;
    assert!(moot.contains("the cgroup moves 0 bytes a second") || moot.contains("no block device"), "{moot}");
}

#[test]
fn memory_is_limited_by_high_or_not_at_all() {
    let mut busy = Busy::idle("memory");
    busy.hold();
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let limit = Action::LimitMemory(v1::LimitMemory { high_bytes: 32 << 20 });
    let command = executor.at_cgroup(&busy, limit, 60);
    let memory = busy.hierarchies.memory.clone().expect("a memory controller");
    if memory.version == Version::V1 {
        let reason = agent.refused(executor.sign(&command));
        assert!(reason.contains("version 1, which has no memory.high"), "{reason}");
        return;
    }
    let dir = memory.folder(&busy.path);
    let bytes = || fs::read_to_string(dir.join("memory.current")).unwrap().trim().parse::<u64>().unwrap();
    let high = || fs::read_to_string(dir.join("memory.high")).unwrap();
    eventually("memory to be held", || (bytes() > 64 << 20).then_some(()));
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    assert_eq!(high().trim(), (32 << 20).to_string());
    assert_eq!(fs::read_to_string(dir.join("memory.max")).unwrap().trim(), "max", "nothing is killed by it");
    agent.receipt();
    assert_eq!(undo(&mut executor, &mut agent, &command.id), "an operator asked for it: no limit, as before");
    assert_eq!(high().trim(), "max");
}

#[test]
fn a_trigger_of_the_command_is_read_on_the_host() {
    let mut busy = Busy::idle("trigger");
    busy.run("exec sleep 600");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let mut command = executor.at_cgroup(&busy, Action::Freeze(v1::Freeze {}), 60);
    command.trigger = Some(v1::Trigger { signal: v1::Signal::CpuCores.into(), at_least: 0.5 });
    agent.execute(executor.sign(&command));
    let moot = agent.expect(Step::Moot);
    assert_eq!(moot.detail, "trigger gone: 0.000 cores now, the command is for 0.500 cores or more");
    assert_eq!(fs::read_to_string(busy.unified().join("cgroup.freeze")).unwrap().trim(), "0");
    let mut strange = executor.at_cgroup(&busy, Action::Freeze(v1::Freeze {}), 60);
    strange.trigger = Some(v1::Trigger { signal: v1::Signal::UnitDown.into(), at_least: 1.0 });
    assert!(agent.refused(executor.sign(&strange)).contains("its trigger is about a unit it has not"));
}

#[test]
fn a_path_that_means_other_processes_elsewhere_is_refused() {
    let mut busy = Busy::idle("elsewhere");
    if busy.hierarchies.unified.as_ref().is_some_and(|unified| unified.root == busy.hierarchy.root) {
        return; // One hierarchy: nothing is elsewhere.
    }
    busy.run("exec sleep 600");
    let mut stranger = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(busy.unified().join("cgroup.procs"), stranger.id().to_string()).unwrap();
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.at_cgroup(&busy, Action::Freeze(v1::Freeze {}), 60);
    let reason = agent.refused(executor.sign(&command));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(reason.contains(&format!("it holds pid {}, which is not of the target", stranger.id())), "{reason}");
}
