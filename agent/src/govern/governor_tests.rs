use proptest::prelude::*;

use super::*;
use crate::source::DomainCost;

const DOMAINS: [&str; 4] = ["cpu", "syscall", "tcp", "process"];

/// A host with a steady load: what everything costs at full detail, as shares of a core.
#[derive(Debug, Clone, Copy)]
struct Host {
    own: f64,
    /// A system call that is sampled out still enters the program.
    syscall_floor: f64,
    syscall: f64,
    cpu: f64,
    tcp: f64,
    process: f64,
}

const QUIET: Host = Host { own: 0.001, syscall_floor: 0.0, syscall: 0.0005, cpu: 0.0005, tcp: 0.0, process: 0.0001 };

impl Host {
    fn domain(&self, domain: &str, detail: &Detail) -> f64 {
        if detail.off.contains(&domain) {
            return 0.0;
        }
        match domain {
            "syscall" => self.syscall_floor + self.syscall / f64::from(detail.syscall_one_in),
            "cpu" => self.cpu,
            "tcp" => self.tcp,
            _ => self.process,
        }
    }

    fn spends(&self, detail: &Detail) -> f64 {
        self.own + DOMAINS.iter().map(|domain| self.domain(domain, detail)).sum::<f64>()
    }

    fn sample(&self, detail: &Detail) -> Sample {
        let ns = |share: f64| (share * 1e9) as u64;
        let cost = |domain: &&'static str| DomainCost {
            domain,
            run_ns: ns(self.domain(domain, detail)),
            calling_ns: if *domain == "syscall" {
                ns(self.syscall_floor).min(ns(self.domain(domain, detail)))
            } else {
                0
            },
            runs: 1,
        };
        Sample { elapsed_ns: 1_000_000_000, own_ns: ns(self.own), domains: DOMAINS.iter().map(cost).collect() }
    }
}

/// Lets so many seconds pass; returns the detail of each.
fn run(governor: &mut Governor, host: Host, seconds: usize) -> Vec<Detail> {
    let mut details = Vec::with_capacity(seconds);
    for _ in 0..seconds {
        let sample = host.sample(governor.detail());
        if let Some(change) = governor.evaluate(sample) {
            assert_ne!(change.from, change.to);
            assert_eq!(&change.to, governor.detail());
        }
        details.push(governor.detail().clone());
    }
    details
}

fn governor(budget: f64) -> Governor {
    Governor::new(budget, 10, DOMAINS.to_vec())
}

