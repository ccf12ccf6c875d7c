//! What happens in a round, and after the last.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use skep_wire::order;
use skep_wire::v1::console_client::ConsoleClient;
use skep_wire::v1::{self, Step, Verb};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::clock::STEPS_S;
use crate::episode::eventually;
use crate::host::{Host, Wanted};
use crate::programs::{Center, NODE, Program};
use crate::tap::Tap;
use skep_chaos_ground::Dice;
use skep_chaos_ground::Figures;
use skep_chaos_ground::{Ground, Proxy};

/// How long a call of an operator's may take.
const CALL: Duration = Duration::from_secs(10);

/// How long things may take to come right once nothing is against them.
const SETTLE: Duration = Duration::from_secs(45);

/// Something happens to every so manieth command.
const MISCHIEF_ONE_IN: u64 = 2;

/// Everything that runs, and what was asked of it.
pub(crate) struct Life<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) ground: &'a Ground,
    pub(crate) host: &'a Mutex<Host>,
    pub(crate) tap: &'a Tap,
    pub(crate) proxy: &'a Proxy,
    pub(crate) center: Center,
    pub(crate) executor: Program,
    pub(crate) agent: Program,
    /// Actions with a lease, by the operator's orders.
    pub(crate) leased: Vec<String>,
    pub(crate) dice: Dice,
    pub(crate) figures: &'a mut Figures,
}

/// Whose clock is stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Collector,
    Executor,
    Agent,
}

