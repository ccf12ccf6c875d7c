//! What is given up first. Pure.
//!
//! First every second system call only, then every fourth, and so on to every 256th: counts stay right on average and
//! say that they are scaled. Then whole domains, the one that costs most first. `process` is never given up: without its
//! execs nobody can say what happened, and canaries prove nothing.

use crate::source::Detail;

/// The domain whose observations can be sampled.
pub const SAMPLED: &str = "syscall";

/// The domain that stays.
pub const KEPT: &str = "process";

/// How thin sampling gets before a domain is switched off. Sampled-out calls cost the same however many they are, so
/// that beyond this hardly anything is gained.
pub const THINNEST: u32 = 256;

/// What a domain costs, as shares of a core.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Its name.
    pub domain: &'static str,
    /// All of it.
    pub ratio: f64,
    /// The part for being called at all, which sampling does not save.
    pub calling_ratio: f64,
}

/// How far down it is; 0 is everything.
pub fn level(detail: &Detail) -> u32 {
    detail.syscall_one_in.max(1).ilog2() + detail.off.len() as u32
}

/// One step down; `None` at the end.
pub fn down(detail: &Detail, costs: &[Cost]) -> Option<Detail> {
    let watched = |domain: &str| costs.iter().any(|cost| cost.domain == domain) && !detail.off.contains(&domain);
    if watched(SAMPLED) && detail.syscall_one_in < THINNEST {
        return Some(Detail { syscall_one_in: detail.syscall_one_in * 2, off: detail.off.clone() });
    }
    // Of two that cost the same, the one named first.
    let droppable = costs.iter().rev().filter(|cost| watched(cost.domain) && cost.domain != KEPT);
    let costliest = droppable.max_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
    let mut lower = detail.clone();
    lower.off.push(costliest.domain);
    Some(lower)
}

/// One step up: the domain given up last, then twice as many system calls; `None` at the top.
pub fn up(detail: &Detail) -> Option<Detail> {
    let mut higher = detail.clone();
    if higher.off.pop().is_some() {
        return Some(higher);
    }
    (detail.syscall_one_in > 1).then(|| Detail { syscall_one_in: detail.syscall_one_in / 2, off: Vec::new() })
}

/// What `costs`, measured at `from`, would be at `to`; domains that were off cost nothing here.
pub fn predicted(costs: &[Cost], from: &Detail, to: &Detail) -> f64 {
    let thinner = f64::from(from.syscall_one_in.max(1)) / f64::from(to.syscall_one_in.max(1));
    let at = |cost: &Cost| match cost.domain {
        off if to.off.contains(&off) => 0.0,
        SAMPLED => cost.calling_ratio + (cost.ratio - cost.calling_ratio).max(0.0) * thinner,
        _ => cost.ratio,
    };
    costs.iter().map(at).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: [Cost; 4] = [all("cpu", 0.2), all("syscall", 0.1), all("tcp", 0.2), all("process", 0.9)];

    const fn all(domain: &'static str, ratio: f64) -> Cost {
        Cost { domain, ratio, calling_ratio: 0.0 }
    }

    #[test]
    fn the_order_is_sampling_then_the_costliest_and_never_the_processes() {
        let mut steps = vec![Detail::default()];
        while let Some(next) = down(&steps[steps.len() - 1], &COSTS) {
            steps.push(next);
        }
        let thin: Vec<u32> = steps.iter().map(|detail| detail.syscall_one_in).collect();
        assert_eq!(thin, [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256, 256]);
        assert_eq!(steps[11].off, ["cpu", "tcp", "syscall"]);
        assert_eq!(steps.iter().map(level).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
        for pair in steps.windows(2) {
            assert_eq!(up(&pair[1]).as_ref(), Some(&pair[0]));
        }
        assert_eq!(up(&steps[0]), None);
    }

    #[test]
    fn what_is_not_watched_cannot_be_given_up() {
        let costs = [all("cpu", 0.1), all("process", 0.1)];
        let lower = down(&Detail::default(), &costs).unwrap();
        assert_eq!((lower.syscall_one_in, lower.off.as_slice()), (1, &["cpu"][..]));
        assert_eq!(down(&lower, &costs), None);
    }

    #[test]
    fn half_the_calls_cost_half() {
        let full = Detail::default();
        let half = down(&full, &COSTS).unwrap();
        assert!((predicted(&COSTS, &full, &half) - 1.35).abs() < 1e-9);
        assert!((predicted(&COSTS, &half, &full) - 1.5).abs() < 1e-9);
        let without = Detail { syscall_one_in: 1, off: vec!["cpu"] };
        assert!((predicted(&COSTS, &full, &without) - 1.2).abs() < 1e-9);
        let called = [Cost { calling_ratio: 0.04, ..all("syscall", 0.1) }];
        assert!((predicted(&called, &full, &half) - 0.07).abs() < 1e-9, "being called costs as before");
    }
}