fn changes(details: &[Detail]) -> usize {
    details.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// Nothing more can be given up.
fn is_lowest(detail: &Detail) -> bool {
    detail.off.len() == DOMAINS.len() - 1
}

#[test]
fn a_storm_of_system_calls_is_sampled_within_two_windows_and_full_detail_is_back_after_it() {
    let mut governor = governor(0.003);
    assert_eq!(changes(&run(&mut governor, QUIET, 100)), 0);
    let storm = Host { syscall: 0.12, syscall_floor: 0.0004, ..QUIET };
    let details = run(&mut governor, storm, 20);
    let settled = &details[19];
    assert!(storm.spends(settled) <= 0.003, "{settled:?}");
    assert!(settled.off.is_empty() && settled.syscall_one_in >= 64, "{settled:?}");
    let first = details.iter().position(|detail| storm.spends(detail) <= 0.003);
    assert!(first.is_some_and(|second| second < 10), "{first:?}");
    let details = run(&mut governor, QUIET, 50);
    assert_eq!(details[49], Detail::default());
}

/// What else runs is never still: every few seconds the probes cost as much as the whole budget for a moment.
#[test]
fn full_detail_comes_back_to_a_host_that_twitches() {
    let mut governor = governor(0.003);
    let rest = |second: usize| Host { syscall: if second.is_multiple_of(7) { 0.003 } else { 0.0003 }, ..QUIET };
    run(&mut governor, QUIET, 30);
    run(&mut governor, Host { syscall: 0.12, cpu: 0.01, ..QUIET }, 60);
    let back = (0..240).find(|second| {
        run(&mut governor, rest(*second), 1);
        governor.detail() == &Detail::default()
    });
    assert!(back.is_some(), "{:?}", governor.detail());
}

#[test]
fn a_domain_that_costs_too_much_is_switched_off_and_tried_again_ever_more_seldom() {
    let mut governor = governor(0.01);
    let busy = Host { cpu: 0.05, ..QUIET };
    let details = run(&mut governor, busy, 3600);
    let switched_off = details.iter().filter(|detail| detail.off == ["cpu"]).count();
    assert!(switched_off > 3550, "{switched_off} of 3600 s");
    assert!(changes(&details) <= 2 + 2 * 10, "{} changes in an hour", changes(&details));
    let details = run(&mut governor, QUIET, 1200);
    assert_eq!(details[1199], Detail::default());
}

#[test]
fn what_the_agent_itself_spends_leads_to_sampling_first_and_to_less_only_window_by_window() {
    let mut governor = governor(0.003);
    let details = run(&mut governor, Host { own: 0.004, ..QUIET }, 90);
    assert!(details.iter().all(|detail| detail.off.is_empty() || detail.syscall_one_in == ladder::THINNEST));
    let lowest = details.iter().position(is_lowest);
    assert!(lowest.is_some_and(|second| second >= 20), "{lowest:?}");
}

#[test]
fn a_burst_at_the_end_of_each_window_is_within_the_budget_if_the_window_is() {
    let mut governor = governor(0.01);
    for second in 0..300 {
        let own = if second % 10 == 3 { 0.08 } else { 0.0 };
        assert_eq!(governor.evaluate(Host { own, ..QUIET }.sample(&Detail::default())), None, "second {second}");
    }
}

#[test]
fn a_change_that_was_refused_did_not_happen() {
    let mut governor = governor(0.003);
    let storm = Host { syscall: 0.12, cpu: 0.05, ..QUIET };
    let change = loop {
        if let Some(change) = governor.evaluate(storm.sample(&Detail::default())) {
            break change;
        }
    };
    governor.refused(change.from.clone());
    assert_eq!(governor.detail(), &change.from);
    run(&mut governor, storm, 60);
    assert!(storm.spends(governor.detail()) <= 0.003);
}

fn hosts() -> impl Strategy<Value = Host> {
    let cost = || prop_oneof![Just(0.0), 0.0..0.2f64];
    (0.0..0.009f64, 0.0..0.02f64, 0.0..2.0f64, cost(), cost(), 0.0..0.0009f64).prop_map(
        |(own, syscall_floor, syscall, cpu, tcp, process)| Host { own, syscall_floor, syscall, cpu, tcp, process },
    )
}

proptest! {
    /// What is chosen is always one of the declared steps.
    #[test]
    fn the_detail_is_bounded(loads in prop::collection::vec((hosts(), 1usize..90), 1..8)) {
        let mut governor = governor(0.01);
        for (host, seconds) in loads {
            for detail in run(&mut governor, host, seconds) {
                prop_assert!(is_allowed(&detail), "{detail:?}");
                let mut off = detail.off.clone();
                off.sort_unstable();
                off.dedup();
                prop_assert_eq!(off.len(), detail.off.len(), "twice off");
            }
        }
    }

    /// Under a steady load detail only goes, until it fits; it fits within two windows after the one the agent starts in,
    /// and then stays as it is but for trials.
    #[test]
    fn a_steady_load_is_met_once(host in hosts()) {
        let mut governor = governor(0.01);
        let details = run(&mut governor, host, 30);
        let levels: Vec<u32> = details.iter().map(ladder::level).collect();
        prop_assert!(levels.is_sorted(), "{levels:?}");
        prop_assert!(host.spends(governor.detail()) <= 0.0101 || is_lowest(governor.detail()), "{details:?}");
        let later = run(&mut governor, host, 2000);
        let most = if later.iter().all(|detail| detail.off.is_empty()) { 4 } else { 40 };
        prop_assert!(changes(&later) <= most, "{} changes", changes(&later));
        let over = later.iter().filter(|detail| host.spends(detail) > 0.0101 && !is_lowest(detail)).count();
        prop_assert!(over <= 60, "over the budget in {over} of 2000 s");
    }

    /// When the load ends, everything comes back.
    #[test]
    fn detail_comes_back(host in hosts(), seconds in 1usize..300) {
        let mut governor = governor(0.01);
        run(&mut governor, host, seconds);
        let details = run(&mut governor, QUIET, 1500);
        prop_assert_eq!(details.last(), Some(&Detail::default()));
        prop_assert_eq!(changes(&run(&mut governor, QUIET, 500)), 0);
    }
}
