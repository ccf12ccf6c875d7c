//! PostgreSQL and Redis of this Debian, in folders and on ports of their own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to come up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Password of whoever watches.
pub(crate) const PASSWORD: &str = "hush-hush";

/// A port that is free now. Another program may take it before it is used, and then the server says so.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn wait_for(port: u16, child: &mut Child, log: &Path) {
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let ended = child.try_wait().unwrap();
        let said = || fs::read_to_string(log).unwrap_or_default();
        assert!(ended.is_none(), "the server ended with {ended:?}: {}", said());
        assert!(begun.elapsed() < PATIENCE, "the server does not listen: {}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A PostgreSQL with ten connections, three of them for its superuser, and hardly any memory for pages.
pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Starts one, with a role `watcher` that has [`PASSWORD`].
    pub(crate) fn start() -> Self {
        let versions = fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed: cargo xtask setup");
        let newest = versions.flatten().map(|entry| entry.path()).max().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let id =
            |flag| succeeded(&Command::new("id").args([flag, "postgres"]).output().unwrap()).trim().parse().unwrap();
        chown(folder.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        let mut server = Self { folder, bin: newest.join("bin"), port: free_port(), child: None };
        let init =
            server.program("initdb").args(["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]).output();
        succeeded(&init.unwrap());
        server.resume();
        server.sql(&format!("CREATE ROLE watcher LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor"));
        fs::write(server.secret(), format!("{PASSWORD}\n")).unwrap();
        server
    }

    /// One of its programs, as its user, on its folder.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(self.bin.join(name));
        command.env("PGDATA", self.data()).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// File with the password.
    pub(crate) fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// Starts it again after [`Postgres::stop`].
    pub(crate) fn resume(&mut self) {
        let log = self.folder.path().join("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = self.program("postgres");
        command.arg("-k").arg(self.folder.path()).args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "max_connections=10", "max_wal_senders=0", "wal_level=minimal"] {
            command.args(["-c", setting]);
        }
        for setting in ["shared_buffers=128kB", "fsync=off", "autovacuum=off", "max_parallel_workers=0"] {
            command.args(["-c", setting]);
        }
        if self.data().join("server.key").exists() {
            command.args(["-c", "ssl=on"]);
        }
        let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        wait_for(self.port, &mut child, &log);
        self.child = Some(child);
    }

    /// Ends it at once.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // setpriv became the server; SIGQUIT is its own word for at once.
            Command::new("kill").args(["-QUIT", &child.id().to_string()]).status().unwrap();
            child.wait().unwrap();
        }
    }

    /// Has it speak TLS from its next start on.
    pub(crate) fn certify(&self, certificate: &str, key: &str) {
        let (uid, gid) = (fs::metadata(self.data()).unwrap(), 0o600);
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.data().join(name);
            fs::write(&path, text).unwrap();
            chown(&path, Some(std::os::unix::fs::MetadataExt::uid(&uid)), None).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(gid)).unwrap();
        }
    }

    fn psql(&self, user: &str, sql: &str) -> Command {
        let mut command = self.program("psql");
        command.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h"]).arg(self.folder.path());
        command.args(["-p", &self.port.to_string(), "-U", user, "-d", "postgres", "-c", sql]);
        command
    }

    /// A statement of the superuser.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let mut tries = 0;
        loop {
            let output = self.psql("postgres", sql).output().unwrap();
            // It listens some moments before it takes statements.
            let early = String::from_utf8_lossy(&output.stderr).contains("starting up");
            if !early || tries == 100 {
                return succeeded(&output);
            }
            tries += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A statement that goes on in a session of its own until the value is dropped.
    pub(crate) fn session(&self, user: &str, sql: &str) -> Session {
        Session(self.psql(user, sql).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// What a check of it says.
    pub(crate) fn settings(&self) -> String {
        format!(
            "kind = \"postgres\"\ntarget = \"postgres://watcher@127.0.0.1:{}/postgres\"\nsecret_file = \"{}\"\n",
            self.port,
            self.secret().display()
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program that is ended with the value.
pub(crate) struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A Redis with 4 MiB and a password.
pub(crate) struct Redis {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Redis {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), PASSWORD).unwrap();
        let mut server = Self { folder, port: free_port(), child: None };
        server.resume();
        server
    }

    /// Starts it again after [`Redis::stop`], empty.
    pub(crate) fn resume(&mut self) {
        let log = self.folder.path().join("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &self.port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--requirepass",
            PASSWORD,
        ]);
        command.args(["--maxmemory", "4mb", "--unixsocket"]).arg(self.socket()).arg("--dir").arg(self.folder.path());
        let spawned = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn();
        let mut child = spawned.expect("redis-server is installed: cargo xtask setup");
        wait_for(self.port, &mut child, &log);
        self.child = Some(child);
    }

    /// Ends it at once.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Its socket in the file system.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// A request, as `redis-cli` takes it.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string(), "--no-auth-warning", "-a", PASSWORD]).args(words);
        succeeded(&command.output().unwrap())
    }

    /// What a check of it says, at its port.
    pub(crate) fn settings(&self) -> String {
        self.settings_at(&format!("127.0.0.1:{}", self.port))
    }

    /// The same, at another address.
    pub(crate) fn settings_at(&self, address: &str) -> String {
        let secret = self.folder.path().join("secret");
        format!("kind = \"redis\"\ntarget = \"{address}\"\nsecret_file = \"{}\"\n", secret.display())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
