//! A busy cgroup is found, throttled on approval, seen to be better, and let go again. Needs root and cgroups.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;
use skep_tests::{PATIENCE, Skep, eventually};

/// A busy loop in a cgroup of its own.
struct Busy {
    cgroup: PathBuf,
    child: Child,
}

impl Busy {
    fn start(name: &str) -> Self {
        let cgroup = cpu_hierarchy().join(name);
        std::fs::create_dir_all(&cgroup).expect("a cgroup can be made");
        // Its share of a machine that is busy with other things must not decide the test.
        let heaviest =
            if cgroup.join("cpu.weight").exists() { ("cpu.weight", "10000") } else { ("cpu.shares", "262144") };
        std::fs::write(cgroup.join(heaviest.0), heaviest.1).expect("the share can be set");
        let script = format!("echo $$ > {}/cgroup.procs && while :; do :; done", cgroup.display());
        let child = Command::new("/bin/sh").args(["-c", &script]).spawn().expect("sh starts");
        Self { cgroup, child }
    }

    /// The limit as the kernel has it: `None` is no limit.
    fn limited(&self) -> bool {
        match std::fs::read_to_string(self.cgroup.join("cpu.max")) {
            Ok(max) => !max.starts_with("max"),
            Err(_) => {
                let quota = std::fs::read_to_string(self.cgroup.join("cpu.cfs_quota_us")).expect("cgroup v1");
                quota.trim() != "-1"
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        let deadline = Instant::now() + PATIENCE;
        while std::fs::remove_dir(&self.cgroup).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn cpu_hierarchy() -> PathBuf {
    let unified = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if unified.split_whitespace().any(|controller| controller == "cpu") {
        PathBuf::from("/sys/fs/cgroup")
    } else {
        PathBuf::from("/sys/fs/cgroup/cpu")
    }
}

fn pending_action(skep: &Skep, workload: &str) -> String {
    eventually("a pending action for the busy cgroup", PATIENCE, || {
        let output = skep.skep(&["actions", "list", "--format", "json"]);
        skep_tests::json_rows(&output.stdout)
            .iter()
            .find(|row| row["state"] == "pending" && row["workload"].as_str().is_some_and(|w| w.contains(workload)))
            .and_then(|row| row["action"].as_str().map(str::to_owned))
    })
}

fn wait_for_state(skep: &Skep, action: &str, state: &str) -> Value {
    eventually(&format!("action {action} to be {state}"), PATIENCE, || {
        let sql = format!("SELECT * FROM actions WHERE action = '{action}' AND state = '{state}'");
        skep.query(&sql).into_iter().next()
    })
}

fn steps(skep: &Skep, action: &str) -> Vec<String> {
    let sql = format!("SELECT step FROM audit WHERE subject = '{action}' ORDER BY time");
    skep.query(&sql).iter().filter_map(|row| row["step"].as_str().map(str::to_owned)).collect()
}

fn cores(skep: &Skep, workload: &str) -> Option<f64> {
    let sql = format!(
        "SELECT sum(on_cpu_ns) / 1e9 / max(window_s) AS cores FROM cpu WHERE workload LIKE '%{workload}%' \
         GROUP BY time ORDER BY time DESC LIMIT 1"
    );
    skep.query(&sql).first().and_then(|row| row["cores"].as_f64())
}

/// As built in, with a lease short enough to wait for.
const SHORT_LEASE: &str = r#"
[[rule]]
name = "throttle-busy-workload"
finding = "cpu_cores"
min_severity = "medium"
action = "throttle"
mode = "ask"
cpu_share = 0.5
min_cpu_millicores = 100
lease_s = 15
"#;

/// Starts skep with a warmed-up detector and a busy cgroup, and returns when the action is pending.
fn busy_and_pending(name: &str) -> (tempfile::TempDir, Skep, Busy, String) {
    busy_and_pending_with(name, &[])
}

fn busy_and_pending_with(name: &str, extra: &[&str]) -> (tempfile::TempDir, Skep, Busy, String) {
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &[&["--act", "--window", "2s"], extra].concat());
    eventually("the detector to be warm", PATIENCE, || {
        skep.try_number("SELECT count(DISTINCT time) FROM scores").filter(|&windows| windows >= 2)
    });
    let busy = Busy::start(name);
    let action = pending_action(&skep, name);
    (data, skep, busy, action)
}

#[test]
fn a_busy_cgroup_is_found_within_three_windows_throttled_on_approval_and_let_go() {
    let name = format!("skep-test-act-{}", std::process::id());
    let (data, skep, busy, action) = busy_and_pending(&name);
    let windows = skep.number(&format!(
        "SELECT count(DISTINCT time) FROM cpu WHERE workload LIKE '%{name}%' AND time < \
         (SELECT min(time) FROM findings WHERE workload LIKE '%{name}%')"
    ));
    assert!(windows <= 3, "the finding came after {windows} windows");
    assert!(!busy.limited(), "nothing may happen before approval");

    let approved = skep.skep(&["actions", "approve", &action]);
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    let applied = wait_for_state(&skep, &action, "applied");
    assert!(busy.limited(), "the limit stands");
    wait_for_state(&skep, &action, "improved");
    let limit: f64 = applied["parameters"]
        .as_str()
        .and_then(|text| text.split_whitespace().find_map(|part| part.strip_prefix("cpu_millicores=")))
        .and_then(|value| value.parse::<f64>().ok())
        .expect("the limit is in the parameters");
    eventually("the share in cpu to fall to the limit", PATIENCE, || {
        cores(&skep, &name).filter(|cores| *cores <= limit / 1000.0 * 1.15)
    });

    let undone = skep.skep(&["actions", "undo", &action]);
    assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));
    wait_for_state(&skep, &action, "undone");
    assert!(!busy.limited(), "the limit is gone");
    let steps = steps(&skep, &action);
    for step in ["pending", "sent", "applied", "improved", "undone"] {
        assert!(steps.iter().any(|found| found.contains(step)), "{step} is missing in the audit log: {steps:?}");
    }
    let explained = skep.skep(&["explain", &action]);
    let said = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.status.success() && said.contains("1 throttle taken"), "{said}");
    skep.stop();
    the_record_holds_until_it_is_changed(data.path(), &action);
}

