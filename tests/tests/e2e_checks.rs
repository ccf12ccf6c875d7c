//! Services under checks, from the agent's settings to findings that come and go: a real PostgreSQL and a real Redis.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;

use serde_json::Value;
use skep_tests::{PATIENCE, Skep, UNLIMITED, eventually, json_rows};

use self::real::{Postgres, Redis};

#[path = "../../agent/checks/tests/servers/real.rs"]
#[expect(dead_code, reason = "the checks' own tests need more of it")]
mod real;

/// Database and cache, and a shop that needs the database.
fn settings(folder: &Path, database: &Postgres, cache: &Redis) -> String {
    let often = "interval = \"500ms\"\n";
    let text = format!(
        "[[check]]\nname = \"db\"\nretries = 0\ncritical = true\nunit = \"postgresql.service\"\n{often}{}\
         [[check]]\nname = \"cache\"\nretries = 1\n{often}{}\
         [[check]]\nname = \"shop\"\nretries = 3\ndepends_on = [\"db\"]\n{often}kind = \"tcp\"\ntarget = \"127.0.0.1:{}\"\n",
        database.settings(),
        cache.settings(),
        database.port
    );
    let path = folder.join("agent.toml");
    std::fs::write(&path, text).expect("settings");
    path.display().to_string()
}

/// Name, state and severity of all findings about services, in order.
fn findings(skep: &Skep) -> Vec<(String, String)> {
    let rows = skep.query("SELECT title, severity FROM findings WHERE rule = 'check-failed' ORDER BY time");
    let text = |row: &Value, name: &str| row[name].as_str().expect("text").to_owned();
    rows.iter().map(|row| (text(row, "title"), text(row, "severity"))).collect()
}

fn wait_for(skep: &Skep, begins: &str, severity: &str) -> String {
    eventually(&format!("{begins:?}, {severity}"), PATIENCE, || {
        findings(skep)
            .into_iter()
            .find(|(title, of)| title.starts_with(begins) && of == severity)
            .map(|(title, _)| title)
    })
}

fn states(skep: &Skep) -> Vec<(String, String)> {
    let output = skep.skep(&["checks", "--format", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    json_rows(&output.stdout).iter().map(|row| (text(row, "name"), text(row, "state"))).collect()
}

fn wait_for_states(skep: &Skep, wanted: [(&str, &str); 3]) {
    let wanted = wanted.map(|(name, state)| (name.to_owned(), state.to_owned()));
    eventually(&format!("{wanted:?}"), PATIENCE, || (states(skep) == wanted).then_some(()));
}

#[test]
fn services_that_break_are_findings_once_each_and_so_is_their_end() {
    let (mut database, cache) = (Postgres::start(), Redis::start());
    let data = tempfile::tempdir().expect("a folder");
    let settings = settings(data.path(), &database, &cache);
    let variables = [UNLIMITED, ("SKEP_AGENT_CONFIG", settings.as_str())];
    let skep = Skep::up_with(data.path(), &["--window", "1s"], &variables);
    wait_for_states(&skep, [("cache", "ok"), ("db", "ok"), ("shop", "ok")]);
    eventually("figures as gauges", PATIENCE, || {
        let figures = "SELECT count(DISTINCT metric) FROM host WHERE (metric, label) IN (('redis_memory_used_ratio', 'cache'), \
                       ('postgres_connections', 'db'), ('check_latency_s', 'shop'))";
        (skep.try_number(figures) == Some(3)).then_some(())
    });
    assert_eq!(findings(&skep), []);

    database.stop();
    cache.ask(&["setrange", "large", "4000000", "x"]);
    let down = wait_for(&skep, "db is down: ", "critical");
    // Or it was asked something at that moment.
    assert!(down.contains("Connection refused") || down.contains("reset by peer"), "{down}");
    wait_for(&skep, "cache is down: memory is running out: redis_memory_used_ratio", "medium");
    wait_for_states(&skep, [("cache", "down"), ("db", "down"), ("shop", "blocked")]);
    let about = "SELECT count(*) FROM findings WHERE rule = 'check-failed' AND kind = 'check' AND workload = 'unit:postgresql.service'";
    assert_eq!(skep.number(about), 1);

    // A collector that starts anew says nothing twice.
    let old = skep.kill("collector");
    skep.restarted("collector", old);
    database.resume();
    cache.ask(&["del", "large"]);
    wait_for(&skep, "db is well again after ", "info");
    wait_for(&skep, "cache is well again after ", "info");
    wait_for_states(&skep, [("cache", "ok"), ("db", "ok"), ("shop", "ok")]);
    skep.next_window();
    assert_eq!(findings(&skep).len(), 4, "{:?}", findings(&skep));
    skep.stop();
}
