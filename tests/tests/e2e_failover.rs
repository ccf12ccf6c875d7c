//! One agent and two collectors that are killed in turn: what one of them lacks the other has.
//!
//! Needs root and the real kernel.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use skep_tests::truth::Generator;
use skep_tests::{PATIENCE, UNLIMITED, binary, eventually, json_rows, need_bpf_fs, query, send, skep};

const NODE: &str = "n1";

/// A collector that cannot be reached is left within this, on a loaded machine.
const SOON: Duration = Duration::from_secs(15);

/// Folders and papers of everybody.
struct Ground {
    temp: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { temp: tempfile::tempdir().expect("a folder") };
        for who in ["one", "two"] {
            std::fs::create_dir_all(ground.path(who).join("tls")).expect("a folder");
        }
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        ground.write("ca.pem", &params.self_signed(&key).expect("a certificate").pem());
        let issuer = Issuer::new(params, key);
        for (file, name) in [("collector", "localhost"), ("operator", "olga"), ("agent", NODE)] {
            let names = vec![name.to_owned(), "127.0.0.1".to_owned()];
            let mut params = CertificateParams::new(names).expect("names");
            params.distinguished_name.push(DnType::CommonName, name);
            params.distinguished_name.push(DnType::OrganizationalUnitName, file);
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            ground.write(&format!("{file}.pem"), &certificate.pem());
            ground.write(&format!("{file}.key"), &key.serialize_pem());
        }
        let signing = SigningKey::from_bytes(&[7; 32]).to_pkcs8_pem(LineEnding::LF).expect("a key");
        ground.write("command.key", &signing);
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// A paper, where `skep --data` looks for it.
    fn write(&self, file: &str, text: &str) {
        for who in ["one", "two"] {
            std::fs::write(self.path(who).join("tls").join(file), text).expect("a file");
        }
    }

