//! `kill -9` at every step of every action that can be undone: whatever the step, the next start leaves the host as it
//! was before the command, and the journal with nothing standing.

use std::fs;

use skep_executor::fault::{ENVIRONMENT, POINTS};
use skep_wire::v1::{self, ContainerVerb, UnitVerb, command::Action};

use crate::containers::{self, Podman};
use crate::network::{self, Net};
use crate::support::{Agent, Busy, Executor, eventually};
use crate::units;

const CGROUPS: &str = "act = true\nactions = [\"throttle\", \"limit_memory\", \"limit_io\", \"freeze\"]\n\
                       [budget]\nmax_per_hour = 1000\n[limit_io]\nmin_bytes_per_s = 65536\n\
                       [limit_memory]\nmin_bytes = 1048576\n";

/// How many commands of one kind were tried, and how many of them ended where they were to.
struct Case<'a> {
    executor: Executor,
    environment: Vec<(&'a str, String)>,
    command: Box<dyn FnMut(&mut Executor) -> v1::Command + 'a>,
    /// All of the host that the action may change.
    host: Box<dyn Fn() -> String + 'a>,
    /// It is measured first, so that there is a point in between.
    is_observed: bool,
}

impl Case<'_> {
    /// Dies at every point, one after another.
    fn run(mut self) {
        let before = (self.host)();
        let mut died = Vec::new();
        for point in POINTS {
            if point == "observed" && !self.is_observed {
                continue;
            }
            let environment = self.environment(point);
            self.executor.restart_with(&environment.iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>());
            let mut agent = self.executor.agent();
            acknowledge(&mut agent);
            let command = (self.command)(&mut self.executor);
            agent.execute(self.executor.sign(&command));
            if matches!(point, "undoing" | "undone" | "closed") {
                eventually("the applied receipt", || {
                    agent.try_receipt().filter(|receipt| receipt.action_id == command.id)
                });
                let undo = self.executor.undo(&command.id);
                agent.execute(self.executor.sign(&undo));
            }
            assert_eq!(self.executor.ended(), Some(9), "at {point}: {}", self.executor.log());
            let between = (self.host)();
            let environment = self.environment("nowhere");
            self.executor.restart_with(&environment.iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>());
            eventually(&format!("the host as it was, after {point}: {between:?}"), || {
                ((self.host)() == before).then_some(())
            });
            let mut agent = self.executor.agent();
            assert!(agent.status().active.is_empty(), "after {point}");
            // Not once more, either: the command was seen.
            acknowledge(&mut agent);
            let reason = agent.refused(self.executor.sign(&command));
            assert_eq!(reason, "the command was carried out or refused before", "after {point}");
            self.executor.kill();
            died.push((point, between != before));
        }
        let changed: Vec<&str> = died.iter().filter(|(_, changed)| *changed).map(|(point, _)| *point).collect();
        assert!(changed.contains(&"applied") && changed.contains(&"told"), "it never changed anything: {died:?}");
        assert!(!changed.contains(&"journalled") && !changed.contains(&"undone"), "{died:?}");
    }

    fn environment(&self, point: &str) -> Vec<(&'static str, String)> {
        let others = self.environment.iter().map(|(name, value)| {
            assert_eq!(*name, "DBUS_SYSTEM_BUS_ADDRESS", "is not passed on");
            ("DBUS_SYSTEM_BUS_ADDRESS", value.clone())
        });
        others.chain([(ENVIRONMENT, point.to_owned())]).collect()
    }
}

/// Takes all receipts there are.
fn acknowledge(agent: &mut Agent) {
    let ack = v1::ReceiptAck { durable_number: agent.last_receipt() };
    agent.send(v1::executor_request::Request::ReceiptAck(ack));
    agent.status();
}

