//! A real collector process with certificates of its own, and agents that talk to it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support fails by panicking")]
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::allow_attributes,
    reason = "each test file uses its own part"
)]

pub mod agent;
pub mod bucket;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use skep_wire::v1;
use skep_wire::v1::console_client::ConsoleClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// For [`Ground::python`]: the rows of a table as python's deltalake reads them.
pub const DELTALAKE_COUNT: &str = "import sys, deltalake\n\
    table = deltalake.DeltaTable(sys.argv[1])\n\
    rows = deltalake.QueryBuilder().register('t', table).execute('SELECT count(*) AS n FROM t')\n\
    print(rows.read_all()['n'][0].as_py())";

/// Asks `probe` until it answers, or fails with `what`.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The Python with the engines that `cargo xtask setup` installs.
pub fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_BIN_EXE_skep-collector")).with_file_name("../interop/bin/python");
    assert!(python.exists(), "{} is missing: run `cargo xtask setup`", python.display());
    python
}

/// A folder with certificates for everybody, and a collector's data folder in it.
pub struct Ground {
    temp: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Ground {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let tls = temp.path().join("tls");
        fs::create_dir(&tls).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        fs::write(tls.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let ground = Self { temp, issuer: Issuer::new(params, key) };
        for (file, name, unit) in [
            ("collector", "localhost", "collector"),
            ("operator", "olga", "operator"),
            ("a", "a", "agent"),
            ("b", "b", "agent"),
            ("c", "c", "agent"),
            ("pretender", "collector", "agent"),
        ] {
            ground.certify(file, name, unit);
        }
        let signing = SigningKey::from_bytes(&[7; 32]);
        fs::write(tls.join("command.key"), signing.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
        ground
    }

    /// Makes a certificate for one more.
    pub fn certify(&self, file: &str, name: &str, unit: &str) {
        let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        let key = KeyPair::generate().unwrap();
        fs::write(self.tls(&format!("{file}.pem")), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(self.tls(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    pub fn data(&self) -> PathBuf {
        self.temp.path().join("data")
    }

    pub fn tls(&self, file: &str) -> PathBuf {
        self.temp.path().join("tls").join(file)
    }

    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Starts the collector with more configuration and waits until it listens.
    pub fn serve(&self, config: &str) -> Collector<'_> {
        self.serve_in("data", config, &[])
    }

    /// Starts a collector on the folder of this name.
    pub fn serve_in(&self, name: &str, config: &str, environment: &[(&str, String)]) -> Collector<'_> {
        let mut collector = self.spawn_in(name, config, environment);
        collector.grpc = eventually("the collector to listen", || {
            if let Some(status) = collector.child.try_wait().unwrap() {
                panic!("the collector ended with {status}: {}", collector.log());
            }
            let text = fs::read(self.path().join(name).join("endpoint.json")).ok()?;
            let endpoint: serde_json::Value = serde_json::from_slice(&text).ok()?;
            let ours = endpoint["pid"].as_u64() == Some(u64::from(collector.child.id()));
            ours.then(|| endpoint["grpc"].as_str().unwrap().to_owned())
        });
        collector
    }

    /// Starts the collector without waiting.
    pub fn spawn(&self, config: &str) -> Collector<'_> {
        self.spawn_in("data", config, &[])
    }

    /// Starts a collector on the folder of this name without waiting.
    pub fn spawn_in(&self, name: &str, config: &str, environment: &[(&str, String)]) -> Collector<'_> {
        let file = self.path().join(format!("{name}.toml"));
        fs::write(&file, config).unwrap();
        let log = fs::File::options().append(true).create(true).open(self.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_skep-collector"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .envs(environment.iter().cloned())
            .arg("--data")
            .arg(self.path().join(name))
            .arg("--ca")
            .arg(self.tls("ca.pem"))
            .arg("--cert")
            .arg(self.tls("collector.pem"))
            .arg("--key")
            .arg(self.tls("collector.key"))
            .arg("--command-key")
            .arg(self.tls("command.key"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Collector { ground: self, child, grpc: String::new() }
    }

    /// `skep-collector query` on the folder.
    pub fn offline(&self, sql: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_skep-collector"))
            .arg("query")
            .arg("--data")
            .arg(self.data())
            .arg(sql)
            .output()
            .unwrap()
    }

    /// The only number of the only row, offline.
    pub fn offline_number(&self, sql: &str) -> i64 {
        let output = self.offline(sql);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        number(&batches(&output.stdout))
    }

    /// What a Python script prints that is given the folder of one table, read by `cargo xtask setup`'s engines.
    pub fn python(&self, script: &str, table: &str) -> String {
        let folder = self.data().join("history").join(table);
        let output = Command::new(python()).args(["-c", script]).arg(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// Files below the data folder with this extension.
    pub fn files(&self, below: &str, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.data().join(below)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else if entry.extension().is_some_and(|e| e == extension) {
                    found.push(entry);
                }
            }
        }
        found.sort();
        found
    }

    /// Files of a table's rows.
    pub fn rows_of(&self, table: &str) -> Vec<PathBuf> {
        let mut files = self.files(&format!("history/{table}"), "parquet");
        files.retain(|file| !file.components().any(|part| part.as_os_str() == "_delta_log"));
        files
    }

    /// A channel with one of the certificates.
    pub async fn channel(&self, grpc: &str, who: &str) -> Result<Channel, tonic::transport::Error> {
        let read = |file: String| fs::read(self.tls(&file)).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem".to_owned())))
            .identity(Identity::from_pem(read(format!("{who}.pem")), read(format!("{who}.key"))));
        Endpoint::from_shared(format!("https://{grpc}")).unwrap().tls_config(tls).unwrap().connect().await
    }
}

/// A running collector. Killed when dropped.
pub struct Collector<'a> {
    ground: &'a Ground,
    child: Child,
    pub grpc: String,
}

impl Collector<'_> {
    pub fn log(&self) -> String {
        self.ground.log()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the process so far, all its threads.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let (_, after_name) = stat.rsplit_once(')').expect("a name in parentheses");
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// The most memory the process had so far.
    pub fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let peak: Option<u64> =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse().ok());
        1024 * peak.expect("a peak in kB")
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.wait()
    }

    pub fn wait(&mut self) -> Option<i32> {
        eventually("the collector to end", || self.child.try_wait().unwrap()).code()
    }

    pub async fn console(&self) -> ConsoleClient<Channel> {
        ConsoleClient::new(self.ground.channel(&self.grpc, "operator").await.unwrap())
    }

    /// How long batches of all nodes waited because these send more than their part.
    pub async fn held_us(&self) -> u64 {
        let nodes = self.console().await.nodes(v1::NodesRequest {}).await.unwrap().into_inner().nodes;
        nodes.iter().map(|node| node.held_us).sum()
    }

    /// The answer's rows, and how the stream ended.
    pub async fn query(&self, sql: &str) -> (Vec<RecordBatch>, Result<(), tonic::Status>) {
        let request = v1::QueryRequest { sql: sql.to_owned(), timeout_s: 0 };
        let mut stream = match self.console().await.query(request).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return (Vec::new(), Err(status)),
        };
        let mut bytes = Vec::new();
        let ended = loop {
            match stream.message().await {
                Ok(Some(reply)) => bytes.extend(reply.arrow_ipc),
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        (if bytes.is_empty() { Vec::new() } else { batches(&bytes) }, ended)
    }

    /// The only number of the only row.
    pub async fn number(&self, sql: &str) -> i64 {
        let (rows, ended) = self.query(sql).await;
        ended.unwrap();
        number(&rows)
    }

    pub async fn flush(&self) -> v1::FlushReply {
        self.console().await.flush(v1::FlushRequest {}).await.unwrap().into_inner()
    }
}

impl Drop for Collector<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

pub fn batches(ipc: &[u8]) -> Vec<RecordBatch> {
    StreamReader::try_new(ipc, None).unwrap().map(|batch| batch.unwrap()).collect()
}

pub fn number(batches: &[RecordBatch]) -> i64 {
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).expect("one row");
    let column = batch.column(0);
    if let Some(unsigned) = column.as_primitive_opt::<arrow::datatypes::UInt64Type>() {
        return unsigned.value(0) as i64;
    }
    column.as_primitive::<Int64Type>().value(0)
}
