//! Governor and memory together, with what is told of them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::governor::Governor;
use super::ladder::{self, SAMPLED};
use super::memory::Memory;
use super::spending::Sample;
use crate::aggregate::gauges::Gauge;
use crate::ledger::{self, LossRow};
use crate::source::{Detail, DomainCost};

/// How often costs are looked at: often enough that a storm is answered within its first window.
pub const EVERY: Duration = Duration::from_secs(1);

/// Looks that make a window; windows that are shorter or longer than this are taken for it.
const SHORTEST_HORIZON: u64 = 10;
const LONGEST_HORIZON: u64 = 120;

/// What the agent may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Share of one core, probes included; `None` for as much as it takes.
    pub cpu_ratio: Option<f64>,
    /// Resident memory and kernel maps; `None` for as much as it takes.
    pub memory_bytes: Option<u64>,
}

/// What is to be known for one look.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Monotonic clock.
    pub now_ns: u64,
    /// Wall clock.
    pub now_us: i64,
    /// The agent's own time on a CPU since its start.
    pub own_ns: u64,
    /// What the probes cost since the look before.
    pub costs: Vec<DomainCost>,
    /// Resident memory and kernel maps.
    pub held_bytes: u64,
}

/// What a look leads to.
#[derive(Debug, Default, PartialEq)]
pub struct Orders {
    /// The probes are to observe this from now on.
    pub detail: Option<Detail>,
    /// So many processes are to be known at once from now on.
    pub processes: Option<usize>,
    /// How it was until now, where that was less than everything.
    pub rows: Vec<LossRow>,
}

/// The state of it all.
#[derive(Debug)]
pub struct Desk {
    governor: Option<Governor>,
    memory: Option<Memory>,
    looked_ns: u64,
    own_ns: u64,
    /// Cost of the probes since the window began.
    window: BTreeMap<&'static str, u64>,
    /// Up to when the rows of `loss` tell how much was observed.
    told_us: i64,
    /// What was observed before the last order.
    before: Detail,
}

impl Desk {
    /// Starts now, with full detail of the domains that are watched; `processes` are known at once.
    pub fn start(budget: Budget, window: Duration, watched: Vec<&'static str>, processes: usize, look: &Look) -> Self {
        let horizon = (window.as_secs() / EVERY.as_secs()).clamp(SHORTEST_HORIZON, LONGEST_HORIZON);
        let governor = |ratio| Governor::new(ratio, usize::try_from(horizon).unwrap_or(10), watched);
        Self {
            governor: budget.cpu_ratio.map(governor),
            memory: budget.memory_bytes.map(|bytes| Memory::new(bytes, processes)),
            looked_ns: look.now_ns,
            own_ns: look.own_ns,
            window: BTreeMap::new(),
            told_us: look.now_us,
            before: Detail::default(),
        }
    }

    /// Whether it is time for a look.
    pub fn is_due(&self, now_ns: u64) -> bool {
        u128::from(now_ns.saturating_sub(self.looked_ns)) >= EVERY.as_nanos()
    }

    /// What is observed.
    pub fn detail(&self) -> Detail {
        self.governor.as_ref().map(|governor| governor.detail().clone()).unwrap_or_default()
    }

    /// Takes a look.
    pub fn look(&mut self, look: Look) -> Orders {
        for cost in &look.costs {
            *self.window.entry(cost.domain).or_default() += cost.run_ns;
        }
        let sample = Sample {
            elapsed_ns: look.now_ns.saturating_sub(self.looked_ns),
            own_ns: look.own_ns.saturating_sub(self.own_ns),
            domains: look.costs,
        };
        (self.looked_ns, self.own_ns) = (look.now_ns, look.own_ns);
        let so_far = self.spans(look.now_us);
        let change = self.governor.as_mut().and_then(|governor| governor.evaluate(sample));
        let processes = self.memory.as_mut().and_then(|memory| memory.evaluate(look.held_bytes));
        if change.is_none() && processes.is_none() {
            return Orders::default();
        }
        self.told_us = look.now_us;
        let detail = change.map(|change| {
            say(&change.to, change.spent, self.governor.as_ref().map_or(0.0, Governor::budget));
            self.before = change.from;
            change.to
        });
        if let Some(processes) = processes {
            tracing::warn!(held_bytes = look.held_bytes, processes, "the memory budget decides on the processes known");
        }
        Orders { detail, processes, rows: so_far }
    }

