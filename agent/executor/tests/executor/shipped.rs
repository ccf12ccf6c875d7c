//! The unit as it is shipped, in a box: root without a capability, and systemd takes its word.

use std::fs;
use std::path::Path;

use ed25519_dalek::pkcs8::EncodePublicKey;
use skep_wire::v1::{self, Step, UnitVerb, command::Action};

use crate::support::{Agent, Executor, NODE, eventually};
use crate::units::{self, WEB};

/// By `systemd-analyze security`, which says one digit: what it may is to be written down, not to grow unnoticed.
const EXPOSURE: &str = "1.0";

/// Beside what units need: a program that says what it sees.
const MORE: &str =
    "[[run.command]]\nname = \"look\"\nargv = [\"/usr/bin/ls\", \"/\", \"/etc/skep\", \"/run\", \"/var/lib\"]\n";

#[test]
fn it_restarts_a_unit_without_a_capability() {
    let boxed = units::boot();
    boxed.inside(&["systemctl", "start", WEB]);
    let mut executor = Executor::prepare(units::CONFIG, &[]);
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let put = |from: &Path, to: &str| {
        let to = boxed.root().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    put(Path::new(env!("CARGO_BIN_EXE_skep-executor")), "usr/bin/skep-executor");
    put(&repository.join("systemd/skep-executor.service"), "etc/systemd/system/skep-executor.service");
    put(&repository.join("systemd/skep-agent.sysusers"), "usr/lib/sysusers.d/skep-agent.conf");
    let etc = boxed.root().join("etc/skep");
    fs::create_dir_all(&etc).unwrap();
    let key = executor.key.verifying_key().to_public_key_pem(Default::default()).unwrap();
    fs::write(etc.join("command.pub"), key).unwrap();
    let config = units::CONFIG.replace("actions = [", "actions = [\"run\", ");
    fs::write(etc.join("executor.toml"), format!("{config}{MORE}")).unwrap();
    fs::write(etc.join("executor.env"), format!("SKEP_NODE={NODE}\n")).unwrap();
    boxed.inside(&["systemd-sysusers"]);
    boxed.inside(&["systemctl", "daemon-reload"]);
    boxed.inside(&["systemctl", "start", "skep-executor.service"]);

    let socket = boxed.path("/run/skep/executor/executor.sock");
    let mut agent = eventually("the executor in the box", || socket.exists().then(|| Agent::connect(&socket)));
    let boot = boxed.inside(&["cat", "/proc/sys/kernel/random/boot_id"]).trim().to_owned();
    let before = boxed.property(WEB, "InvocationID");
    let command =
        v1::Command { boot: boot.clone(), ..units::change(&mut executor, UnitVerb::Restart, WEB, &before, 0) };
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    agent.expect(Step::Done);
    assert_ne!(boxed.property(WEB, "InvocationID"), before);

    let run = v1::Run { name: "look".to_owned() };
    let command = v1::Command { boot: boot.clone(), ..executor.issue(Action::Run(run)) };
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    let seen = agent.expect(Step::Done).detail;
    for (folder, is_there) in [("usr", true), ("home", false), ("srv", false), ("command.pub", true)] {
        assert_eq!(seen.split(' ').any(|name| name == folder), is_there, "{folder}: {seen}");
    }

    let pid = boxed.property("skep-executor.service", "MainPID");
    let status = boxed.inside(&["cat", &format!("/proc/{pid}/status")]);
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    let mounts = boxed.inside(&["cat", &format!("/proc/{pid}/mounts")]);
    let may_write = |line: &str| line.contains(" cgroup2 rw,") && line.contains(" /sys/fs/cgroup");
    assert!(mounts.lines().any(may_write), "limits are set there: {mounts}");
    let said = boxed.inside(&["systemd-analyze", "security", "--no-pager", "skep-executor.service"]);
    assert!(said.contains(&format!("Overall exposure level for skep-executor.service: {EXPOSURE} ")), "{said}");
}
