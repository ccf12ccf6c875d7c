//! A limit on cpu, and what every action has in common.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Agent, Busy, Executor, eventually, now_us, sign_with};
use ed25519_dalek::SigningKey;
use skep_executor::act::hierarchy::Version;
use skep_executor::act::throttle::{self, Limit};
use skep_wire::v1::Step;
use skep_wire::v1::executor_request::Request;
use skep_wire::v1::{ReceiptAck, command::Action};

const ACT: &str = "act = true\n";

#[test]
fn a_throttle_bites_is_verified_and_is_undone_on_request() {
    let busy = Busy::start("undo");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let before = eventually("a busy loop", || Some(busy.cores()).filter(|cores| *cores > 0.3));
    let command = executor.throttle(&busy, 200, 60);
    agent.execute(executor.sign(&command));
    let applied = agent.expect(Step::Applied);
    assert_eq!((applied.number, applied.action_id.as_str(), applied.dry_run), (1, command.id.as_str(), false));
    assert!(applied.lease_until_us > now_us() && applied.lease_until_us < now_us() + 61_000_000);
    assert!((busy.limit().cores() - 0.2).abs() < 1e-9);
    let improved = agent.expect(Step::Improved);
    assert_eq!(improved.command.as_ref(), Some(&command));
    let after = busy.cores();
    assert!(after < 0.26 && after < before, "{before} cores before, {after} after");
    assert_eq!(agent.status().active, std::slice::from_ref(&command.id));

    let undo = executor.undo(&command.id);
    agent.execute(executor.sign(&undo));
    let undone = agent.expect(Step::Undone);
    assert_eq!(undone.action_id, command.id);
    assert!(undone.detail.contains("an operator asked for it"), "{}", undone.detail);
    assert!(!busy.limited());
    assert!(agent.status().active.is_empty());
    let again = executor.undo(&command.id);
    let reason = agent.refused(executor.sign(&again));
    assert_eq!(reason, format!("no action {} stands", command.id));
}

#[test]
fn the_end_of_the_lease_undoes() {
    let busy = Busy::start("lease");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 4);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    let start = Instant::now();
    assert!(busy.limited());
    agent.expect(Step::Improved);
    let undone = agent.expect(Step::Undone);
    assert!(undone.detail.contains("the lease has ended"), "{}", undone.detail);
    assert!(start.elapsed() > Duration::from_millis(3500) && start.elapsed() < Duration::from_secs(8));
    assert!(!busy.limited());
}

#[test]
fn a_kill_during_the_lease_is_made_good_before_the_next_life_listens() {
    let busy = Busy::start("kill");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 600);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    executor.kill();
    assert!(busy.limited(), "nobody is there to undo it");
    executor.restart();
    assert!(!busy.limited(), "undone before it listens");
    let mut agent = executor.agent();
    let receipts = [agent.receipt(), agent.receipt()];
    assert_eq!(receipts.each_ref().map(|receipt| receipt.number), [1, 2], "what nobody acknowledged comes again");
    assert_eq!(receipts.each_ref().map(|receipt| receipt.step()), [Step::Applied, Step::Undone]);
    assert!(receipts[1].detail.contains("the executor had ended"), "{}", receipts[1].detail);
    let reason = agent.refused(executor.sign(&command));
    assert_eq!(reason, "the command was carried out or refused before", "nonces outlive the process");
}

#[test]
fn an_unreadable_trusted_key_does_not_keep_a_crashed_lifes_limit_standing() {
    let busy = Busy::start("key");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 600);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    executor.kill();
    assert!(busy.limited());
    fs::write(executor.dir.path().join("command.pub"), "no key").unwrap();
    let failed = executor.command().output().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{}", String::from_utf8_lossy(&failed.stderr));
    assert!(!busy.limited(), "undoing needs no key");
}

#[test]
fn a_termination_undoes_and_exits_with_0() {
    let busy = Busy::start("term");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 600);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    assert_eq!(executor.terminate(), Some(0));
    assert!(!busy.limited());
    assert!(!executor.socket().exists());
}

