//! A PostgreSQL and a Redis that break, and who hears of it: a webhook, a mail server and Prometheus' Alertmanager, each once
//! of the beginning and once of the end, over a restart of the collector too.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use skep_tests::{PATIENCE, Skep, UNLIMITED, eventually};

use self::real::{Postgres, Redis, free_port};

#[path = "../../agent/checks/tests/servers/real.rs"]
#[expect(dead_code, reason = "the checks' own tests need more of it")]
mod real;

/// A program that is ended with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn server(command: &mut Command, port: u16) -> Server {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = Server(child.expect("it is installed: cargo xtask setup"));
    eventually("it to listen", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
    server
}

/// Bodies that were posted to a port of ours.
#[derive(Clone, Default)]
struct Posted(Arc<Mutex<Vec<Value>>>);

impl Posted {
    fn listen(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, posted) = (listener.local_addr().unwrap().port(), self.clone());
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| posted.take(stream)));
        port
    }

    fn take(&self, mut stream: TcpStream) {
        let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
        let body = loop {
            let Ok(count @ 1..) = stream.read(&mut part) else { return };
            bytes.extend_from_slice(&part[..count]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break serde_json::from_str(body).expect("JSON");
            }
        };
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
        self.0.lock().unwrap().push(body);
    }

    /// `firing db`, `resolved db` and so on, in order.
    fn told(&self) -> Vec<String> {
        let bodies = self.0.lock().unwrap();
        let alerts = bodies.iter().flat_map(|body| body["alerts"].as_array().expect("alerts").clone());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        alerts.map(|alert| format!("{} {}", text(&alert["status"]), text(&alert["labels"]["check"]))).collect()
    }
}

/// Subjects of the mails in a folder.
fn subjects(mails: &Path) -> Vec<String> {
    let files = std::fs::read_dir(mails.join("new")).into_iter().flatten().flatten();
    let subject = |path: PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned))
    };
    let mut subjects: Vec<String> = files.filter_map(|entry| subject(entry.path())).collect();
    subjects.sort();
    subjects
}

/// Names of the checks whose alerts an Alertmanager has.
fn standing(port: u16) -> Option<Vec<String>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /api/v2/alerts HTTP/1.0\r\nhost: x\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let alerts: Vec<Value> = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
    let mut names: Vec<String> =
        alerts.iter().filter_map(|a| Some(a["labels"]["check"].as_str()?.to_owned())).collect();
    names.sort();
    Some(names)
}

/// Whoever is told.
struct Ears {
    posted: Posted,
    hook: u16,
    smtp: u16,
    mails: PathBuf,
    manager: u16,
    _servers: [Server; 2],
}

impl Ears {
    fn listen(folder: &Path) -> Self {
        let (smtp, manager, mails) = (free_port(), free_port(), folder.join("mails"));
        let script = "import sys, time; from aiosmtpd.controller import Controller; from aiosmtpd.handlers import Mailbox\n\
                      Controller(Mailbox(sys.argv[2]), hostname='127.0.0.1', port=int(sys.argv[1])).start(); time.sleep(600)";
        let mut command = Command::new("/usr/bin/python3");
        let mail = server(command.args(["-c", script, &smtp.to_string()]).arg(&mails), smtp);
        let config = folder.join("am.yml");
        std::fs::write(&config, "route:\n  receiver: none\nreceivers:\n  - name: none\n").expect("settings");
        let mut command = Command::new("prometheus-alertmanager");
        command.arg(format!("--config.file={}", config.display())).arg("--cluster.listen-address=");
        command.arg(format!("--web.listen-address=127.0.0.1:{manager}")).arg("--storage.path").arg(folder.join("am"));
        let alertmanager = server(&mut command, manager);
        let posted = Posted::default();
        Self { hook: posted.listen(), posted, smtp, mails, manager, _servers: [mail, alertmanager] }
    }

    fn wait_until_told(&self, line: &str, times: usize) {
        let is_told = || (self.posted.told().iter().filter(|told| *told == line).count() == times).then_some(());
        eventually(&format!("{line:?} to be told {times} times"), PATIENCE, is_told);
    }

    /// How many mails have this in their subject.
    fn mails_about(&self, part: &str) -> usize {
        subjects(&self.mails).iter().filter(|subject| subject.contains(part)).count()
    }
}

/// Settings of the agent, with more for the check of the database, and of the collector.
fn settings(folder: &Path, ears: &Ears, database: &Postgres, more: &str, cache: &Redis) -> [String; 2] {
    let Ears { hook, smtp, manager, .. } = ears;
    let often = "retries = 0\ninterval = \"500ms\"\n";
    let agent = format!(
        "[[check]]\nname = \"db\"\n{often}{more}{}[[check]]\nname = \"cache\"\n{often}warm_after = \"0s\"\n{}",
        database.settings(),
        cache.settings()
    );
    let collector = format!(
        "[[alerts.channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{hook}/\"\n\
         [[alerts.channel]]\nname = \"mail\"\nkind = \"mail\"\nhost = \"127.0.0.1\"\nport = {smtp}\nsecurity = \"none\"\n\
         from = \"skep@example.org\"\nto = [\"ops@example.org\"]\n\
         [[alerts.channel]]\nname = \"manager\"\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:{manager}\"\n\
         [[alerts.route]]\nname = \"services\"\nmatch = [\"kind=check\"]\nmin_severity = \"info\"\ngroup_by = [\"check\"]\n\
         channels = [\"hook\", \"mail\", \"manager\"]\nwait = \"0s\"\ninterval = \"1s\"\n\
         [[alerts.rule]]\nname = \"memory-in-use\"\nevery = \"1s\"\nseverity = \"low\"\nlabels = [\"kind=check\", \"check=rule\"]\n\
         title = \"{{used}}\"\nsql = \"SELECT node, max(value) AS used FROM host WHERE metric = 'redis_memory_used_ratio' \
         AND time > now() - INTERVAL '4 seconds' GROUP BY node HAVING max(value) > 0.9\"\n"
    );
    [("agent.toml", agent), ("collector.toml", collector)].map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("settings");
        path.display().to_string()
    })
}