    /// A program with its papers, `first` in front of them.
    fn command(&self, program: &str, first: &[&str], papers: &str, log: &str) -> Command {
        let tls = self.path("one").join("tls");
        let log = std::fs::File::options().append(true).create(true).open(self.path(log)).expect("a log");
        let mut command = Command::new(binary(program));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log).args(first);
        command.arg("--ca").arg(tls.join("ca.pem"));
        command.arg("--cert").arg(tls.join(papers).with_extension("pem"));
        command.arg("--key").arg(tls.join(papers).with_extension("key"));
        command
    }

    /// Starts a collector on a port, 0 for any, and waits until it listens.
    fn collector(&self, name: &str, port: u16) -> Collector {
        let data = self.path(name);
        let mut command = self.command("skep-collector", &["serve"], "collector", &format!("{name}.log"));
        command.arg("--data").arg(&data).args(["--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--command-key").arg(data.join("tls/command.key"));
        let child = Process(command.spawn().expect("it starts"));
        let pid = u64::from(child.0.id());
        let port = eventually("the collector to listen", PATIENCE, || {
            let text = std::fs::read(data.join("endpoint.json")).ok()?;
            let endpoint: serde_json::Value = serde_json::from_slice(&text).ok()?;
            let address = endpoint["grpc"].as_str().filter(|_| endpoint["pid"].as_u64() == Some(pid))?;
            address.rsplit_once(':')?.1.parse().ok()
        });
        Collector { child, data, port }
    }

    fn agent(&self, collectors: [&Collector; 2], pin: &Path) -> Process {
        let urls = collectors.map(|collector| format!("https://127.0.0.1:{}", collector.port));
        let mut command = self.command("skep-agent", &[], "agent", "agent.log");
        command.args(["--window", "1s", "--collector", &urls.join(",")]);
        command.arg("--state-dir").arg(self.path("state")).arg("--pin").arg(pin).envs([UNLIMITED]);
        Process(command.spawn().expect("it starts"))
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

/// Killed when dropped.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        self.0.kill().expect("it is killed");
        self.0.wait().expect("it ends");
    }

    fn stop(mut self) {
        send(self.0.id(), Signal::TERM);
        let status = eventually("it to stop", PATIENCE, || self.0.try_wait().expect("wait"));
        assert!(status.success(), "it ended with {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
}

struct Collector {
    child: Process,
    data: PathBuf,
    port: u16,
}

impl Collector {
    /// Waits until the node is connected; returns its line of `skep nodes`.
    fn has_node(&self, within: Duration) -> serde_json::Value {
        eventually("the node to be connected", within, || {
            let output = skep(&self.data, &["nodes", "--format", "json"]);
            let nodes = if output.status.success() { json_rows(&output.stdout) } else { Vec::new() };
            nodes.into_iter().find(|node| node["node"] == NODE && node["connected"] == true)
        })
    }

    /// As it was given by the statement, by (stream, sequence); nothing while it does not answer.
    fn batches(&self, sql: &str) -> BTreeMap<(String, i64), i64> {
        let output = skep(&self.data, &["query", "--format", "json", sql]);
        let rows = if output.status.success() { json_rows(&output.stdout) } else { Vec::new() };
        by_batch(&rows)
    }
}

fn by_batch(rows: &[serde_json::Value]) -> BTreeMap<(String, i64), i64> {
    let text = |row: &serde_json::Value| row["stream"].as_str().expect("a stream").to_owned();
    let number = |row: &serde_json::Value, name: &str| row[name].as_i64().unwrap_or(0);
    rows.iter().map(|row| ((text(row), number(row, "seq")), number(row, "n"))).collect()
}

/// What both have, each batch once.
fn both(folders: [&Path; 2], sql: &str) -> BTreeMap<(String, i64), i64> {
    let [mut all, other] = folders.map(|folder| by_batch(&query(folder, sql)));
    for (batch, n) in other {
        let known = all.insert(batch.clone(), n);
        assert!(known.is_none_or(|known| known == n), "two versions of {batch:?}: {known:?} and {n}: {sql}");
    }
    all
}

fn sum(batches: &BTreeMap<(String, i64), i64>) -> i64 {
    batches.values().sum()
}

/// `what` of each batch's rows.
fn batches_sql(what: &str, rows: &str) -> String {
    format!("SELECT stream, seq, CAST({what} AS BIGINT) AS n FROM {rows} GROUP BY stream, seq")
}

fn getppid_sql(generator: &Generator) -> String {
    batches_sql("sum(count)", &format!("syscalls WHERE pid = {} AND syscall = 'getppid'", generator.pid()))
}

/// Waits until the collectors together have what the generator did.
fn wait_for(generator: &Generator, collectors: &[&Collector]) {
    eventually("all getppid calls to be stored", PATIENCE, || {
        let mut all = BTreeMap::new();
        collectors.iter().for_each(|collector| all.extend(collector.batches(&getppid_sql(generator))));
        (sum(&all) >= generator.truth("getppid")).then_some(())
    });
}

#[test]
fn two_collectors_killed_in_turn_have_everything_between_them() {
    need_bpf_fs();
    let ground = Ground::new();
    let (mut one, mut two) = (ground.collector("one", 0), ground.collector("two", 0));
    let pin = PathBuf::from(format!("/sys/fs/bpf/skep-failover-{}", std::process::id()));
    let agent = ground.agent([&one, &two], &pin);
    assert_eq!(one.has_node(PATIENCE)["collector_place"], 1);

    let child = Generator::start();
    std::thread::sleep(Duration::from_millis(700));
    one.child.kill();
    let killed = Instant::now();
    assert_eq!(two.has_node(SOON)["collector_place"], 2);
    println!("the second one was gone on with {:?} after the first one was killed", killed.elapsed());
    let mut first = Generator::finish(child);
    let (data, port) = (one.data.clone(), one.port);
    one = ground.collector("one", port);
    wait_for(&first, &[&one, &two]);
    first.end();

    let child = Generator::start();
    std::thread::sleep(Duration::from_millis(700));
    two.child.kill();
    let killed = Instant::now();
    one.has_node(SOON);
    println!("the first one was gone on with {:?} after the second one was killed", killed.elapsed());
    let mut second = Generator::finish(child);
    let port = two.port;
    two = ground.collector("two", port);
    wait_for(&second, &[&one, &two]);
    second.end();

    agent.stop();
    let detached = Command::new(binary("skep-agent")).args(["detach", "--pin"]).arg(&pin).output().expect("it runs");
    assert!(detached.status.success(), "{}", String::from_utf8_lossy(&detached.stderr));
    let folders = [data, two.data.clone()];
    one.child.stop();
    two.child.stop();
    assert_whole([&folders[0], &folders[1]], &[first, second]);
    let log = ground.log("agent.log");
    assert_eq!(log.matches("going on with").count(), 2, "a line for each change: {log}");
}

/// Every batch is with one of them, none is called lost, and each event is there once.
fn assert_whole(folders: [&Path; 2], generators: &[Generator]) {
    let mut seqs: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut every = BTreeMap::new();
    for table in skep_wire::tables::TABLES {
        every.extend(both(folders, &batches_sql("count(*)", &format!("{} WHERE node = '{NODE}'", table.name))));
    }
    every.keys().for_each(|(stream, seq)| seqs.entry(stream.clone()).or_default().push(*seq));
    assert_eq!(seqs.len(), 1, "one agent, one stream");
    for seqs in seqs.values() {
        assert_eq!(*seqs, (1..=seqs.len() as i64).collect::<Vec<_>>(), "every number is with one of them");
    }
    for folder in folders {
        let lost = "SELECT reason, detail FROM loss WHERE attempted IS NULL OR reason IN ('rejected', 'spool_evicted')";
        assert_eq!(query(folder, lost), Vec::<serde_json::Value>::new(), "no batch is lost");
    }
    for generator in generators {
        let pid = generator.pid();
        assert_eq!(sum(&both(folders, &getppid_sql(generator))), generator.truth("getppid"), "getppid calls");
        for (rows, truth) in [
            (format!("processes WHERE parent_pid = {pid} AND event = 'exec'"), "execs"),
            (format!("connections WHERE pid = {pid} AND direction = 'connect' AND event = 'open'"), "connects"),
            (format!("connections WHERE pid = {pid} AND direction = 'accept' AND event = 'close'"), "connects"),
        ] {
            assert_eq!(sum(&both(folders, &batches_sql("count(*)", &rows))), generator.truth(truth), "{rows}");
        }
    }
    for (probe, what, rows) in [
        ("exec", "count(*)", "processes WHERE event = 'exec'"),
        ("exit", "count(*)", "processes WHERE event = 'exit'"),
        ("tcp", "count(*)", "connections"),
        ("syscall", "sum(count)", "syscalls"),
        ("cpu", "sum(slices)", "cpu"),
    ] {
        let ledger = |column: &str| {
            let rows = format!("loss WHERE node = '{NODE}' AND probe = '{probe}'");
            sum(&both(folders, &batches_sql(&format!("sum({column})"), &rows)))
        };
        let (attempted, delivered, lost) = (ledger("attempted"), ledger("delivered"), ledger("lost"));
        assert_eq!(attempted, delivered + lost, "{probe}");
        let stored = sum(&both(folders, &batches_sql(what, rows)));
        assert_eq!(delivered, stored, "{probe}: what the ledger calls delivered is what they have between them");
    }
}
