//! Three nodes in network namespaces: a service that is cut off from its own node only is let be, for the others see that it
//! is well; one that hangs for all is restarted.
//!
//! Needs root, the real kernel, iproute2, nftables and busybox.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use serde_json::Value;
use skep_tests::{PATIENCE, UNLIMITED, binary, eventually, json_rows, send};

const HUB: &str = "10.77.0.254";

const SHOP: &str = "10.77.0.1:8080";

const POLICY: &str = "[[rule]]\nname = \"hanging-shop\"\nfinding = \"check-failed\"\nmode = \"auto\"\naction = \"run\"\n\
                      parameters = \"name=restart-shop\"\nquorum = 2\nverify_s = 5\n";

/// All a node watches here is its checks.
const QUIET: &str = "[canary]\ninterval = \"0\"\n[probes]\ncpu = false\nsyscall = false\ntcp = false\nsocket = false\n\
                     security = false\nblock = false\n";

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {words}");
}

/// Namespaces: a hub where the collector is, and three nodes around it.
struct Net(Vec<String>);

impl Net {
    fn make() -> Self {
        let names = ["hub", "n1", "n2", "n3"].map(|role| format!("skep-q-{role}-{}", std::process::id()));
        let net = Self(names.to_vec());
        for name in &net.0 {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        let hub = &net.0[0];
        ip(&format!("-n {hub} link add br0 type bridge"));
        ip(&format!("-n {hub} addr add {HUB}/24 dev br0"));
        ip(&format!("-n {hub} link set br0 up"));
        for (at, node) in net.0.iter().enumerate().skip(1) {
            ip(&format!("-n {hub} link add v{at} type veth peer name eth0 netns {node}"));
            ip(&format!("-n {hub} link set v{at} master br0"));
            ip(&format!("-n {hub} link set v{at} up"));
            ip(&format!("-n {node} addr add 10.77.0.{at}/24 dev eth0"));
            ip(&format!("-n {node} link set eth0 up"));
        }
        net
    }

    /// A program in a namespace, with the mounts of everybody.
    fn inside(&self, at: usize, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.0[at])).arg(program).stdin(Stdio::null());
        command
    }

    fn nft(&self, at: usize, text: &str) {
        let status = self.inside(at, Path::new("nft")).arg(text).status().expect("nftables is installed");
        assert!(status.success(), "nft {text}");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.0 {
            Command::new("ip").args(["netns", "del", name]).status().ok();
        }
    }
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Everything that runs, in the order it is to be stopped.
struct Fleet {
    running: Vec<Process>,
    shop: Process,
    net: Net,
    folder: tempfile::TempDir,
}

