//! The engine over a folder that looks like a v2 hierarchy, a disk in memory and a clock that is moved by hand.

mod fuzz;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ed25519_dalek::{Signer, SigningKey};
use skep_seglog::sim::SimDisk;
use skep_wire::COMMAND_CONTEXT;
use skep_wire::v1::Step;
use skep_wire::v1::command::Action;

use super::*;
use crate::act::gauge::Reading;
use crate::act::hierarchy::{Hierarchies, Hierarchy, Version};
use crate::act::kind::Outcome;
use crate::act::throttle;
use crate::journal::state::mark;
use crate::journal::{Entry, Now, Standing};
use crate::verify::key::key_id;

const SECOND_NS: u64 = 1_000_000_000;

const START_US: i64 = 1_000_000_000_000;

/// What a job finds of a cgroup that uses a core.
fn busy() -> Found {
    Found::Observed(Some(Reading { value: 1.0, wanted: 1.0 }))
}

fn followed(step: Step) -> Found {
    Found::Followed(Outcome::of(step, "by hand"))
}

struct Bench {
    root: tempfile::TempDir,
    disk: SimDisk,
    clock: Clock,
    key: SigningKey,
    issued: u32,
    boot: String,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["busy", "calm"] {
            let dir = root.path().join(name);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cpu.max"), "max 100000").unwrap();
            fs::write(dir.join("cgroup.procs"), "").unwrap();
        }
        let clock = Clock::manual(SECOND_NS, START_US);
        Self {
            root,
            disk: SimDisk::default(),
            clock,
            key: SigningKey::from_bytes(&[4; 32]),
            issued: 0,
            boot: "b".to_owned(),
        }
    }

    fn start(&self) -> Engine<SimDisk> {
        self.start_with("act = true\n")
    }

    fn start_with(&self, config: &str) -> Engine<SimDisk> {
        let journal = Journal::open(self.disk.clone(), Path::new("/journal"), self.now()).unwrap();
        let mut trusted = Trusted::default();
        trusted.add(self.key.verifying_key());
        let config = Config::parse(config).unwrap();
        let hierarchy = Hierarchy { root: self.root.path().to_owned(), version: Version::V2 };
        let setup = Setup {
            node: "n".to_owned(),
            boot: self.boot.clone(),
            trusted,
            host: Host::new(Hierarchies::of(hierarchy), config.policy.clone()),
            config,
            clock: self.clock.clone(),
            fault: Fault::default(),
        };
        Engine::start(setup, journal).unwrap()
    }

    fn now(&self) -> Now {
        Now { wall_us: self.clock.wall_us(), boot_ns: self.clock.boot_ns(), boot: mark(&self.boot) }
    }

    /// Another life begins so much later, with a wall clock that is off by so much.
    fn restart(&mut self, later_s: u64, off_s: i64, config: &str) -> Engine<SimDisk> {
        let wall_us = START_US + (self.elapsed_s() + later_s as i64 + off_s) * 1_000_000;
        self.clock = Clock::manual(self.clock.boot_ns() + later_s * SECOND_NS, wall_us);
        self.start_with(config)
    }

    /// Since the first life began.
    fn elapsed_s(&self) -> i64 {
        (self.clock.boot_ns() / SECOND_NS) as i64 - 1
    }

    fn limit(&self) -> String {
        fs::read_to_string(self.root.path().join("busy/cpu.max")).unwrap()
    }

    fn set_limit(&self, text: &str) {
        fs::write(self.root.path().join("busy/cpu.max"), text).unwrap();
    }

    fn throttle(&mut self, lease_s: u32) -> v1::SignedCommand {
        self.throttle_of("busy", lease_s)
    }

    fn throttle_of(&mut self, name: &str, lease_s: u32) -> v1::SignedCommand {
        let cgroup_id = fs::metadata(self.root.path().join(name)).unwrap().ino() as i64;
        let target =
            v1::Target { workload: "w".to_owned(), cgroup: format!("/{name}"), cgroup_id, ..Default::default() };
        let throttle = Action::Throttle(v1::Throttle { cpu_millicores: 250 });
        let command = v1::Command { target: Some(target), ..self.command(throttle, lease_s) };
        self.sign(&command)
    }

    fn command(&mut self, action: Action, lease_s: u32) -> v1::Command {
        self.issued += 1;
        v1::Command {
            id: format!("{:032x}", self.issued),
            nonce: format!("{:032x}", self.issued + 1000),
            node: "n".to_owned(),
            boot: "b".to_owned(),
            action: Some(action),
            issued_us: self.clock.wall_us(),
            not_after_us: self.clock.wall_us() + 60_000_000,
            lease_s,
            ..Default::default()
        }
    }

    fn sign(&self, command: &v1::Command) -> v1::SignedCommand {
        let command = command.encode_to_vec();
        let signature = self.key.sign(&[COMMAND_CONTEXT, &command].concat()).to_bytes().to_vec();
        v1::SignedCommand { command, signature, key_id: key_id(&self.key.verifying_key()) }
    }

    /// An engine with one action that stands.
    fn applied(&mut self, lease_s: u32) -> (Engine<SimDisk>, String) {
        let mut engine = self.start();
        let signed = self.throttle(lease_s);
        let job = engine.execute(&signed).unwrap().expect("it is measured first");
        engine.found(&job.action, busy()).unwrap().expect("and afterwards");
        assert_eq!(self.limit(), "25000 100000");
        (engine, job.action)
    }
}

