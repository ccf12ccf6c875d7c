//! The engine that acts on a cluster, called step by step.

use std::path::Path;
use std::time::Duration;

use skep_journal::fault::Fault;
use skep_journal::{Journal, Now};
use skep_kubernetes::cluster::Cluster;
use skep_kubernetes::engine::{Engine, Setup};
use skep_kubernetes::fault;
use skep_kubernetes::settings::Settings;
use skep_runtime::clock::Clock;
use skep_runtime::settings;
use skep_seglog::Disk;
use skep_wire::v1::{self, Step};
use skep_wire::{order, v1::command::Action};

/// Settings that allow what the tests do.
pub const ALL: &str = "act = true\nallowed = [\"shop/*\", \"node/*\"]\nwithin_s = 20\nmax_concurrent = 3\nmax_per_hour = 100\n\
                       actions = [\"evict_pod\", \"delete_pod\", \"restart_rollout\", \"scale\", \"undo_rollout\", \"cordon\", \"uncordon\"]\n";

/// An engine and the time it has.
#[derive(Debug)]
pub struct Bench {
    runtime: tokio::runtime::Runtime,
    engine: Engine,
    identity: String,
    /// Can be set.
    pub clock: Clock,
    issued: u64,
}

/// The section of the collector's settings.
pub fn settings(text: &str, kubeconfig: &Path) -> Settings {
    let (mut top, noted) = settings::parse(&format!("[kubernetes]\nenabled = true\n{text}")).unwrap();
    let mut settings = Settings::read(top.section("kubernetes"));
    top.finish();
    noted.into_result().unwrap();
    settings.kubeconfig = Some(kubeconfig.to_owned());
    settings
}

fn now_us() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_micros()).unwrap()
}

impl Bench {
    /// An engine over a journal, with these settings.
    pub fn over(kubeconfig: &Path, dir: &Path, text: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        // Time stands still until a test moves it.
        let clock = Clock::manual(0, now_us());
        let settings = settings(text, kubeconfig);
        let cluster = runtime.block_on(Cluster::of(&settings)).unwrap();
        let identity = runtime.block_on(cluster.identity()).unwrap().0;
        let fault = Fault::of_environment(fault::ENVIRONMENT);
        let now = Now { wall_us: clock.wall_us(), boot_ns: clock.boot_ns(), boot: 1 };
        let setup = Setup { settings, cluster, identity: identity.clone(), clock: clock.clone(), boot: 1, fault };
        let journal = Journal::open(Disk, dir, now).unwrap();
        let engine = runtime.block_on(async { tokio::spawn(Engine::start(setup, journal)).await.unwrap() }).unwrap();
        Self { runtime, engine, identity, clock, issued: 0 }
    }

    /// A command that is in order.
    pub fn command(&mut self, id: &str, verb: &str, parameters: &str) -> v1::Command {
        let read = order::read(verb, parameters).unwrap();
        self.issue(v1::Command { id: id.to_owned(), ..read })
    }

    fn issue(&mut self, command: v1::Command) -> v1::Command {
        self.issued += 1;
        v1::Command {
            nonce: format!("{}-{}", self.issued, command.id),
            node: order::CLUSTER.to_owned(),
            boot: self.identity.clone(),
            issued_us: self.clock.wall_us(),
            not_after_us: self.clock.wall_us() + 60_000_000,
            approved_by: "tester".to_owned(),
            ..command
        }
    }

    /// Hands a command over.
    pub fn execute(&mut self, command: &v1::Command) {
        let engine = &mut self.engine;
        self.runtime.block_on(engine.execute(command)).unwrap();
    }

    /// Looks at what is under way until it is over.
    pub fn settle(&mut self) {
        while self.engine.is_following() {
            let engine = &mut self.engine;
            self.runtime.block_on(engine.look()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            // As long in its time as a long rollout has.
            self.clock.advance_ns(100_000_000);
        }
    }

    /// Lets time pass, and what is due happen.
    pub fn pass(&mut self, seconds: u64) {
        self.clock.advance_ns(seconds * 1_000_000_000);
        let engine = &mut self.engine;
        self.runtime.block_on(engine.run_due()).unwrap();
    }

    /// An operator wants an action undone.
    pub fn undo(&mut self, action: &str) {
        let undo = Action::Undo(v1::Undo { action_id: action.to_owned() });
        let command =
            self.issue(v1::Command { id: format!("undo {action}"), action: Some(undo), ..Default::default() });
        self.execute(&command);
    }

    /// Or more time for it.
    pub fn extend(&mut self, action: &str, lease_s: u32) {
        let extend = Action::Extend(v1::Extend { action_id: action.to_owned() });
        let id = format!("extend {action}");
        let command = self.issue(v1::Command { id, action: Some(extend), lease_s, ..Default::default() });
        self.execute(&command);
    }

    /// Orders it, and follows it to its outcome.
    pub fn order(&mut self, id: &str, verb: &str, parameters: &str) -> Vec<(Step, String)> {
        let command = self.command(id, verb, parameters);
        self.execute(&command);
        self.settle();
        self.said()
    }

    /// All receipts since the last time.
    pub fn said(&mut self) -> Vec<(Step, String)> {
        let receipts = self.engine.receipts();
        if let Some(last) = receipts.last() {
            self.engine_acknowledges(last.number);
        }
        receipts.into_iter().map(|receipt| (receipt.step(), receipt.detail)).collect()
    }

    fn engine_acknowledges(&mut self, number: u64) {
        let engine = &mut self.engine;
        self.runtime.block_on(async { engine.acknowledge(number) }).unwrap();
    }

    /// What stands.
    pub fn standing(&self) -> Vec<String> {
        self.engine.standing()
    }
}