impl Fleet {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let net = Net::make();
        papers(folder.path());
        let shop = shop(&net, folder.path());
        let mut fleet = Self { running: Vec::new(), shop, net, folder };
        let collector = fleet.collector();
        let executor = fleet.executor();
        fleet.running.push(executor);
        for at in 1..=3 {
            let agent = fleet.agent(at, &collector);
            fleet.running.insert(0, agent);
        }
        fleet
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, at: usize, name: &str) -> Command {
        let log = std::fs::File::options().append(true).create(true).open(self.path(&format!("{name}-{at}.log")));
        let log = log.expect("a log");
        let mut command = self.net.inside(at, &binary(name));
        command.stdout(log.try_clone().expect("a log")).stderr(log).envs([UNLIMITED]);
        command
    }

    fn papers(&self, command: &mut Command, who: &str) {
        let tls = self.path("data/tls");
        command.arg("--ca").arg(tls.join("ca.pem"));
        command.arg("--cert").arg(tls.join(format!("{who}.pem"))).arg("--key").arg(tls.join(format!("{who}.key")));
    }

    /// Starts it; where it listens.
    fn collector(&mut self) -> String {
        let data = self.path("data");
        std::fs::write(self.path("policy.toml"), POLICY).expect("a policy");
        let mut command = self.program(0, "skep-collector");
        command.arg("serve");
        self.papers(&mut command, "collector");
        command.arg("--data").arg(&data).args(["--listen", &format!("{HUB}:0")]);
        command.arg("--command-key").arg(data.join("tls/command.key")).arg("--policy").arg(self.path("policy.toml"));
        self.running.push(Process(command.spawn().expect("it starts")));
        eventually("the collector to listen", PATIENCE, || {
            let text = std::fs::read(data.join("endpoint.json")).ok()?;
            let endpoint: Value = serde_json::from_slice(&text).ok()?;
            Some(format!("https://{}", endpoint["grpc"].as_str()?))
        })
    }

    fn executor(&self) -> Process {
        let restart = self.path("restart.sh");
        let pid = self.path("shop.pid");
        std::fs::write(&restart, format!("kill -9 $(cat {})\n", pid.display())).expect("a script");
        let config = format!(
            "act = true\nactions = [\"run\"]\n[[run.command]]\nname = \"restart-shop\"\nargv = [\"/bin/sh\", \"{}\"]\n",
            restart.display()
        );
        std::fs::write(self.path("executor.toml"), config).expect("a configuration");
        let mut command = self.program(1, "skep-executor");
        command.arg("--socket").arg(self.path("executor.sock")).arg("--state-dir").arg(self.path("executor"));
        command.arg("--trusted-key").arg(self.path("data/tls/command.pub")).args(["--node", "n1"]);
        command.arg("--config").arg(self.path("executor.toml"));
        Process(command.spawn().expect("it starts"))
    }

    /// The first looks after the shop; the others are only there.
    fn agent(&self, at: usize, collector: &str) -> Process {
        let shop = format!(
            "{QUIET}[[check]]\nname = \"shop\"\nkind = \"http\"\ntarget = \"http://{SHOP}/\"\ninterval = \"500ms\"\n\
             timeout = \"1s\"\nretries = 1\nunit = \"shop.service\"\n"
        );
        let settings = self.path(&format!("agent-{at}.toml"));
        std::fs::write(&settings, if at == 1 { &shop } else { QUIET }).expect("settings");
        let mut command = self.program(at, "skep-agent");
        self.papers(&mut command, &format!("n{at}"));
        command.args(["--window", "1s", "--pin", "", "--collector", collector]).arg("--config").arg(settings);
        command.arg("--state-dir").arg(self.path(&format!("state-{at}")));
        if at == 1 {
            command.arg("--executor-socket").arg(self.path("executor.sock"));
        }
        Process(command.spawn().expect("it starts"))
    }

    fn skep(&self, args: &[&str]) -> Output {
        let mut command = self.net.inside(0, &binary("skep"));
        command.args(args).arg("--data").arg(self.path("data")).output().expect("skep runs")
    }

    fn rows(&self, sql: &str) -> Vec<Value> {
        let output = self.skep(&["query", "--format", "json", sql]);
        if output.status.success() { json_rows(&output.stdout) } else { Vec::new() }
    }

    /// The newest finding whose title begins so, raised since the one before.
    fn finding(&self, title: &str, severity: &str) -> String {
        let sql = format!(
            "SELECT finding FROM findings WHERE title LIKE '{title}%' AND severity = '{severity}' AND time = \
             (SELECT max(time) FROM findings WHERE rule = 'check-failed')"
        );
        eventually(&sql, PATIENCE, || self.rows(&sql).first()?["finding"].as_str().map(str::to_owned))
    }

    fn explained(&self, id: &str) -> String {
        let output = self.skep(&["explain", id]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(self.path("starts")).unwrap_or_default().lines().count()
    }

    fn stop(mut self) {
        for mut process in self.running.drain(..) {
            send(process.0.id(), Signal::TERM);
            let status = eventually("it to stop", PATIENCE, || process.0.try_wait().expect("wait"));
            assert!(status.success(), "it ended with {status}");
        }
        let (data, key) = (self.path("data"), self.path("data/tls/command.pub"));
        let [data, key] = [&data, &key].map(|path| path.to_str().expect("a plain path"));
        let verified = self.skep(&["audit", "verify", data, "--key", key]);
        assert!(verified.status.success(), "{verified:?}");
    }
}

/// A server that is started again whenever it ends; its process id and a line for each start are in files.
fn shop(net: &Net, folder: &Path) -> Process {
    let dir = folder.display();
    let script = format!(
        "while :; do busybox httpd -f -p {SHOP} -h {dir}/page & echo $! > {dir}/shop.pid; echo >> {dir}/starts; wait; done"
    );
    std::fs::create_dir(folder.join("page")).expect("a folder");
    std::fs::write(folder.join("page/index.html"), "welcome").expect("a page");
    let mut command = net.inside(1, Path::new("/bin/bash"));
    Process(command.args(["-c", &script]).spawn().expect("bash starts"))
}