#[test]
fn a_termination_that_leaves_a_limit_standing_does_not_exit_with_0() {
    let busy = Busy::start("standing");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 600);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    // What cannot be read cannot be undone: another file lies over the cgroup's.
    let file = busy.dir.join(if busy.hierarchy.version == Version::V1 { "cpu.cfs_quota_us" } else { "cpu.max" });
    let nonsense = executor.dir.path().join("nonsense");
    fs::write(&nonsense, "nonsense").unwrap();
    let mount = |args: &[&std::path::Path]| std::process::Command::new(args[0]).args(&args[1..]).status().unwrap();
    assert!(mount(&["mount".as_ref(), "--bind".as_ref(), &nonsense, &file]).success());
    let code = executor.terminate();
    assert!(mount(&["umount".as_ref(), &file]).success());
    assert_eq!(code, Some(1));
    assert!(executor.log().contains("may still stand"), "{}", executor.log());
    executor.restart();
    assert!(!busy.limited(), "the next life undoes it");
}

#[test]
fn a_limit_of_somebody_else_is_left_alone() {
    let busy = Busy::start("foreign");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 600);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    agent.expect(Step::Improved);
    let theirs = Limit { quota_us: Some(77_000), period_us: 100_000 };
    throttle::write(busy.hierarchy.version, &busy.dir, &theirs).unwrap();
    let undo = executor.undo(&command.id);
    agent.execute(executor.sign(&undo));
    let undone = agent.expect(Step::Undone);
    assert!(undone.detail.contains("somebody else"), "{}", undone.detail);
    assert_eq!(busy.limit(), theirs);
}

#[test]
fn an_earlier_limit_comes_back_as_it_was() {
    let busy = Busy::start("previous");
    let previous = Limit { quota_us: Some(90_000), period_us: 100_000 };
    throttle::write(busy.hierarchy.version, &busy.dir, &previous).unwrap();
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 200, 3);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    agent.expect(Step::Improved);
    agent.expect(Step::Undone);
    assert_eq!(busy.limit(), previous);
    let looser = executor.throttle(&busy, 950, 60);
    assert_eq!(agent.refused(executor.sign(&looser)), "the cgroup is limited to 0.900 cores already");
}

#[test]
fn a_cgroup_that_ends_during_the_lease_is_closed() {
    let mut busy = Busy::start("gone");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 4);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    busy.remove();
    agent.expect(Step::Improved);
    let undone = agent.expect(Step::Undone);
    assert!(undone.detail.contains("the cgroup is gone"), "{}", undone.detail);
    assert!(agent.status().active.is_empty());
}

#[test]
fn a_dry_run_checks_everything_and_changes_nothing() {
    let busy = Busy::start("dry");
    let mut executor = Executor::start("");
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 60);
    agent.execute(executor.sign(&command));
    let applied = agent.expect(Step::Applied);
    assert!(applied.dry_run && applied.detail.starts_with("dry run: "), "{applied:?}");
    assert!(agent.expect(Step::Undone).dry_run);
    assert!(!busy.limited());
    assert!(agent.status().dry_run);
}

#[test]
fn every_command_that_is_not_in_order_is_refused_with_its_reason() {
    let busy = Busy::start("refuse");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();

    let foreign = SigningKey::from_bytes(&[8; 32]);
    let command = executor.throttle(&busy, 100, 60);
    let reason = agent.refused(sign_with(&foreign, &command));
    assert!(reason.contains("which is not trusted here"), "{reason}");

    let mut borrowed = sign_with(&foreign, &command);
    borrowed.key_id = executor.sign(&command).key_id;
    assert_eq!(agent.refused(borrowed), "the signature does not fit the command");

    let mut tampered = executor.sign(&command);
    *tampered.command.last_mut().unwrap() ^= 1;
    assert_eq!(agent.refused(tampered), "the signature does not fit the command");

    let mut expired = executor.throttle(&busy, 100, 60);
    expired.not_after_us = now_us() - 3_500_000;
    assert_eq!(agent.refused(executor.sign(&expired)), "the command expired 3 s ago");

    let mut other = executor.throttle(&busy, 100, 60);
    other.node = "another".to_owned();
    assert_eq!(agent.refused(executor.sign(&other)), "the command is for node another");

    let mut earlier = executor.throttle(&busy, 100, 60);
    earlier.boot = "00000000-0000-0000-0000-000000000000".to_owned();
    assert_eq!(agent.refused(executor.sign(&earlier)), "the command is for another boot of this host");

    let mut garbage = executor.sign(&command);
    garbage.command = vec![0xff; 9];
    assert_eq!(agent.refused(garbage), "the signature does not fit the command");

    let again = executor.throttle(&busy, 100, 60);
    let mut renamed = again.clone();
    renamed.id = "f".repeat(32);
    agent.execute(executor.sign(&again));
    agent.expect(Step::Applied);
    let same_nonce = agent.refused(executor.sign(&renamed));
    assert_eq!(same_nonce, "the command was carried out or refused before");
    assert!(busy.limited());
}