impl Life<'_> {
    pub(crate) fn round(&mut self) -> Result<()> {
        self.figures.add("rounds", 1);
        self.tap.mischief(MISCHIEF_ONE_IN);
        self.connected()?;
        for _ in 0..self.dice.between(2, 4) {
            self.order()?;
        }
        self.word();
        self.rest(0, 300);
        match self.dice.below(10) {
            0 | 1 => self.partition()?,
            2 => self.cut_link()?,
            3 => self.kill_collector()?,
            4 | 5 => self.kill_executor()?,
            6 => self.stop_executor()?,
            7 => self.kill_agent()?,
            _ => self.step_clock()?,
        }
        self.word();
        if self.dice.one_in(3) {
            self.replay(8)?;
        }
        self.rest(50, 400);
        ensure!(self.executor.is_alive(), "the executor ended by itself: {}", self.executor.log());
        ensure!(self.agent.is_alive(), "the agent ended by itself: {}", self.agent.log());
        ensure!(self.center.is_alive(), "the collector ended by itself: {}", self.ground.log());
        Ok(())
    }

    fn partition(&mut self) -> Result<()> {
        self.figures.add("partitions", 1);
        self.order()?;
        self.rest(0, 30);
        self.proxy.close();
        self.rest(50, 600);
        self.open();
        Ok(())
    }

    fn cut_link(&mut self) -> Result<()> {
        self.figures.add("link_cuts", 1);
        for _ in 0..self.dice.between(1, 3) {
            self.order()?;
            self.rest(0, 20);
            self.tap.cut();
            self.rest(10, 200);
        }
        Ok(())
    }

    fn kill_collector(&mut self) -> Result<()> {
        self.figures.add("kills_collector", 1);
        self.order()?;
        self.rest(0, 30);
        self.restart_collector()
    }

    fn restart_collector(&mut self) -> Result<()> {
        self.center.kill();
        self.proxy.close();
        self.rest(0, 200);
        self.center.start(self.ground)?;
        self.open();
        Ok(())
    }

    fn kill_executor(&mut self) -> Result<()> {
        for _ in 0..self.dice.between(1, 2) {
            self.figures.add("kills_executor", 1);
            self.order()?;
            self.rest(0, 60);
            self.executor.kill();
            self.rest(0, 300);
            self.executor.start().context("the executor")?;
        }
        Ok(())
    }

    fn stop_executor(&mut self) -> Result<()> {
        self.figures.add("stops_executor", 1);
        self.order()?;
        self.executor.stop().context("the executor")?;
        self.executor.start().context("the executor")
    }

    fn kill_agent(&mut self) -> Result<()> {
        self.figures.add("kills_agent", 1);
        self.order()?;
        self.rest(0, 60);
        self.agent.kill();
        self.agent.start()
    }

    /// There and, more often than not, back; what remembers times may be started anew in between.
    fn step_clock(&mut self) -> Result<()> {
        self.figures.add("clock_steps", 1);
        let whose = match self.dice.below(5) {
            0 | 1 => Whose::Collector,
            2 | 3 => Whose::Executor,
            _ => Whose::Agent,
        };
        let step_s = STEPS_S[self.dice.below(STEPS_S.len() as u64) as usize];
        self.set_clock(whose, step_s)?;
        if self.dice.one_in(2) {
            self.restart(whose)?;
        }
        self.order()?;
        self.rest(20, 200);
        if !self.dice.one_in(4) {
            self.set_clock(whose, 0)?;
            if self.dice.one_in(2) {
                self.restart(whose)?;
            }
            self.replay(8)?;
        }
        Ok(())
    }

    fn set_clock(&mut self, whose: Whose, off_s: i64) -> Result<()> {
        match whose {
            Whose::Collector => self.center.clock.set(off_s),
            Whose::Executor => self.executor.clock.set(off_s),
            Whose::Agent => self.agent.clock.set(off_s),
        }
    }

    fn restart(&mut self, whose: Whose) -> Result<()> {
        match whose {
            Whose::Collector => self.restart_collector(),
            Whose::Executor => {
                self.executor.kill();
                self.executor.start().context("the executor")
            }
            Whose::Agent => {
                self.agent.kill();
                self.agent.start()
            }
        }
    }

    /// An operator's order of some action. Whatever becomes of the call, the action may be on its way.
    fn order(&mut self) -> Result<()> {
        let wanted = self.host.lock().unwrap_or_else(PoisonError::into_inner).wanted(&mut self.dice)?;
        let is_leased = order::is_leased(wanted.verb);
        if let Some(action) = self.place(wanted)
            && is_leased
        {
            self.leased.push(action);
        }
        Ok(())
    }

    fn place(&mut self, wanted: Wanted) -> Option<String> {
        self.figures.add("orders", 1);
        let Wanted { verb, parameters, workload, cgroup, cgroup_id } = wanted;
        let order = v1::Order { node: NODE.to_owned(), verb: verb.to_owned(), parameters, workload, cgroup, cgroup_id };
        let request = v1::ActRequest { verb: Verb::Order.into(), order: Some(order), ..v1::ActRequest::default() };
        self.act(request)
    }

    /// An operator's word on an action that was ordered before.
    fn word(&mut self) {
        let back = self.dice.between(1, 3) as usize;
        let Some(action_id) = self.leased.iter().rev().nth(back - 1).cloned() else { return };
        let (verb, name, lease_s) = if self.dice.one_in(2) {
            (Verb::Undo, "undos", 0)
        } else {
            (Verb::Extend, "extensions", self.dice.between(1, 4) as u32)
        };
        self.figures.add(name, 1);
        self.act(v1::ActRequest { action_id, verb: verb.into(), lease_s, ..v1::ActRequest::default() });
    }

    /// The action's id, where the collector says yes.
    fn act(&mut self, request: v1::ActRequest) -> Option<String> {
        let call = async {
            let mut console = self.console().await.map_err(|_| tonic::Status::unavailable("no connection"))?;
            console.act(request).await
        };
        match self.runtime.block_on(async { tokio::time::timeout(CALL, call).await }) {
            Ok(Ok(reply)) => Some(reply.into_inner().action_id),
            Ok(Err(status)) if status.code() == tonic::Code::Unavailable => {
                self.figures.add("orders_unanswered", 1);
                None
            }
            Ok(Err(status)) => {
                let used_up = status.message().contains("budget is used up");
                self.figures.add(if used_up { "orders_refused_budget" } else { "orders_refused" }, 1);
                None
            }
            Err(_) => {
                self.figures.add("orders_unanswered", 1);
                None
            }
        }
    }

    async fn console(&self) -> Result<ConsoleClient<Channel>> {
        let address = self.address().context("no collector")?;
        Ok(ConsoleClient::new(self.ground.channel(&address, "operator").await?))
    }

    fn address(&self) -> Option<String> {
        self.center.running.as_ref().map(|collector| collector.address.clone())
    }

    fn open(&self) {
        if let Some(address) = self.address() {
            self.proxy.open(&address);
        }
    }

    /// Some of the latest commands once more.
    fn replay(&mut self, of_late: usize) -> Result<()> {
        let commands: Vec<v1::SignedCommand> = {
            let log = self.tap.log();
            log.commands.iter().rev().take(of_late).map(|seen| seen.signed.clone()).collect()
        };
        for signed in commands {
            self.figures.add("commands_replayed", 1);
            self.runtime.block_on(self.tap.deliver(signed)).context("a command handed in once more")?;
        }
        Ok(())
    }

    /// Waits until the agent can be reached by orders.
    pub(crate) fn connected(&mut self) -> Result<()> {
        eventually("agent at the collector", SETTLE, || {
            let nodes = self.runtime.block_on(async {
                let mut console = self.console().await.ok()?;
                Some(console.nodes(v1::NodesRequest {}).await.ok()?.into_inner().nodes)
            });
            nodes?.iter().any(|node| node.node == NODE && node.connected).then_some(())
        })
        .with_context(|| self.agent.log())
    }

    /// All faults are over, and all clocks right.
    pub(crate) fn calm(&mut self) -> Result<()> {
        self.tap.mischief(0);
        self.rest(2_500, 2_500);
        for whose in [Whose::Collector, Whose::Executor, Whose::Agent] {
            self.set_clock(whose, 0)?;
        }
        self.connected()
    }

    /// Every command there ever was, once more.
    pub(crate) fn replay_everything(&mut self) -> Result<()> {
        self.replay(usize::MAX)
    }

    /// An order is carried out, or refused for a reason that has nothing to do with what happened before.
    pub(crate) fn still_works(&mut self) -> Result<()> {
        let run = self.host.lock().unwrap_or_else(PoisonError::into_inner).run();
        let Some(action) = self.place(run) else { return Ok(()) };
        let end = eventually("word on an order once all is calm", SETTLE, || {
            let log = self.tap.log();
            let mut of_it = log.receipts.values().map(|(_, receipt)| receipt);
            of_it.find(|receipt| receipt.action_id == action && receipt.step() != Step::Applied).cloned()
        })?;
        let is_in_order = end.step() == Step::Done || end.detail.contains("actions in an hour");
        ensure!(is_in_order, "once all is calm an order is {:?}: {}", end.step(), end.detail);
        Ok(())
    }

    /// Nothing stands any more, by the executor's word and by the host itself.
    pub(crate) fn all_is_over(&mut self) -> Result<()> {
        let standing = || self.host.lock().unwrap_or_else(PoisonError::into_inner).standing(true);
        eventually("end of all leases", SETTLE, || standing().is_empty().then_some(()))
            .with_context(|| format!("{:?} stand", standing()))?;
        let socket = self.ground.path().join("executor.sock");
        let program = skep_chaos_ground::beside("skep-executor")?;
        let said = || {
            let status = Command::new(&program).args(["status", "--socket"]).arg(&socket).output().ok();
            status.map_or_else(String::new, |status| String::from_utf8_lossy(&status.stdout).into_owned())
        };
        eventually("end of all actions", SETTLE, || said().contains(", 0 standing").then_some(()))
            .with_context(|| format!("the executor says {}", said()))
    }

    /// The agent has all receipts.
    pub(crate) fn told(&mut self) -> Result<()> {
        let all = || {
            let log = self.tap.log();
            let last = log.receipts.keys().last().copied().unwrap_or(0);
            (log.acknowledged >= last).then_some(())
        };
        eventually("acknowledgement of all receipts", SETTLE, all).with_context(|| self.agent.log())
    }

    /// Everything ends in order.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.agent.stop().context("the agent")?;
        self.executor.stop().context("the executor")?;
        self.center.stop().with_context(|| self.ground.log())
    }

    fn rest(&mut self, from_ms: u64, to_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.dice.between(from_ms, to_ms)));
    }
}