fn cgroup_case<'a>(busy: &'a Busy, action: Action, files: &[&'a str]) -> Case<'a> {
    let hierarchies = [&busy.hierarchies.memory, &busy.hierarchies.io, &busy.hierarchies.unified];
    let folders =
        hierarchies.into_iter().flatten().map(|hierarchy| hierarchy.folder(&busy.path)).chain([busy.dir.clone()]);
    let files: Vec<_> =
        folders.flat_map(|dir| files.iter().map(move |file| dir.join(file))).filter(|file| file.exists()).collect();
    assert!(!files.is_empty());
    Case {
        executor: Executor::prepare(CGROUPS, &[]),
        environment: Vec::new(),
        is_observed: !matches!(action, Action::Freeze(_)),
        command: Box::new(move |executor| executor.at_cgroup(busy, action.clone(), 300)),
        host: Box::new(move || files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()),
    }
}

#[test]
fn a_throttle_survives_no_death() {
    let busy = Busy::start("die-throttle");
    let action = Action::Throttle(v1::Throttle { cpu_millicores: 100 });
    cgroup_case(&busy, action, &["cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"]).run();
}

#[test]
fn a_limit_on_io_survives_no_death() {
    let mut busy = Busy::idle("die-io");
    let file = std::env::current_exe().unwrap().with_extension("io-die-test");
    let path = file.display();
    busy.run(&format!(
        "while :; do dd if=/dev/zero of={path} bs=64k count=64 oflag=direct conv=notrunc 2>/dev/null; done"
    ));
    let action = Action::LimitIo(v1::LimitIo { read_bytes_per_s: 1 << 20, write_bytes_per_s: 1 << 20 });
    let files = ["io.max", "blkio.throttle.write_bps_device", "blkio.throttle.read_bps_device"];
    cgroup_case(&busy, action, &files).run();
    drop(busy);
    fs::remove_file(file).unwrap();
}

#[test]
fn a_limit_on_memory_survives_no_death() {
    let mut busy = Busy::idle("die-memory");
    let memory = busy.hierarchies.memory.clone().expect("a memory controller");
    if memory.version == skep_executor::act::hierarchy::Version::V1 {
        return; // There is none there, see `memory_is_limited_by_high_or_not_at_all`.
    }
    busy.hold();
    let current = memory.folder(&busy.path).join("memory.current");
    let bytes = || fs::read_to_string(&current).unwrap().trim().parse::<u64>().unwrap();
    eventually("memory to be held", || (bytes() > 64 << 20).then_some(()));
    let action = Action::LimitMemory(v1::LimitMemory { high_bytes: 32 << 20 });
    cgroup_case(&busy, action, &["memory.high"]).run();
}

#[test]
fn a_freeze_survives_no_death() {
    let busy = Busy::start("die-freeze");
    cgroup_case(&busy, Action::Freeze(v1::Freeze {}), &["cgroup.freeze"]).run();
}

fn network_case(net: &Net, action: Action) -> Case<'_> {
    Case {
        executor: Executor::prepare(network::CONFIG, &net.prefix().each_ref().map(String::as_str)),
        environment: Vec::new(),
        is_observed: false,
        command: Box::new(move |executor| network::leased(executor, action.clone(), 300)),
        host: Box::new(|| net.rules()),
    }
}

#[test]
fn a_block_survives_no_death() {
    let net = Net::make("die-block");
    network_case(&net, network::address("192.0.2.2")).run();
}

#[test]
fn an_isolation_survives_no_death() {
    let net = Net::make("die-isolate");
    network_case(&net, Action::Isolate(v1::Isolate {})).run();
}

#[test]
fn a_paused_container_survives_no_death() {
    let podman = Podman::serve();
    podman.start("web");
    let case = Case {
        executor: Executor::prepare(&podman.config(), &[]),
        environment: Vec::new(),
        is_observed: false,
        command: Box::new(|executor| containers::change(executor, ContainerVerb::Pause, "web", 300)),
        host: Box::new(|| podman.says("web", "{{.State.Status}} {{.State.StartedAt}}")),
    };
    case.run();
}

#[test]
fn a_stopped_unit_survives_no_death() {
    let boxed = units::boot();
    boxed.inside(&["systemctl", "start", units::WEB]);
    let case = Case {
        executor: Executor::prepare(units::CONFIG, &[]),
        environment: vec![("DBUS_SYSTEM_BUS_ADDRESS", boxed.bus())],
        is_observed: false,
        command: Box::new(|executor| units::change(executor, UnitVerb::Stop, units::WEB, "", 600)),
        // A stop takes its time: what counts is what systemd was told.
        host: Box::new(|| {
            let state = boxed.property(units::WEB, "ActiveState");
            if state == "active" { state } else { "stopped".to_owned() }
        }),
    };
    case.run();
}