    /// The probes did not take the last order.
    pub fn refused(&mut self) {
        if let Some(governor) = &mut self.governor {
            governor.refused(self.before.clone());
        }
    }

    /// At the end of a window that was `length_s` long: how much of it was observed, and what it cost.
    pub fn end_window(&mut self, now_us: i64, length_s: f64) -> (Vec<LossRow>, Vec<Gauge>) {
        let rows = self.spans(now_us);
        self.told_us = now_us;
        (rows, self.gauges(length_s))
    }

    /// Rows for what was less than everything since they last told.
    fn spans(&self, now_us: i64) -> Vec<LossRow> {
        let span = (self.told_us, now_us.max(self.told_us));
        let mut rows = Vec::new();
        if let Some(governor) = &self.governor {
            let detail = governor.detail();
            let one_in = detail.syscall_one_in;
            if one_in > 1 && !detail.off.contains(&SAMPLED) {
                let text = format!("1 system call in {one_in} was looked at");
                rows.push(LossRow::uncounted_of(SAMPLED, span, ledger::SAMPLED, text));
            }
            for domain in &detail.off {
                let text = format!("not watched, to keep to {} of a core", percent(governor.budget()));
                rows.push(LossRow::uncounted_of(domain, span, ledger::SWITCHED_OFF, text));
            }
        }
        if let Some(memory) = self.memory.as_ref().filter(|memory| memory.is_shrunk()) {
            let text = format!(
                "only {} processes were known at once, to keep to {} MiB",
                memory.processes(),
                memory.budget() >> 20
            );
            rows.push(LossRow::uncounted(span, ledger::SHRUNK, text));
        }
        rows
    }

    fn gauges(&mut self, length_s: f64) -> Vec<Gauge> {
        let gauge = |metric, label: &str, value| Gauge { metric, label: label.to_owned(), value };
        let mut gauges = Vec::new();
        for (domain, run_ns) in std::mem::take(&mut self.window) {
            if length_s > 0.0 {
                gauges.push(gauge("agent_bpf_cpu_ratio", domain, run_ns as f64 / 1e9 / length_s));
            }
        }
        let detail = self.detail();
        gauges.push(gauge("agent_detail_level", "", f64::from(ladder::level(&detail))));
        gauges.push(gauge("agent_syscall_one_in", "", f64::from(detail.syscall_one_in)));
        gauges.extend(detail.off.iter().map(|domain| gauge("agent_domain_off", domain, 1.0)));
        if let Some(governor) = &self.governor {
            gauges.push(gauge("agent_budget_cpu_ratio", "", governor.budget()));
        }
        if let Some(memory) = &self.memory {
            gauges.push(gauge("agent_budget_memory_bytes", "", memory.budget() as f64));
            if memory.is_shrunk() {
                gauges.push(gauge("agent_processes_known_limit", "", memory.processes() as f64));
            }
        }
        gauges
    }
}

fn say(to: &Detail, spent: f64, budget: f64) {
    let (spent, budget) = (percent(spent), percent(budget));
    if ladder::level(to) == 0 {
        tracing::info!(%spent, %budget, "everything is observed again");
    } else {
        tracing::warn!(%spent, %budget, syscall_one_in = to.syscall_one_in, off = %to.off.join(" "),
            "the cpu budget decides on the detail");
    }
}