/// The chain of a collector that stopped, and what it becomes in other hands.
fn the_record_holds_until_it_is_changed(data: &Path, action: &str) {
    let verified = |path: &Path| {
        let path = path.to_str().expect("a plain path");
        let output = skep_tests::skep(data, &["audit", "verify", path, "--format", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        (output.status.code(), report["faulty"].as_u64().expect("a count"))
    };
    assert_eq!(verified(data), (Some(0), 0));
    let export = data.join("audit.parquet");
    let exported = skep_tests::skep(data, &["audit", "export", "--to", export.to_str().expect("a plain path")]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    assert_eq!(verified(&export), (Some(0), 0));
    let chain = data.join("audit/00000000000000000001.jsonl");
    let text = std::fs::read_to_string(&chain).expect("the chain");
    let of_it: Vec<&str> = text.lines().filter(|line| line.contains(action)).collect();
    for step in ["chosen", "pending", "approve", "sent", "applied", "improved", "undo", "undone"] {
        let named = format!("\"step\":\"{step}\"");
        assert!(of_it.iter().any(|line| line.contains(&named)), "{step} is not in the chain: {of_it:#?}");
    }
    std::fs::write(&chain, text.replacen("operator", "nobody", 1)).expect("it is changed");
    let (code, faults) = verified(data);
    assert!(code == Some(1) && faults > 0);
}

/// Acts by itself, up a ladder whose first rung the executor refuses.
const LADDER: &str = r#"
[[rule]]
name = "busy"
finding = "cpu_cores"
workload = "cgroup:/skep-test-*"
mode = "auto"
[[rule.rung]]
action = "run"
parameters = "name=no-such-command"
[[rule.rung]]
action = "throttle"
cpu_share = 0.5
lease_s = 60
verify_s = 20
"#;

#[test]
fn a_ladder_goes_on_past_what_the_host_refuses_and_ends_when_it_helped() {
    let name = format!("skep-test-ladder-{}", std::process::id());
    let policy = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(policy.path(), LADDER).expect("it takes the policy");
    let path = policy.path().to_str().expect("a plain path");
    let linted = skep_tests::skep_alone(&["policy", "lint", path]);
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stderr));
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--act", "--window", "2s", "--policy", path]);
    eventually("the detector to be warm", PATIENCE, || {
        skep.try_number("SELECT count(DISTINCT time) FROM scores").filter(|&windows| windows >= 2)
    });
    let busy = Busy::start(&name);
    let sql = format!("SELECT finding FROM findings WHERE rule = 'cpu_cores' AND workload LIKE '%{name}%'");
    let finding = eventually("the finding", PATIENCE, || {
        skep.query(&sql).first().and_then(|row| row["finding"].as_str().map(str::to_owned))
    });
    eventually("the ladder to end", PATIENCE, || {
        let sql = format!("SELECT detail FROM audit WHERE subject = '{finding}' AND step = 'recovered'");
        skep.query(&sql).into_iter().next()
    });
    assert!(busy.limited());
    let sql = format!("SELECT verb, state FROM actions WHERE finding = '{finding}' ORDER BY time, state");
    let steps: Vec<(String, String)> = skep
        .query(&sql)
        .iter()
        .map(|row| ["verb", "state"].map(|name| row[name].as_str().unwrap_or_default().to_owned()).into())
        .collect();
    let has = |verb: &str, state: &str| steps.iter().any(|(a, b)| a == verb && b == state);
    assert!(has("run", "refused") && has("throttle", "improved") && !has("run", "done"), "{steps:?}");
    let tested = skep.skep(&["policy", "test", path, "--since", "1h", "--format", "json"]);
    let lines = skep_tests::json_rows(&tested.stdout);
    let first = lines.iter().find(|line| line["workload"].as_str().is_some_and(|text| text.contains(&name)));
    let first = first.expect("what would have been done");
    assert_eq!((first["mode"].as_str(), first["action"].as_str()), (Some("auto"), Some("run name=no-such-command")));
    skep.stop();
}

#[test]
fn the_end_of_the_lease_undoes_the_limit() {
    let name = format!("skep-test-lease-{}", std::process::id());
    let policy = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(policy.path(), SHORT_LEASE).expect("it takes the policy");
    let path = policy.path().to_str().expect("a plain path");
    let (_data, skep, busy, action) = busy_and_pending_with(&name, &["--policy", path]);
    assert!(skep.skep(&["actions", "approve", &action]).status.success());
    wait_for_state(&skep, &action, "applied");
    let applied = Instant::now();
    assert!(busy.limited());
    wait_for_state(&skep, &action, "undone");
    assert!(!busy.limited(), "the limit is gone");
    assert!(applied.elapsed() > Duration::from_secs(8), "undone long before the lease ended");
    skep.stop();
}

#[test]
fn killing_the_executor_during_the_lease_undoes_the_limit_at_its_restart() {
    let name = format!("skep-test-kill-{}", std::process::id());
    let (_data, skep, busy, action) = busy_and_pending(&name);
    assert!(skep.skep(&["actions", "approve", &action]).status.success());
    wait_for_state(&skep, &action, "applied");
    assert!(busy.limited());
    let old = skep.kill("executor");
    assert!(busy.limited(), "nobody is there to undo it");
    skep.restarted("executor", old);
    eventually("the limit to be gone", Duration::from_secs(5), || (!busy.limited()).then_some(()));
    wait_for_state(&skep, &action, "undone");
    skep.stop();
}

#[test]
fn a_rejected_action_never_touches_the_host() {
    let name = format!("skep-test-reject-{}", std::process::id());
    let (_data, skep, busy, action) = busy_and_pending(&name);
    assert!(skep.skep(&["actions", "reject", &action, "--reason", "known job"]).status.success());
    let refused = skep.skep(&["actions", "approve", &action]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    skep.next_window();
    assert!(!busy.limited());
    skep.stop();
}

/// What the executor of this test may do.
const MORE_ACTIONS: &str = "actions = [\"throttle\", \"kill\"]\n";

/// Orders an action; its id.
fn order(skep: &Skep, words: &[&str]) -> String {
    let output = skep.skep(&[&["actions", "order"], words, &["--format", "json"]].concat());
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let rows = skep_tests::json_rows(&output.stdout);
    rows[0]["action"].as_str().expect("its id").to_owned()
}

#[test]
fn an_operator_orders_extends_and_undoes_and_the_host_has_the_last_word() {
    let name = format!("skep-test-order-{}", std::process::id());
    let data = tempfile::tempdir().expect("a folder");
    let config = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(config.path(), MORE_ACTIONS).expect("it takes the configuration");
    let config = ("SKEP_EXECUTOR_CONFIG", config.path().to_str().expect("a plain path"));
    let skep = Skep::up_with(data.path(), &["--act", "--window", "2s"], &[skep_tests::UNLIMITED, config]);
    let mut busy = Busy::start(&name);
    let workload = format!("cgroup:/{name}");
    let node = eventually("the workload to be seen", PATIENCE, || {
        let rows =
            skep.query(&format!("SELECT node FROM cpu WHERE workload = '{workload}' AND cgroup IS NOT NULL LIMIT 1"));
        rows.first().and_then(|row| row["node"].as_str().map(str::to_owned))
    });

    let throttle = order(&skep, &[&node, "throttle", "--workload", &workload, "cpu_millicores=200", "lease_s=60"]);
    wait_for_state(&skep, &throttle, "improved");
    assert!(busy.limited());
    assert!(skep.skep(&["actions", "extend", &throttle, "--lease", "2m"]).status.success());
    wait_for_state(&skep, &throttle, "extended");
    assert!(skep.skep(&["actions", "undo", &throttle]).status.success());
    wait_for_state(&skep, &throttle, "undone");
    assert!(!busy.limited());

    let refused = order(&skep, &[&node, "restart_unit", "unit=no-such.service"]);
    let row = wait_for_state(&skep, &refused, "refused");
    assert!(
        row["detail"].as_str().is_some_and(|detail| detail.contains("restart_unit is not among its actions")),
        "{row}"
    );
    let nowhere = skep.skep(&["actions", "order", "no-such-node", "isolate", "lease_s=60"]);
    assert_eq!(nowhere.status.code(), Some(4), "{}", String::from_utf8_lossy(&nowhere.stderr));
    let senseless = skep.skep(&["actions", "order", &node, "freeze", "lease_s=60"]);
    assert_eq!(senseless.status.code(), Some(2), "{}", String::from_utf8_lossy(&senseless.stderr));

    let kill = order(&skep, &[&node, "kill", "--workload", &workload, "scope=workload", "grace_s=5"]);
    wait_for_state(&skep, &kill, "done");
    assert!(busy.child.try_wait().expect("it can be waited for").is_some(), "nobody is left");
    skep.stop();
}