fn steps(engine: &Engine<SimDisk>) -> Vec<Step> {
    engine.receipts().borrow().iter().map(v1::Receipt::step).collect()
}

#[test]
fn a_lease_ends_on_the_boot_clock() {
    let mut bench = Bench::new();
    let (mut engine, _) = bench.applied(60);
    assert_eq!(engine.next_due_ns(), Some(61 * SECOND_NS));
    bench.clock.advance_ns(59 * SECOND_NS);
    engine.run_due().unwrap();
    assert_eq!(bench.limit(), "25000 100000");
    bench.clock.advance_ns(SECOND_NS);
    engine.run_due().unwrap();
    assert_eq!(bench.limit(), "max 100000");
    assert_eq!(steps(&engine), [Step::Applied, Step::Undone]);
    assert_eq!(engine.next_due_ns(), None);
}

#[test]
fn what_makes_it_worse_is_undone_at_once() {
    let mut bench = Bench::new();
    let (mut engine, action) = bench.applied(60);
    assert!(engine.found(&action, followed(Step::Worse)).unwrap().is_none());
    assert_eq!(bench.limit(), "max 100000");
    assert_eq!(steps(&engine), [Step::Applied, Step::Worse, Step::Undone]);
}

#[test]
fn what_does_not_help_stands_until_its_lease_ends() {
    let mut bench = Bench::new();
    let (mut engine, action) = bench.applied(60);
    engine.found(&action, followed(Step::Unchanged)).unwrap();
    assert_eq!(steps(&engine), [Step::Applied, Step::Unchanged]);
    assert_eq!(bench.limit(), "25000 100000");
}

#[test]
fn nothing_is_changed_before_the_journal_has_it() {
    let mut bench = Bench::new();
    let mut engine = bench.start();
    let job = engine.execute(&bench.throttle(60)).unwrap().unwrap();
    bench.disk.fail_sync(true);
    assert!(engine.found(&job.action, busy()).is_err());
    assert_eq!(bench.limit(), "max 100000");
}