impl Fleet {
    fn shop_pid(&self) -> u32 {
        std::fs::read_to_string(self.path("shop.pid")).expect("it runs").trim().parse().expect("a process id")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shop.0.kill().ok();
        if let Ok(pid) = std::fs::read_to_string(self.path("shop.pid")) {
            Command::new("kill").args(["-9", pid.trim()]).status().ok();
        }
    }
}

fn papers(folder: &Path) {
    let tls = folder.join("data/tls");
    std::fs::create_dir_all(&tls).expect("a folder");
    let write = |file: &str, text: &str| std::fs::write(tls.join(file), text).expect("a file");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test authority");
    let key = KeyPair::generate().expect("a key");
    write("ca.pem", &params.self_signed(&key).expect("a certificate").pem());
    let issuer = Issuer::new(params, key);
    let agents = ["n1", "n2", "n3"].map(|node| (node, "agent", node));
    let others = [("collector", "collector", "localhost"), ("operator", "operator", "olga")];
    for (file, role, name) in agents.into_iter().chain(others) {
        let mut params = CertificateParams::new(vec![name.to_owned(), HUB.to_owned()]).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, role);
        let key = KeyPair::generate().expect("a key");
        write(&format!("{file}.pem"), &params.signed_by(&key, &issuer).expect("a certificate").pem());
        write(&format!("{file}.key"), &key.serialize_pem());
    }
    let signing = SigningKey::from_bytes(&[7; 32]);
    write("command.key", &signing.to_pkcs8_pem(LineEnding::LF).expect("a key"));
    write("command.pub", &signing.verifying_key().to_public_key_pem(LineEnding::LF).expect("a key"));
}

#[test]
fn what_is_cut_off_from_one_is_not_restarted_and_what_hangs_for_all_is() {
    let fleet = Fleet::start();
    eventually("three nodes and a shop that is well", PATIENCE, || {
        let output = fleet.skep(&["nodes", "--format", "json"]);
        let nodes = if output.status.success() { json_rows(&output.stdout) } else { Vec::new() };
        let connected = nodes.iter().filter(|node| node["connected"] == true).count();
        (connected == 3 && !fleet.rows("SELECT name FROM checks WHERE ok = true LIMIT 1").is_empty()).then_some(())
    });

    fleet.net.nft(
        1,
        "add table inet cut; add chain inet cut in { type filter hook input priority 0; policy accept; }; \
         add rule inet cut in iif lo tcp dport 8080 drop",
    );
    let cut_off = fleet.finding("shop is down", "medium");
    let sql = format!("SELECT detail FROM audit WHERE subject = '{cut_off}' AND step = 'no quorum'");
    let why = eventually("the quorum to say no", PATIENCE, || fleet.rows(&sql).first().cloned());
    let why = why["detail"].as_str().expect("a reason");
    // The first of them who sees it well decides; what the other says may come later.
    let says = |peer: &str| why.contains(&format!("{peer} says it is well"));
    assert!(why.starts_with("not done: 0 of 2 peers see it down, 2 must: n2 ") && (says("n2") || says("n3")), "{why}");
    let explained = fleet.explained(&cut_off);
    assert!(explained.contains("no quorum: not done: 0 of 2 peers") && explained.contains("nothing"), "{explained}");
    fleet.net.nft(1, "delete table inet cut");
    fleet.finding("shop is well again", "info");
    assert_eq!((fleet.starts(), fleet.rows("SELECT action FROM actions").len()), (1, 0), "nothing was done to it");

    send(fleet.shop_pid(), Signal::STOP);
    let broken = fleet.finding("shop is down", "medium");
    fleet.finding("shop is well again", "info");
    assert_eq!(fleet.starts(), 2);
    let sql = format!("SELECT action FROM actions WHERE finding = '{broken}' AND state = 'done'");
    let action = eventually("the restart to be done", PATIENCE, || fleet.rows(&sql).first().cloned());
    let explained = fleet.explained(action["action"].as_str().expect("an id"));
    for said in ["2 of 2 peers see it down", "n2 sees it down", "n3 sees it down", "no answer within 3s"] {
        assert!(explained.contains(said), "{said} is missing: {explained}");
    }
    fleet.stop();
}