#[test]
fn everybody_hears_once_of_what_breaks_and_once_of_its_end() {
    let (mut database, cache) = (Postgres::start(), Redis::start());
    let data = tempfile::tempdir().expect("a folder");
    let ears = Ears::listen(data.path());
    let [agent, collector] = settings(data.path(), &ears, &database, "", &cache);
    let Ears { posted, manager, .. } = &ears;
    let variables = [UNLIMITED, ("SKEP_AGENT_CONFIG", agent.as_str()), ("SKEP_CONFIG", collector.as_str())];
    let skep = Skep::up_with(data.path(), &["--window", "1s"], &variables);
    let well = "SELECT count(*) FROM check_states WHERE state = 'ok'";
    eventually("both to be well", PATIENCE, || (skep.try_number(well) == Some(2)).then_some(()));

    database.stop();
    eventually("db to be told", PATIENCE, || posted.told().contains(&"firing db".to_owned()).then_some(()));
    cache.ask(&["setrange", "large", "4000000", "x"]);
    eventually("the rule to be told", PATIENCE, || posted.told().contains(&"firing rule".to_owned()).then_some(()));
    eventually("all to stand", PATIENCE, || (standing(*manager)? == ["cache", "db", "rule"]).then_some(()));
    let old = skep.kill("collector");
    skep.restarted("collector", old);
    database.resume();
    cache.ask(&["del", "large"]);
    eventually("none to stand", PATIENCE, || standing(*manager)?.iter().all(|name| name == "rule").then_some(()));
    let mut told = eventually("all ends to be told", PATIENCE, || {
        let told = posted.told();
        (told.iter().filter(|line| line.starts_with("resolved ") && !line.ends_with("rule")).count() == 2)
            .then_some(told)
    });
    let about = |begins: &str| ears.mails_about(begins);
    let both = || (about("db is well again") > 0 && about("cache is well again") > 0).then_some(());
    eventually("all mails", PATIENCE, both);
    told.retain(|line| !line.ends_with("rule"));
    told.sort();
    assert_eq!(told, ["firing cache", "firing db", "resolved cache", "resolved db"]);
    assert_eq!((about("db is down"), about("db is well again")), (1, 1), "{:?}", subjects(&ears.mails));
    assert_eq!((about("cache is down"), about("cache is well again")), (1, 1), "{:?}", subjects(&ears.mails));
    skep.stop();
}

/// Breaks a service, waits until everybody heard, mends it, and waits until everybody heard of that.
fn break_and_mend(ears: &Ears, check: &str, time: usize, breaks: impl FnOnce(), mend: impl FnOnce()) {
    breaks();
    ears.wait_until_told(&format!("firing {check}"), time);
    eventually("it to stand", PATIENCE, || (standing(ears.manager)? == [check]).then_some(()));
    mend();
    ears.wait_until_told(&format!("resolved {check}"), time);
    eventually("it to stand no more", PATIENCE, || standing(ears.manager)?.is_empty().then_some(()));
    let well = || (ears.mails_about(&format!("{check} is well again")) == time).then_some(());
    eventually("the mail of its end", PATIENCE, well);
}

#[test]
fn whatever_breaks_a_service_is_told_with_its_reason() {
    let (database, mut cache) = (Postgres::start(), Redis::start());
    let data = tempfile::tempdir().expect("a folder");
    let ears = Ears::listen(data.path());
    let limits = "slow_after = \"500ms\"\nlimits = { postgres_connections_used_ratio = 0.7 }\n";
    let [agent, collector] = settings(data.path(), &ears, &database, limits, &cache);
    let variables = [UNLIMITED, ("SKEP_AGENT_CONFIG", agent.as_str()), ("SKEP_CONFIG", collector.as_str())];
    let skep = Skep::up_with(data.path(), &["--window", "1s"], &variables);
    let well = "SELECT count(*) FROM check_states WHERE state = 'ok'";
    eventually("both to be well", PATIENCE, || (skep.try_number(well) == Some(2)).then_some(()));

    let end = || {
        let others = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
        database.sql(&format!("SELECT pg_terminate_backend(pid) {others}"));
    };
    let mut sessions = Vec::new();
    let slow = || sessions.push(database.session("postgres", "SELECT pg_sleep(600)"));
    break_and_mend(&ears, "db", 1, slow, end);
    // Seven are for everybody; the check itself needs one.
    let crowd = || sessions.extend((0..5).map(|_| database.session("watcher", "SELECT pg_sleep(600)")));
    break_and_mend(&ears, "db", 2, crowd, end);

    let miss = "for i = 1, 600 do redis.call('get', 'none') end";
    break_and_mend(&ears, "cache", 1, || drop(cache.ask(&["eval", miss, "0"])), || ());
    let cache = std::cell::RefCell::new(&mut cache);
    break_and_mend(&ears, "cache", 2, || cache.borrow_mut().stop(), || cache.borrow_mut().resume());

    for reason in
        ["queries take too long", "connections are running out", "keys that are asked for", "no connection to"]
    {
        assert_eq!(ears.mails_about(reason), 1, "{reason}: {:?}", subjects(&ears.mails));
    }
    assert_eq!(ears.posted.told().len(), 8, "{:?}", ears.posted.told());
    skep.stop();
}