#[test]
fn a_crash_at_any_moment_leaves_nothing_standing_after_the_next_start() {
    let mut bench = Bench::new();
    let (engine, action) = bench.applied(600);
    drop(engine);
    bench.disk.crash(|_| 0);
    let engine = bench.start();
    assert_eq!(bench.limit(), "max 100000");
    assert_eq!(steps(&engine), [Step::Applied, Step::Undone]);
    assert!(engine.status().active.is_empty());
    // Between the journal and the host: the journal says it stands, the host was never changed.
    drop(engine);
    let mut journal = Journal::open(bench.disk.clone(), Path::new("/journal"), Now::default()).unwrap();
    let throttle = Action::Throttle(v1::Throttle { cpu_millicores: 250 });
    let command = v1::Command { id: action, action: Some(throttle), ..Default::default() };
    let target = v1::Target { cgroup: "/busy".to_owned(), cgroup_id: 0, ..Default::default() };
    let standing = Standing {
        command: Some(v1::Command { target: Some(target), ..command }),
        boot: "b".to_owned(),
        previous: "max 100000".to_owned(),
        ours: "25000 100000".to_owned(),
        lease_until_us: 0,
    };
    journal.write(Entry::of([What::Standing(standing)]), Now::default()).unwrap();
    drop(journal);
    let engine = bench.start();
    assert!(engine.status().active.is_empty());
    assert_eq!(bench.limit(), "max 100000");
}

#[test]
fn a_full_disk_does_not_keep_a_limit_standing() {
    let mut bench = Bench::new();
    let (mut engine, _) = bench.applied(60);
    bench.disk.set_free(Some(0));
    assert!(engine.stop().is_err(), "it says that it could not be written");
    assert_eq!(bench.limit(), "max 100000");
    drop(engine);
    // Nor the next life, which closes it when there is room again.
    let journal = Journal::open(bench.disk.clone(), Path::new("/journal"), Now::default()).unwrap();
    assert_eq!(journal.state().standing.len(), 1);
    drop(journal);
    bench.disk.set_free(None);
    let engine = bench.start();
    assert_eq!(steps(&engine), [Step::Applied, Step::Undone]);
    assert!(engine.receipts().borrow()[1].detail.contains("stands already"));
}

#[test]
fn an_undo_that_fails_is_told_once_and_tried_again() {
    let mut bench = Bench::new();
    let (mut engine, _) = bench.applied(60);
    bench.set_limit("nonsense");
    bench.clock.advance_ns(60 * SECOND_NS);
    for _ in 0..3 {
        engine.run_due().unwrap();
        bench.clock.advance_ns(RETRY_NS);
    }
    assert_eq!(steps(&engine), [Step::Applied, Step::Failed]);
    bench.set_limit("25000 100000");
    engine.run_due().unwrap();
    assert_eq!(bench.limit(), "max 100000");
    assert_eq!(steps(&engine), [Step::Applied, Step::Failed, Step::Undone]);
}

#[test]
fn with_a_damaged_journal_commands_of_before_are_refused() {
    let mut bench = Bench::new();
    let (engine, _) = bench.applied(60);
    let segment = Path::new("/journal/00000000000000000001.seg");
    drop(engine);
    assert!(bench.disk.size(segment).is_some());
    bench.disk.flip(segment, 24 + 12 + 1);
    let old = bench.throttle(60);
    bench.clock.advance_ns(SECOND_NS);
    let mut engine = bench.start();
    assert_eq!(bench.limit(), "max 100000", "the rest of the journal is believed");
    assert!(engine.execute(&old).unwrap().is_none());
    let receipts = engine.receipts();
    let last = receipts.borrow().last().cloned().unwrap();
    assert_eq!((last.step(), last.detail.as_str()), (Step::Refused, "the command was carried out or refused before"));
    assert!(last.action_id.starts_with("replay:"));
    bench.clock.advance_ns(SECOND_NS);
    assert!(engine.execute(&bench.throttle(60)).unwrap().is_some(), "later ones are taken");
}