#[test]
fn every_target_that_is_not_in_order_is_refused_with_its_reason() {
    let mut busy = Busy::start("target");
    let mut executor = Executor::start("act = true\nprotected_cgroups = [\"/skep-test-kept\"]\n");
    let mut agent = executor.agent();
    let mut refused_at = |executor: &mut Executor, cgroup: &str, id: i64| {
        let mut command = executor.throttle(&busy, 100, 60);
        let target = command.target.as_mut().unwrap();
        (target.cgroup, target.cgroup_id) = (cgroup.to_owned(), id);
        agent.refused(executor.sign(&command))
    };
    let id = busy.id();
    assert_eq!(refused_at(&mut executor, "/", 1), "cgroup / is protected: it is the root");
    let dotted = format!("{}/../{}", busy.path, &busy.path[1..]);
    assert!(refused_at(&mut executor, &dotted, id).contains("is not a plain absolute path"));
    assert_eq!(refused_at(&mut executor, "/no-such-cgroup", id), "cgroup /no-such-cgroup is gone");
    assert!(refused_at(&mut executor, &busy.path.clone(), id + 1).contains("is another one than was meant"));

    let kept = busy.hierarchy.root.join("skep-test-kept");
    fs::create_dir_all(&kept).unwrap();
    let kept_id = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&kept).unwrap()) as i64;
    let reason = refused_at(&mut executor, "/skep-test-kept", kept_id);
    fs::remove_dir(&kept).unwrap();
    assert_eq!(reason, "cgroup /skep-test-kept is protected: the configuration protects /skep-test-kept");

    // The same name, made anew: another cgroup.
    let command = executor.throttle(&busy, 100, 60);
    busy.remove();
    busy.again();
    let reason = agent.refused(executor.sign(&command));
    assert!(busy.id() != id && reason.contains("is another one than was meant"), "{reason}");
}

#[test]
fn a_cgroup_that_holds_a_protected_process_is_refused_whatever_its_name() {
    let mut busy = Busy::idle("holds");
    let dir = tempfile::tempdir().unwrap();
    let sshd = dir.path().join("sshd");
    fs::copy("/bin/sleep", &sshd).unwrap();
    // One level further down, where a look at the cgroup alone would miss it.
    let below = busy.dir.join("below");
    fs::create_dir(&below).unwrap();
    busy.run(&format!("echo $$ > {}/cgroup.procs && exec {} 600", below.display(), sshd.display()));
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    eventually("sshd", || {
        let pid = skep_executor::act::usage::processes(&below).unwrap().first().copied()?;
        fs::read_link(format!("/proc/{pid}/exe")).ok().filter(|exe| exe.ends_with("sshd"))
    });
    let command = executor.throttle(&busy, 100, 60);
    let reason = agent.refused(executor.sign(&command));
    assert!(reason.contains("is protected: it holds sshd"), "{reason}");
    busy.end();
    fs::remove_dir(&below).unwrap();
}

#[test]
fn a_trigger_that_is_gone_is_no_reason_to_act() {
    let mut busy = Busy::idle("calm");
    busy.run("exec sleep 600");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 250, 60);
    agent.execute(executor.sign(&command));
    let reason = agent.expect(Step::Moot).detail;
    assert_eq!(reason, "trigger gone: the cgroup uses 0.000 cores, the limit would be 0.250");
    assert!(!busy.limited());
}

#[test]
fn its_own_policy_is_the_last_word() {
    let busy = Busy::start("policy");
    let other = Busy::start("policy-2");
    let config = "act = true\n[throttle]\nmin_cpu_millicores = 200\nmax_lease_s = 60\n[budget]\nmax_concurrent = 1\n";
    let mut executor = Executor::start(config);
    let mut agent = executor.agent();
    let small = executor.throttle(&busy, 100, 60);
    let reason = agent.refused(executor.sign(&small));
    assert_eq!(reason, "not allowed by this executor's policy: 100 millicores, the least is 200");
    let long = executor.throttle(&busy, 200, 61);
    let reason = agent.refused(executor.sign(&long));
    assert_eq!(reason, "not allowed by this executor's policy: a lease of 61 s, the longest is 60 s");
    let first = executor.throttle(&busy, 200, 60);
    agent.execute(executor.sign(&first));
    let second = executor.throttle(&other, 200, 60);
    let reason = agent.refused(executor.sign(&second));
    assert_eq!(reason, "not allowed by this executor's policy: 1 actions stand, 1 may");
    agent.expect(Step::Applied);
}

