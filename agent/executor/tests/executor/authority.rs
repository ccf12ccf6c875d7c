//! Who may have a host changed: keys, clocks, users, and a collector that was stolen.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePublicKey;
use skep_wire::v1::{self, Step, command::Action};

use crate::support::{Busy, Executor, now_us, sign_with};

const ACT: &str = "act = true\n[budget]\nmax_per_hour = 1000\n";

fn pem(key: &SigningKey) -> String {
    key.verifying_key().to_public_key_pem(Default::default()).unwrap()
}

/// The key changes while the program runs: first both count, then only the new one.
#[test]
fn one_key_replaces_another_with_a_time_of_both() {
    let busy = Busy::idle("rotate");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let (old, new) = (executor.key.clone(), SigningKey::from_bytes(&[7; 32]));
    let file = executor.dir.path().join("command.pub");
    let mut word = |executor: &mut Executor, key: &SigningKey| {
        // Whatever is signed by a key that counts gets past the keys, to a node it is not for.
        let command = v1::Command { node: "another".to_owned(), ..executor.throttle(&busy, 100, 60) };
        agent.refused(sign_with(key, &command))
    };
    let counts = |reason: String| reason == "the command is for node another";
    assert!(counts(word(&mut executor, &old)) && !counts(word(&mut executor, &new)));
    fs::write(&file, format!("{}\n{}", pem(&old), pem(&new))).unwrap();
    assert!(counts(word(&mut executor, &old)) && counts(word(&mut executor, &new)));
    fs::write(&file, pem(&new)).unwrap();
    assert!(!counts(word(&mut executor, &old)) && counts(word(&mut executor, &new)));
    fs::write(&file, "half a key").unwrap();
    assert!(!counts(word(&mut executor, &new)), "what cannot be read trusts nobody");
    assert!(executor.log().contains("none of that file is trusted"));
}

#[test]
fn clocks_may_differ_by_so_much() {
    let busy = Busy::idle("skew");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let mut ahead = executor.throttle(&busy, 100, 60);
    (ahead.issued_us, ahead.not_after_us) = (now_us() + 301_500_000, now_us() + 400_000_000);
    let reason = agent.refused(executor.sign(&ahead));
    assert_eq!(
        reason,
        "the command was issued 301 s from now: the clocks of collector and host differ by more than 120 s"
    );
    let mut long = executor.throttle(&busy, 100, 60);
    long.not_after_us = now_us() + 3_600_500_000;
    assert_eq!(agent.refused(executor.sign(&long)), "the command is valid for 3600 s, at most 600 are allowed");
}

/// Whoever has the collector's key has commands signed, and still cannot do what this host does not allow.
#[test]
fn a_stolen_key_is_held_to_the_hosts_own_policy() {
    let busy = Busy::start("stolen");
    let mut executor = Executor::start(&format!("{ACT}[throttle]\nmin_cpu_millicores = 200\nmax_lease_s = 60\n"));
    let mut agent = executor.agent();
    let kill = Action::Kill(v1::Kill { scope: v1::Scope::Workload.into(), grace_s: 0 });
    let unit = v1::Target {
        unit: Some(v1::UnitTarget { name: "ssh.service".to_owned(), ..Default::default() }),
        ..v1::Target::default()
    };
    let stop = Action::ChangeUnit(v1::ChangeUnit { verb: v1::UnitVerb::Stop.into() });
    let mut throttle = |millicores, lease_s| executor.throttle(&busy, millicores, lease_s);
    let (tight, long) = (throttle(1, 60), throttle(200, 86_400));
    let root = v1::Target { cgroup: "/".to_owned(), cgroup_id: 1, ..v1::Target::default() };
    let all = v1::Command { target: Some(root), ..throttle(200, 60) };
    let killed = executor.at_cgroup(&busy, kill, 0);
    let stopped = v1::Command { target: Some(unit), lease_s: 60, ..executor.issue(stop) };
    let ran = executor.issue(Action::Run(v1::Run { name: "rm -rf /".to_owned() }));
    let isolated = v1::Command { lease_s: 60, ..executor.issue(Action::Isolate(v1::Isolate {})) };
    let auto = v1::Command { mode: "quick".to_owned(), ..executor.throttle(&busy, 200, 60) };
    for (command, why) in [
        (tight, "1 millicores, the least is 200"),
        (long, "a lease of 86400 s, the longest is 60 s"),
        (all, "cgroup / is protected: it is the root"),
        (killed, "kill is not among its actions"),
        (stopped, "stop_unit is not among its actions"),
        (ran, "run is not among its actions"),
        (isolated, "isolate is not among its actions"),
        (auto, "quick is not among its modes"),
    ] {
        let reason = agent.refused(executor.sign(&command));
        assert!(reason.contains(why), "{reason}");
    }
    assert!(!busy.limited());
}

#[test]
fn a_command_cut_short_anywhere_is_refused_and_never_counts_as_another() {
    let busy = Busy::start("cut");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 60);
    let whole = executor.sign(&command);
    for length in (0..whole.command.len()).step_by(7) {
        let mut cut = whole.clone();
        cut.command.truncate(length);
        assert_eq!(agent.refused(cut), "the signature does not fit the command", "{length} bytes");
    }
    for length in [0, 1, 32, 63] {
        let mut cut = whole.clone();
        cut.signature.truncate(length);
        assert_eq!(agent.refused(cut), "the signature does not fit the command");
    }
    agent.execute(whole);
    agent.expect(Step::Applied);
}

/// The socket's mode is one thing; that the program itself asks the kernel who is there is another.
#[test]
fn a_user_who_may_not_is_hung_up_on_whatever_the_sockets_mode() {
    let allowed = "65533";
    let executor = Executor::start(&format!("act = true\nallowed_uids = [\"{allowed}\"]\n"));
    fs::set_permissions(executor.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(executor.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let program = executor.dir.path().join("skep-executor");
    fs::copy(env!("CARGO_BIN_EXE_skep-executor"), &program).unwrap();
    let status = |uid: &str| {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), "--regid=65534", "--clear-groups"]).arg(&program);
        command.arg("status").arg("--socket").arg(executor.socket()).output().unwrap()
    };
    let refused = status("65534");
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("hung up without an answer") || text.contains("the connection broke"), "{text}");
    assert!(executor.log().contains("this user may not use the socket"));
    let answered = status(allowed);
    assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
}
