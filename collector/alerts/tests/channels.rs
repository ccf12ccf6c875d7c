//! Real receivers: a web server, a mail server (aiosmtpd) and Prometheus' Alertmanager, both Debian's (`cargo xtask setup`).

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::net::{Ipv4Addr, TcpListener as Listener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use skep_alerts::channel::{Address, Channel, Mail, Security, Way};
use skep_alerts::deliver::{self, Outbox};
use skep_alerts::desk::{Desk, Route};
use skep_alerts::report::{Labels, Notice, Report, State};
use skep_runtime::secret::Secret;
use skep_runtime::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const S: i64 = 1_000_000;

fn free_port() -> u16 {
    Listener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A program that is ended with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Server {
    /// Starts it and waits until it listens.
    async fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        let server = Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}: cargo xtask setup")));
        for _ in 0..1000 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        panic!("{command:?} does not listen");
    }
}

/// A channel and a desk before it: what goes in as a report comes out at the other end.
struct Line {
    desk: Desk,
    outbox: Outbox,
    now_us: i64,
    stop: Shutdown,
    told: std::sync::Arc<deliver::Counts>,
    _folder: tempfile::TempDir,
}

impl Line {
    fn to(way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let channel = Channel { name: "it".to_owned(), way };
        let route = Route {
            name: "all".to_owned(),
            matches: Vec::new(),
            min_rank: 0,
            channels: vec!["it".to_owned()],
            group_by: Vec::new(),
            wait: Duration::ZERO,
            interval: Duration::ZERO,
            repeat: None,
            proceed: false,
        };
        let (outbox, courier) = deliver::open(folder.path(), 100, vec![channel]).unwrap();
        let (stop, told) = (Shutdown::new(), courier.counts());
        let token = stop.token();
        tokio::spawn(courier.run(token));
        let now_us = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
        Self { desk: Desk::new(vec![route], Vec::new(), Vec::new()), outbox, now_us, stop, told, _folder: folder }
    }

    /// The database went down, or is well again.
    fn report(&mut self, state: State) -> Vec<Notice> {
        self.now_us += S;
        let labels = [("node", "n1"), ("rule", "check-failed"), ("severity", "critical")];
        let labels: Labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let report = Report {
            key: "check n1 db".to_owned(),
            state,
            labels,
            title: if state == State::Resolved { "db is well again" } else { "db is down: über" }.to_owned(),
            details: vec!["failures=3".to_owned()],
            time_us: self.now_us,
            finding: "abc".to_owned(),
        };
        self.desk.take(&report, self.now_us);
        let notices = self.desk.tick(self.now_us);
        assert_eq!(notices.len(), 1);
        self.outbox.push(&notices).unwrap();
        notices
    }

    async fn until_told(&self, count: u64) {
        for _ in 0..1000 {
            if self.told.told.load(Ordering::Relaxed) >= count && self.outbox.waiting() == 0 {
                assert_eq!(self.told.told.load(Ordering::Relaxed), count);
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}, {} wait", self.told, self.outbox.waiting());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.begin();
    }
}

/// Takes one request, answers with a status; head and body.
async fn receive(listener: &TcpListener, status: &str) -> (String, serde_json::Value) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let (head, body) = loop {
        let count = stream.read(&mut part).await.unwrap();
        bytes.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break (head.to_lowercase(), serde_json::from_str(body).unwrap());
        }
    };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.ok();
    (head, body)
}

#[tokio::test]
async fn a_webhook_that_is_busy_hears_once_more_of_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hush").unwrap();
    let url = Address::Plain(format!("http://{}/hook", listener.local_addr().unwrap()));
    let mut line = Line::to(Way::Webhook { url, token: Some(Secret::File(secret.path().to_owned())) });
    let sent = line.report(State::Firing).remove(0);
    let (_, first) = receive(&listener, "503 Service Unavailable").await;
    let (head, second) = receive(&listener, "200 OK").await;
    assert_eq!(first, second);
    assert_eq!((&second["id"], &second["status"]), (&sent.id.as_str().into(), &"firing".into()));
    assert!(head.starts_with("post /hook http/1.1\r\n") && head.contains("authorization: bearer hush"), "{head}");
    assert!(head.contains(&format!("idempotency-key: {}", sent.id)), "{head}");
    line.until_told(1).await;
    line.report(State::Resolved);
    let (_, over) = receive(&listener, "204 No Content").await;
    assert_eq!((&over["status"], &over["alerts"][0]["title"]), (&"resolved".into(), &"db is well again".into()));
    line.until_told(2).await;
    line.report(State::Firing);
    receive(&listener, "400 Bad Request").await;
    for _ in 0..500 {
        if line.outbox.waiting() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((line.outbox.waiting(), line.told.refused.load(Ordering::Relaxed)), (0, 1), "what it will never take");
}