#[test]
fn one_cgroup_bears_one_action() {
    let busy = Busy::start("twice");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let first = executor.throttle(&busy, 200, 60);
    agent.execute(executor.sign(&first));
    let second = executor.throttle(&busy, 100, 60);
    let reason = agent.refused(executor.sign(&second));
    assert_eq!(reason, format!("action {} stands on cgroup {} already", first.id, busy.path));
    agent.expect(Step::Applied);
}

#[test]
fn an_undo_that_overtakes_its_action_withdraws_it() {
    let busy = Busy::start("withdraw");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 200, 60);
    agent.execute(executor.sign(&command));
    let undo = executor.undo(&command.id);
    let reason = agent.refused(executor.sign(&undo));
    assert_eq!(reason, "withdrawn before it was applied");
    assert!(!busy.limited());
}

#[test]
fn receipts_come_until_they_are_acknowledged() {
    let busy = Busy::start("ack");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    for _ in 0..3 {
        let mut command = executor.throttle(&busy, 100, 60);
        command.node = "another".to_owned();
        agent.refused(executor.sign(&command));
    }
    agent.send(Request::ReceiptAck(ReceiptAck { durable_number: 2 }));
    agent.send(Request::ReceiptAck(ReceiptAck { durable_number: 900 }));
    agent.status();
    assert_eq!(executor.agent().receipt().number, 3);
    executor.kill();
    executor.restart();
    let mut agent = executor.agent();
    assert_eq!(agent.receipt().number, 3);
    agent.send(Request::ReceiptAck(ReceiptAck { durable_number: 3 }));
    let mut command = executor.throttle(&busy, 100, 60);
    command.node = "another".to_owned();
    agent.refused(executor.sign(&command));
    assert_eq!(executor.agent().receipt().number, 4, "a number is never given twice");
}

#[test]
fn a_torn_journal_still_undoes_what_it_says() {
    let busy = Busy::start("torn");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let command = executor.throttle(&busy, 100, 600);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    executor.kill();
    let journal = executor.dir.path().join("state/journal");
    let newest = fs::read_dir(&journal).unwrap().flatten().map(|entry| entry.path()).max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    bytes.truncate(bytes.len() - 3);
    fs::write(&newest, bytes).unwrap();
    executor.restart();
    assert!(!busy.limited());
    assert!(executor.log().contains("a torn end of the journal was cut off"), "{}", executor.log());
    let undone = eventually("the undone receipt", || Some(executor.agent().receipt()));
    assert_eq!(undone.step(), Step::Undone);
}

#[test]
fn a_second_executor_and_a_bad_configuration_are_one_clear_line() {
    let executor = Executor::start(ACT);
    let second = executor.command().output().unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text.contains("another executor uses"), "{text}");

    fs::write(executor.dir.path().join("executor.toml"), "acct = true\n[throttle]\nmax_lease_s = \"x\"\n").unwrap();
    let refused = executor.command().output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text.contains("acct: unknown key; throttle.max_lease_s: expected a whole number"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn nonsense_on_the_socket_ends_that_connection_only() {
    use std::io::{Read, Write};
    let executor = Executor::start(ACT);
    let mut bad = std::os::unix::net::UnixStream::connect(executor.socket()).unwrap();
    bad.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    bad.write_all(&[0xff; 64]).unwrap();
    assert_eq!(bad.read(&mut [0; 8]).unwrap_or(0), 0, "it hangs up");
    let mut good: Agent = executor.agent();
    assert!(good.status().active.is_empty());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(executor.socket()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn an_action_of_a_later_version_is_refused() {
    let busy = Busy::start("later");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let mut command = executor.throttle(&busy, 100, 60);
    command.action = None::<Action>;
    let reason = agent.refused(executor.sign(&command));
    assert!(reason.contains("an action this version does not know"), "{reason}");
}