/// `0.003` as `0.3 %`.
fn percent(ratio: f64) -> String {
    let text = format!("{:.2}", ratio * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn look(second: u64, own_ns: u64, syscall_ns: u64, held_bytes: u64) -> Look {
        Look {
            now_ns: second * S,
            now_us: i64::try_from(second).unwrap() * 1_000_000,
            own_ns,
            costs: vec![DomainCost { domain: "syscall", run_ns: syscall_ns, calling_ns: 0, runs: 1 }],
            held_bytes,
        }
    }

    fn desk(cpu_ratio: Option<f64>, memory_bytes: Option<u64>) -> Desk {
        let watched = vec!["cpu", "syscall", "tcp", "process"];
        let budget = Budget { cpu_ratio, memory_bytes };
        Desk::start(budget, Duration::from_secs(10), watched, 65_536, &look(100, 0, 0, 0))
    }

    #[test]
    fn every_second_less_was_observed_is_told_once_until_all_is_again() {
        let mut desk = desk(Some(0.01), None);
        assert!(!desk.is_due(100 * S + 999_999_999) && desk.is_due(101 * S));
        let (mut rows, mut changed) = (Vec::new(), Vec::new());
        for second in 101..=160 {
            // A storm of 8 % for twenty seconds.
            let one_in = u64::from(desk.detail().syscall_one_in);
            let spent = if second <= 120 { 80_000_000 / one_in } else { 0 };
            let orders = desk.look(look(second, 0, spent, 0));
            rows.extend(orders.rows);
            changed.extend(orders.detail.map(|detail| (second, detail.syscall_one_in)));
            if second % 10 == 0 {
                rows.extend(desk.end_window(i64::try_from(second).unwrap() * 1_000_000, 10.0).0);
            }
        }
        assert_eq!(changed, [(102, 8), (136, 1)]);
        assert!(rows.iter().all(|row| row.probe == "syscall" && row.reason == "sampled" && row.counts.is_none()));
        let spans: Vec<_> = rows.iter().map(|row| (row.from_us / 1_000_000, row.until_us / 1_000_000)).collect();
        assert_eq!(spans, [(102, 110), (110, 120), (120, 130), (130, 136)]);
        assert_eq!(rows[0].detail.as_deref(), Some("1 system call in 8 was looked at"));
    }

    #[test]
    fn a_window_says_what_it_cost_and_what_was_given_up() {
        let mut desk = desk(Some(0.001), Some(100 << 20));
        for second in 101..=200 {
            let costs = [("cpu", 20_000_000), ("tcp", 1_000)];
            let off = desk.detail().off;
            let costs = costs.map(|(domain, run_ns)| DomainCost {
                domain,
                run_ns: if off.contains(&domain) { 0 } else { run_ns },
                calling_ns: 0,
                runs: 1,
            });
            desk.look(Look { costs: costs.to_vec(), ..look(second, 0, 0, 200 << 20) });
            if second == 101 {
                let (rows, gauges) = desk.end_window(101_000_000, 1.0);
                assert!(rows.iter().all(|row| row.reason == "shrunk"), "{rows:?}");
                let cost = gauges.iter().find(|gauge| gauge.label == "cpu").unwrap();
                assert_eq!((cost.metric, cost.value), ("agent_bpf_cpu_ratio", 0.02));
            }
        }
        let (rows, gauges) = desk.end_window(200_000_000, 10.0);
        let reasons: Vec<_> = rows.iter().map(|row| (row.probe.as_str(), row.reason.as_str())).collect();
        assert_eq!(reasons, [("syscall", "sampled"), ("cpu", "switched_off"), ("agent", "shrunk")]);
        let value = |metric| gauges.iter().find(|gauge| gauge.metric == metric).map(|gauge| gauge.value);
        assert_eq!(value("agent_detail_level"), Some(9.0));
        assert_eq!(value("agent_domain_off"), Some(1.0));
        assert_eq!(value("agent_budget_cpu_ratio"), Some(0.001));
        assert!(value("agent_processes_known_limit").is_some_and(|limit| limit < 65_536.0));
    }

    #[test]
    fn without_a_budget_nothing_is_given_up() {
        let mut desk = desk(None, None);
        for second in 101..=150 {
            assert_eq!(desk.look(look(second, second * S, 900_000_000, u64::MAX)), Orders::default());
        }
        assert_eq!(desk.end_window(150_000_000, 50.0).0, []);
    }

    #[test]
    fn percents_are_short() {
        assert_eq!((percent(0.003), percent(0.01), percent(1.0)), ("0.3 %".into(), "1 %".into(), "100 %".into()));
    }
}
