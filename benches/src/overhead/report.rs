//! From samples to figures.

use serde_json::{Map, Value, json};

use super::configuration::NOTHING;
use super::run::Rounds;
use super::workload::Workload;
use crate::rounded;

/// Nanoseconds of one configuration.
struct Cost {
    /// Smallest sample: the one least disturbed.
    best: f64,
    /// Of the rounds' medians.
    median: f64,
    /// Of all samples; has the hiccups that a reader brings.
    mean: f64,
    /// Best, over nothing's best.
    added_best: f64,
    /// Median of what each round's median is over that round's with nothing.
    added_median: f64,
}

/// Figures of one workload.
pub(crate) fn of_workload(workload: &Workload, rounds: &Rounds) -> Value {
    let nothing = rounds.get(NOTHING).map_or(&[][..], Vec::as_slice);
    let costs: Vec<_> = rounds.iter().map(|(name, rounds)| (name.as_str(), cost(rounds, nothing))).collect();
    let configurations = costs.iter().map(|(name, cost)| ((*name).to_owned(), json_of(cost)));
    json!({
        "about": workload.about,
        "domain": workload.domain,
        "base_ns": { "best": rounded(best(nothing)), "median": rounded(median(&medians(nothing))) },
        "configurations": configurations.collect::<Map<_, _>>(),
        "ratios": ratios(workload, &costs),
    })
}

fn json_of(cost: &Cost) -> Value {
    json!({
        "best_ns": rounded(cost.best),
        "median_ns": rounded(cost.median),
        "mean_ns": rounded(cost.mean),
        "added_best_ns": rounded(cost.added_best),
        "added_median_ns": rounded(cost.added_median),
    })
}

/// What the workload's domain adds, over what others add.
fn ratios(workload: &Workload, costs: &[(&str, Cost)]) -> Value {
    let Some((_, skep)) = costs.iter().find(|(name, _)| *name == workload.domain) else { return Value::Null };
    let over = |prefix: &str, exact: bool| {
        let named = |name: &str| if exact { name == prefix } else { name.starts_with(prefix) };
        let others: Vec<_> = costs.iter().filter(|(name, _)| named(name)).map(|(_, cost)| cost).collect();
        let least = |added: fn(&Cost) -> f64| others.iter().map(|cost| added(cost)).fold(f64::INFINITY, f64::min);
        (!others.is_empty()).then(|| {
            json!({
                "best": rounded(skep.added_best / least(|cost| cost.added_best)),
                "median": rounded(skep.added_median / least(|cost| cost.added_median)),
            })
        })
    };
    json!({
        "skep_over_floor": over("floor", true),
        "skep_over_floor_own_hooks": over("floor_own_hooks", true),
        "skep_over_bpftrace": over("bpftrace", false),
    })
}

fn cost(rounds: &[Vec<f64>], nothing: &[Vec<f64>]) -> Cost {
    let medians = medians(rounds);
    let added: Vec<_> = medians.iter().zip(self::medians(nothing)).map(|(with, without)| with - without).collect();
    let (sum, count) = rounds.iter().flatten().fold((0.0, 0.0), |(sum, count), sample| (sum + sample, count + 1.0));
    Cost {
        best: best(rounds),
        median: median(&medians),
        mean: sum / count,
        added_best: best(rounds) - best(nothing),
        added_median: median(&added),
    }
}

fn best(rounds: &[Vec<f64>]) -> f64 {
    rounds.iter().flatten().copied().fold(f64::INFINITY, f64::min)
}

fn medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    rounds.iter().map(|samples| median(samples)).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}
