//! The packet filter, in network namespaces of the test's own: a host, somebody, and management.

use std::process::{Command, Stdio};

use skep_wire::v1::{self, Step, command::Action};

use crate::support::{Executor, eventually};

pub(crate) const CONFIG: &str = "act = true\nactions = [\"block\", \"isolate\"]\n[budget]\nmax_per_hour = 1000\n\
                      [network]\nmanagement = [\"198.51.100.0/24\"]\n";

/// Somebody's address, and management's.
const SOMEBODY: &str = "192.0.2.2";
const MANAGEMENT: &str = "198.51.100.2";

/// Three namespaces: the host, joined with the two others.
pub(crate) struct Net {
    host: String,
    others: [String; 2],
    server: std::process::Child,
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}

impl Net {
    pub(crate) fn make(name: &str) -> Self {
        let of = |role: &str| format!("skep-{role}-{name}-{}", std::process::id());
        let (host, others) = (of("h"), [of("s"), of("m")]);
        for namespace in [&host, &others[0], &others[1]] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        for (index, (other, net)) in others.iter().zip(["192.0.2", "198.51.100"]).enumerate() {
            ip(&format!("-n {host} link add v{index} type veth peer name eth0 netns {other}"));
            ip(&format!("-n {host} addr add {net}.1/24 dev v{index}"));
            ip(&format!("-n {host} link set v{index} up"));
            ip(&format!("-n {other} addr add {net}.2/24 dev eth0"));
            ip(&format!("-n {other} link set eth0 up"));
        }
        let server = Command::new("ip")
            .args(["netns", "exec", &host, "busybox", "httpd", "-f", "-p", "8080", "-h", "/"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let net = Self { host, others, server };
        net.nft(
            "add table inet theirs; add chain inet theirs in { type filter hook input priority 0; policy accept; }; \
                 add rule inet theirs in tcp dport 9999 drop",
        );
        eventually("the server", || net.reaches(0, 8080).then_some(()));
        net
    }

    fn nft(&self, text: &str) -> String {
        let output = Command::new("ip").args(["netns", "exec", &self.host, "nft", text]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether the other reaches the host's port.
    fn reaches(&self, other: usize, port: u16) -> bool {
        let address = if other == 0 { "192.0.2.1" } else { "198.51.100.1" };
        let script = format!("exec 3<>/dev/tcp/{address}/{port}");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.others[other], "timeout", "0.5", "bash", "-c", &script]);
        command.stderr(Stdio::null()).status().unwrap().success()
    }

    /// Whether the host's own loopback answers.
    fn loopback(&self) -> bool {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host, "timeout", "0.5", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080"]);
        command.stderr(Stdio::null()).status().unwrap().success()
    }

    /// Brings a program into the host's network and leaves its mounts as they are.
    pub(crate) fn prefix(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/run/netns/{}", self.host)]
    }

    /// Everything in the packet filter.
    pub(crate) fn rules(&self) -> String {
        self.nft("list ruleset")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
        for namespace in self.others.iter().chain([&self.host]) {
            Command::new("ip").args(["netns", "del", namespace]).status().ok();
        }
    }
}

pub(crate) fn address(address: &str) -> Action {
    Action::Block(v1::Block { address: address.to_owned(), ..v1::Block::default() })
}

fn port(port: u32, protocol: &str) -> Action {
    Action::Block(v1::Block { port, protocol: protocol.to_owned(), address: String::new() })
}

pub(crate) fn leased(executor: &mut Executor, action: Action, lease_s: u32) -> v1::Command {
    v1::Command { lease_s, ..executor.issue(action) }
}

#[test]
fn what_is_blocked_does_not_pass_until_it_is_undone_and_nobody_elses_rule_is_touched() {
    let net = Net::make("block");
    let theirs = net.rules();
    let mut executor = Executor::prepare(CONFIG, &net.prefix().each_ref().map(String::as_str));
    executor.restart();
    let mut agent = executor.agent();
    for (action, management_passes) in
        [(address(SOMEBODY), true), (port(8080, "tcp"), true), (address("192.0.2.0/24"), true)]
    {
        let command = leased(&mut executor, action, 60);
        agent.execute(executor.sign(&command));
        agent.expect(Step::Applied);
        assert_eq!(agent.expect(Step::Improved).detail, "it is in the packet filter");
        assert!(!net.reaches(0, 8080), "{command:?}");
        assert_eq!(net.reaches(1, 8080), management_passes, "{command:?}");
        assert!(net.rules().starts_with(theirs.trim_end_matches("}\n")), "{}", net.rules());
        let undo = executor.undo(&command.id);
        agent.execute(executor.sign(&undo));
        assert!(agent.expect(Step::Undone).detail.ends_with("it passes again"));
        assert!(net.reaches(0, 8080));
        assert_eq!(net.rules(), theirs, "nothing of ours is left");
    }
}

#[test]
fn an_isolated_host_is_reached_by_management_alone_and_the_kernel_ends_it_by_itself() {
    let net = Net::make("isolate");
    let theirs = net.rules();
    let mut executor = Executor::prepare(CONFIG, &net.prefix().each_ref().map(String::as_str));
    executor.restart();
    let mut agent = executor.agent();
    let command = leased(&mut executor, Action::Isolate(v1::Isolate {}), 3);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    agent.expect(Step::Improved);
    assert!(!net.reaches(0, 8080) && net.reaches(1, 8080) && net.loopback());
    // Nobody is there to undo it: the kernel does, some seconds after the lease.
    executor.kill();
    assert!(!net.reaches(0, 8080));
    eventually("the kernel to let go", || net.reaches(0, 8080).then_some(()));
    executor.restart();
    let mut agent = executor.agent();
    agent.expect(Step::Applied);
    agent.expect(Step::Improved);
    assert!(agent.expect(Step::Undone).detail.ends_with("it passes already"));
    assert_eq!(net.rules(), theirs);
}

#[test]
fn two_blocks_stand_side_by_side_and_an_extended_one_stands_longer() {
    let net = Net::make("two");
    let mut executor = Executor::prepare(CONFIG, &net.prefix().each_ref().map(String::as_str));
    executor.restart();
    let mut agent = executor.agent();
    let first = leased(&mut executor, address(SOMEBODY), 3);
    let second = leased(&mut executor, address("203.0.113.0/24"), 60);
    for command in [&first, &second] {
        agent.execute(executor.sign(command));
        agent.expect(Step::Applied);
        agent.expect(Step::Improved);
    }
    let extend = leased(&mut executor, Action::Extend(v1::Extend { action_id: first.id.clone() }), 60);
    agent.execute(executor.sign(&extend));
    let extended = agent.expect(Step::Extended);
    assert_eq!((extended.action_id.as_str(), extended.detail.as_str()), (first.id.as_str(), "60 more seconds"));
    std::thread::sleep(std::time::Duration::from_secs(9));
    assert!(!net.reaches(0, 8080), "the kernel knows of it too");
    let undo = executor.undo(&first.id);
    agent.execute(executor.sign(&undo));
    agent.expect(Step::Undone);
    assert!(net.reaches(0, 8080));
    assert!(net.rules().contains("203.0.113.0/24"), "the other one stands");
    assert_eq!(executor.terminate(), Some(0));
    assert!(!net.rules().contains("skep"), "{}", net.rules());
}

#[test]
fn whom_nobody_may_cut_off_is_refused() {
    let net = Net::make("refuse");
    let mut executor = Executor::prepare(CONFIG, &net.prefix().each_ref().map(String::as_str));
    executor.restart();
    let mut agent = executor.agent();
    for (action, why) in [
        (address(MANAGEMENT), "address 198.51.100.2 is protected: 198.51.100.0/24 is management"),
        (address("198.0.0.0/8"), "address 198.0.0.0/8 is protected: 198.51.100.0/24 is management"),
        (address("0.0.0.0/0"), "address 0.0.0.0/0 is protected: it holds this host itself"),
        (address("127.0.0.1"), "address 127.0.0.1 is protected: it holds this host itself"),
        (address("::1"), "address ::1 is protected: it holds this host itself"),
        (address("192.0.2.2; drop"), "the command cannot be understood: its address is none"),
        (port(22, "tcp"), "port 22/tcp is protected: the host is reached and run by it"),
        (port(80, "sctp"), "the command cannot be understood: its protocol is neither tcp nor udp"),
        (port(0, "tcp"), "the command cannot be understood: it blocks neither an address nor a port"),
        (port(70_000, "tcp"), "the command cannot be understood: it blocks neither an address nor a port"),
    ] {
        let command = leased(&mut executor, action, 60);
        assert_eq!(agent.refused(executor.sign(&command)), why);
    }
    executor.kill();
    std::fs::write(executor.dir.path().join("executor.toml"), "act = true\nactions = [\"isolate\"]\n").unwrap();
    executor.restart();
    let mut agent = executor.agent();
    (0..10).for_each(|_| drop(agent.expect(Step::Refused)));
    let command = leased(&mut executor, Action::Isolate(v1::Isolate {}), 60);
    let reason = agent.refused(executor.sign(&command));
    assert!(reason.contains("network.management names nobody"), "{reason}");
    assert!(!net.rules().contains("skep"));
}