#[test]
fn an_agent_that_takes_no_receipts_cannot_fill_the_disk() {
    let mut bench = Bench::new();
    let mut engine = bench.start();
    let mut signed = bench.throttle(60);
    signed.signature[0] ^= 1;
    for _ in 0..MAX_RECEIPTS + 10 {
        assert!(engine.execute(&signed).unwrap().is_none());
    }
    assert_eq!(engine.receipts().borrow().len(), MAX_RECEIPTS);
    engine.acknowledge(MAX_RECEIPTS as u64).unwrap();
    assert!(engine.execute(&bench.throttle(60)).unwrap().is_some());
}

#[test]
fn a_failing_journal_does_not_keep_stop_from_undoing_while_a_command_waits() {
    let mut bench = Bench::new();
    let (mut engine, _) = bench.applied(60);
    assert!(engine.execute(&bench.throttle_of("calm", 60)).unwrap().is_some(), "one is being measured");
    bench.disk.set_free(Some(0));
    assert!(engine.stop().is_err());
    assert_eq!(bench.limit(), "max 100000");
}

#[test]
fn a_half_set_limit_that_cannot_be_taken_back_stays_open_and_is_tried_again() {
    let mut bench = Bench::new();
    let (mut engine, action) = bench.applied(600);
    let command = engine.journal.state().standing[&action].command.clone().unwrap();
    bench.set_limit("nonsense");
    let error = throttle::read(Version::V2, &bench.root.path().join("busy")).unwrap_err();
    engine.not_applied(&Deed::of(command).unwrap(), &error.into()).unwrap();
    assert_eq!(engine.status().active, [action]);
    bench.set_limit("25000 100000");
    bench.clock.advance_ns(RETRY_NS);
    engine.run_due().unwrap();
    assert_eq!(bench.limit(), "max 100000");
    assert_eq!(steps(&engine), [Step::Applied, Step::Failed, Step::Undone]);
    assert!(engine.status().active.is_empty());
}

#[test]
fn commands_being_measured_count_against_the_hour() {
    let mut bench = Bench::new();
    let mut engine = bench.start_with("act = true\n[budget]\nmax_per_hour = 1\n");
    assert!(engine.execute(&bench.throttle(60)).unwrap().is_some());
    assert!(engine.execute(&bench.throttle_of("calm", 60)).unwrap().is_none());
    let receipts = engine.receipts();
    let detail = receipts.borrow().last().unwrap().detail.clone();
    assert_eq!(detail, "not allowed by this executor's policy: 1 actions in an hour, 1 may be");
}

#[test]
fn a_command_that_expires_while_it_is_measured_is_refused() {
    let mut bench = Bench::new();
    let mut engine = bench.start();
    let job = engine.execute(&bench.throttle(60)).unwrap().unwrap();
    bench.clock.advance_ns(61 * SECOND_NS);
    assert!(engine.found(&job.action, busy()).unwrap().is_none());
    assert_eq!(bench.limit(), "max 100000");
    assert_eq!(steps(&engine), [Step::Refused]);
}

#[test]
fn undoing_a_real_limit_is_no_dry_run_in_a_life_that_does_not_act() {
    let mut bench = Bench::new();
    let (engine, _) = bench.applied(600);
    drop(engine);
    let engine = bench.start_with("act = false\n");
    assert_eq!(bench.limit(), "max 100000");
    let receipts = engine.receipts();
    let last = receipts.borrow().last().cloned().unwrap();
    assert_eq!((last.step(), last.dry_run), (Step::Undone, false));
}

#[test]
fn a_reading_below_the_reason_ends_as_moot() {
    let mut bench = Bench::new();
    let mut engine = bench.start();
    let job = engine.execute(&bench.throttle(60)).unwrap().unwrap();
    let calm = Found::Observed(Some(Reading { value: 0.1, wanted: 0.1 }));
    assert!(engine.found(&job.action, calm).unwrap().is_none());
    let receipts = engine.receipts();
    let last = receipts.borrow().last().cloned().unwrap();
    assert_eq!(last.step(), Step::Moot);
    assert_eq!(last.detail, "trigger gone: the cgroup uses 0.100 cores, the limit would be 0.250");
    assert_eq!(bench.limit(), "max 100000");
}