#[tokio::test]
async fn a_mail_arrives_once_for_the_beginning_and_once_for_the_end() {
    let port = free_port();
    let mails = tempfile::tempdir().unwrap();
    let script = "import sys, time; from aiosmtpd.controller import Controller; from aiosmtpd.handlers import Mailbox\n\
                  Controller(Mailbox(sys.argv[2]), hostname='127.0.0.1', port=int(sys.argv[1])).start(); time.sleep(600)";
    let folder = mails.path().join("box");
    let mut command = Command::new("/usr/bin/python3");
    let _server = Server::start(command.args(["-c", script, &port.to_string()]).arg(&folder), port).await;
    let mut line = Line::to(Way::Mail(Mail {
        host: "127.0.0.1".to_owned(),
        port,
        security: Security::None,
        user: None,
        password: None,
        from: "skep@example.org".to_owned(),
        to: vec!["Ops <ops@example.org>".to_owned(), "other@example.org".to_owned()],
    }));
    line.report(State::Firing);
    line.until_told(1).await;
    line.report(State::Resolved);
    line.until_told(2).await;
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    let files = std::fs::read_dir(folder.join("new")).unwrap().flatten().map(|entry| read(entry.path()));
    let mut mails: Vec<String> = files.collect();
    mails.sort_by_key(|mail| mail.contains("Subject: [resolved]"));
    assert_eq!(mails.len(), 2, "{mails:?}");
    assert!(mails[0].contains("X-RcptTo: ops@example.org, other@example.org"), "{}", mails[0]);
    assert!(mails[0].contains("Message-ID: <") && mails[0].contains("skep explain abc"), "{}", mails[0]);
    assert!(mails[1].contains("Subject: [resolved] n1: db is well again"), "{}", mails[1]);
}

/// Alerts of an Alertmanager, as its own client reads them.
async fn alerts(port: u16) -> Vec<serde_json::Value> {
    let url = format!("http://127.0.0.1:{port}/api/v2/alerts");
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn alertmanager_has_the_trouble_while_it_stands() {
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let config = folder.path().join("am.yml");
    std::fs::write(&config, "route:\n  receiver: none\nreceivers:\n  - name: none\n").unwrap();
    let mut command = Command::new("prometheus-alertmanager");
    command.arg(format!("--config.file={}", config.display())).arg("--cluster.listen-address=");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--storage.path").arg(folder.path());
    let _server = Server::start(command.stderr(Stdio::null()), port).await;
    let mut line =
        Line::to(Way::Alertmanager { url: Address::Plain(format!("http://127.0.0.1:{port}/")), token: None });
    line.report(State::Firing);
    line.until_told(1).await;
    let standing = alerts(port).await;
    assert_eq!(standing.len(), 1);
    assert_eq!(standing[0]["labels"]["alertname"], "check-failed");
    assert_eq!(
        (&standing[0]["annotations"]["summary"], &standing[0]["status"]["state"]),
        (&"db is down: über".into(), &"active".into())
    );
    // Its clock tells when it is over.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    line.report(State::Resolved);
    line.until_told(2).await;
    for _ in 0..200 {
        if alerts(port).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", alerts(port).await);
}

#[tokio::test]
async fn what_was_not_told_is_told_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Address::Plain(format!("http://{}/", listener.local_addr().unwrap()));
    let channel = |url| Channel { name: "it".to_owned(), way: Way::Slack { url } };
    let mut line = Line::to(Way::Log);
    let notice = line.report(State::Firing).remove(0);
    let nowhere = Address::Plain(format!("http://127.0.0.1:{}/", free_port()));
    let (outbox, courier) = deliver::open(folder.path(), 100, vec![channel(nowhere)]).unwrap();
    let (stop, counts) = (Shutdown::new(), courier.counts());
    let running = tokio::spawn(courier.run(stop.token()));
    outbox.push(&[notice]).unwrap();
    while counts.failed.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.begin();
    running.await.unwrap();
    let (_outbox, courier) = deliver::open(folder.path(), 100, vec![channel(url)]).unwrap();
    let stop = Shutdown::new();
    let running = tokio::spawn(courier.run(stop.token()));
    let (_, body) = receive(&listener, "200 OK").await;
    assert_eq!(body["text"], "[critical] n1: db is down: über");
    stop.begin();
    running.await.unwrap();
}
