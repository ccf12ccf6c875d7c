//! The life of an incident: opened by a service that goes down, joined by another's trouble, told with what changed before,
//! acknowledged, known over a kill of the collector, told once at its beginning and once at its end, and over when it was
//! quiet for as long as the settings say, not sooner.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use skep_tests::{PATIENCE, Skep, UNLIMITED, eventually, json_rows};

/// After so long without anything it is over.
const QUIET: Duration = Duration::from_secs(4);

/// Somebody who takes connections, until it is dropped.
struct Service {
    listener: TcpListener,
}

impl Service {
    fn start(port: u16) -> Self {
        let listener = eventually("the port to be free", PATIENCE, || TcpListener::bind(("127.0.0.1", port)).ok());
        Self { listener }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }
}

fn settings(folder: &Path, ports: [u16; 2]) -> [String; 2] {
    let check = |name: &str, port: u16| {
        format!(
            "[[check]]\nname = \"{name}\"\nkind = \"tcp\"\ntarget = \"127.0.0.1:{port}\"\nretries = 0\ninterval = \"500ms\"\n\
             unit = \"{name}.service\"\n"
        )
    };
    let agent = check("shop", ports[0]) + &check("mail", ports[1]);
    let told = folder.join("told.ndjson");
    let collector = format!(
        "[incidents]\nquiet_s = {}\n[[alerts.channel]]\nname = \"file\"\nkind = \"file\"\npath = \"{}\"\n\
         [[alerts.route]]\nname = \"incidents\"\nmatch = [\"kind=incident\"]\ngroup_by = [\"incident\"]\n\
         channels = [\"file\"]\nwait = \"0s\"\ninterval = \"1s\"\n",
        QUIET.as_secs(),
        told.display()
    );
    [("agent.toml", agent), ("collector.toml", collector)].map(|(name, text)| {
        let path = folder.join(name);
        fs::write(&path, text).expect("settings");
        path.display().to_string()
    })
}

/// The incident to which so many troubles of services belong, all of them, and its state. Others may see to it that it has
/// more findings: this host does more than this test.
fn incident(skep: &Skep, troubles: usize) -> Option<(String, String)> {
    let sql = "SELECT DISTINCT i.incident, f.title, last_value(i.state) OVER (PARTITION BY i.incident ORDER BY i.time ROWS \
               BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS state FROM incidents i LEFT JOIN findings f \
               ON i.finding = f.finding AND f.rule = 'check-failed' AND f.severity <> 'info'";
    let output = skep.skep(&["query", "--format", "json", sql]);
    let rows = if output.status.success() { json_rows(&output.stdout) } else { return None };
    let of: Vec<&Value> = rows.iter().filter(|row| row["title"].is_string()).collect();
    let (first, text) = (of.first()?, |row: &Value, name: &str| row[name].as_str().map(str::to_owned));
    let is_one = of.len() == troubles && of.iter().all(|row| row["incident"] == first["incident"]);
    is_one.then(|| text(first, "incident").zip(text(first, "state")))?
}

fn wait_for(skep: &Skep, state: &str, troubles: usize) -> String {
    eventually(&format!("one incident to be {state} with {troubles} troubles"), PATIENCE, || {
        incident(skep, troubles).filter(|(_, now)| now == state).map(|(id, _)| id)
    })
}

/// What became of it by services and people, step by step.
fn steps(skep: &Skep, id: &str) -> Vec<(String, String)> {
    let output = skep.skep(&["incidents", "show", id, "--format", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = json_rows(&output.stdout);
    let own = rows.iter().filter(|row| row["finding"].is_null() || row["rule"] == "check-failed");
    own.map(|row| (text(row, "change"), text(row, "detail"))).collect()
}

#[test]
fn an_incident_is_opened_joined_acknowledged_kept_over_a_kill_and_closed() {
    let (shop, mail) = (Service::start(0), Service::start(0));
    let ports = [shop.port(), mail.port()];
    let data = tempfile::tempdir().expect("a folder");
    let [agent, collector] = settings(data.path(), ports);
    let variables = [UNLIMITED, ("SKEP_AGENT_CONFIG", agent.as_str()), ("SKEP_CONFIG", collector.as_str())];
    let skep = Skep::up_with(data.path(), &["--window", "1s"], &variables);
    let well = "SELECT count(*) FROM check_states WHERE state = 'ok'";
    eventually("both to be well", PATIENCE, || (skep.try_number(well) == Some(2)).then_some(()));

    drop(shop);
    let id = wait_for(&skep, "open", 1);
    drop(mail);
    assert_eq!(wait_for(&skep, "open", 2), id, "on one node in the same minutes it is one");
    let said = skep.skep(&["incidents", "ack", &id[..8], "--reason", "looking at it"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let old = skep.kill("collector");
    skep.restarted("collector", old);
    assert_eq!(wait_for(&skep, "acknowledged", 2), id, "a kill changes nothing");

    // What stands keeps it open, however quiet it is.
    let (_shop, stood) = (Service::start(ports[0]), Instant::now());
    while stood.elapsed() < QUIET * 2 {
        let state = incident(&skep, 2).map(|(_, state)| state);
        assert_ne!(state.as_deref(), Some("closed"), "mail is down");
        thread::sleep(Duration::from_millis(500));
    }
    let (_mail, well_again) = (Service::start(ports[1]), Instant::now());
    assert_eq!(wait_for(&skep, "closed", 2), id);
    assert!(well_again.elapsed() >= QUIET, "closed after {:?}", well_again.elapsed());

    let steps = steps(&skep, &id);
    let changes: Vec<&str> =
        steps.iter().map(|(change, _)| change.as_str()).filter(|change| *change != "changed").collect();
    let end = changes.iter().position(|change| *change == "closed").expect("it is closed");
    assert_eq!(changes[1..=end], ["joined", "acknowledged", "over", "over", "closed"], "{steps:#?}");
    assert!(steps[0].1.starts_with("shop is down"), "{steps:#?}");
    let told = eventually("its end to be told", PATIENCE, || {
        let text = fs::read_to_string(data.path().join("told.ndjson")).ok()?;
        let told: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (told.len() >= 2).then_some(told)
    });
    let about = |notice: &&Value| notice.to_string().contains(&id);
    let told: Vec<&Value> = told.iter().filter(about).collect();
    let is_over = |notice: &Value| notice.to_string().contains("resolved");
    assert!(!is_over(told[0]) && is_over(told[1]), "its beginning, then its end: {told:#?}");
    skep.stop();
}