#[test]
fn after_a_reboot_what_died_with_the_kernel_is_closed_and_nothing_is_touched() {
    let mut bench = Bench::new();
    let (engine, _) = bench.applied(600);
    drop(engine);
    bench.boot = "c".to_owned();
    let engine = bench.start();
    assert_eq!(bench.limit(), "25000 100000", "in the other boot that limit would be somebody else's");
    assert!(engine.status().active.is_empty());
    assert!(engine.receipts().borrow()[1].detail.contains("the host has restarted since"));
}

#[test]
fn a_lease_is_extended_by_a_new_command_alone() {
    let mut bench = Bench::new();
    let (mut engine, action) = bench.applied(60);
    for (lease_s, expected) in [(4000, Step::Refused), (120, Step::Extended)] {
        let command = bench.command(Action::Extend(v1::Extend { action_id: action.clone() }), lease_s);
        let signed = bench.sign(&command);
        engine.execute(&signed).unwrap();
        assert_eq!(steps(&engine).last(), Some(&expected));
    }
    bench.clock.advance_ns(119 * SECOND_NS);
    engine.run_due().unwrap();
    assert_eq!(bench.limit(), "25000 100000");
    bench.clock.advance_ns(SECOND_NS);
    engine.run_due().unwrap();
    assert_eq!(bench.limit(), "max 100000");
}

#[test]
fn a_clock_set_days_ahead_and_back_lets_nothing_be_done_twice() {
    let mut bench = Bench::new();
    let signed = {
        let mut engine = bench.start();
        let signed = bench.throttle(60);
        let job = engine.execute(&signed).unwrap().unwrap();
        engine.found(&job.action, busy()).unwrap().unwrap();
        signed
    };
    for off_s in [2 * 86_400, 4 * 86_400] {
        drop(bench.restart(5, off_s, "act = true\n"));
    }
    let mut engine = bench.restart(5, 0, "act = true\n");
    assert!(engine.execute(&signed).unwrap().is_none());
    assert_eq!(bench.limit(), "max 100000");
    let detail = engine.receipts().borrow().last().unwrap().detail.clone();
    assert_eq!(detail, "the command was carried out or refused before");
    let other = bench.throttle(60);
    assert!(engine.execute(&other).unwrap().is_some(), "others are taken");
}

#[test]
fn a_clock_set_ahead_does_not_open_the_budget_of_the_hour() {
    const ONE: &str = "act = true\n[budget]\nmax_per_hour = 1\n";
    let mut bench = Bench::new();
    let mut engine = bench.restart(0, 0, ONE);
    let job = engine.execute(&bench.throttle(60)).unwrap().unwrap();
    engine.found(&job.action, busy()).unwrap().unwrap();
    drop(engine);
    let mut engine = bench.restart(60, 7_200, ONE);
    assert!(engine.execute(&bench.throttle(60)).unwrap().is_none());
    let detail = engine.receipts().borrow().last().unwrap().detail.clone();
    assert_eq!(detail, "not allowed by this executor's policy: 1 actions in an hour, 1 may be");
    let mut engine = bench.restart(3_600, 7_200, ONE);
    assert!(engine.execute(&bench.throttle(60)).unwrap().is_some());
}

#[test]
fn what_a_clock_set_back_had_refused_is_not_done_when_it_is_right_again() {
    let mut bench = Bench::new();
    let signed = bench.throttle(60);
    let mut engine = bench.restart(1, -26 * 3_600, "act = true\n");
    assert!(engine.execute(&signed).unwrap().is_none());
    let detail = engine.receipts().borrow().last().unwrap().detail.clone();
    assert_eq!(detail, "the command is valid for 93659 s, at most 600 are allowed");
    drop(engine);
    for _ in 0..2 {
        let mut engine = bench.restart(1, 0, "act = true\n");
        assert!(engine.execute(&signed).unwrap().is_none());
    }
}
