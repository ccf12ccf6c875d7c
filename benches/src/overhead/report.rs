//! From samples to figures.

use serde_json::{Map, Value, json};

use super::configuration::NOTHING;
use super::run::Rounds;
use super::workload::Workload;
use crate::rounded;

/// Nanoseconds of one configuration.
struct Cost {
    /// See [`best`].
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

/// The same, for reading.
pub(crate) fn table(figures: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, workload) in figures.get("workloads").and_then(Value::as_object).into_iter().flatten() {
        text += &format!("{name}: {}\n", workload["about"].as_str().unwrap_or_default());
        text += &format!("  {:<18}{:>12}{:>12}{:>12}{:>12}\n", "ns", "best", "added", "median", "added");
        for (name, cost) in workload["configurations"].as_object().into_iter().flatten() {
            text += &format!("  {name:<18}");
            for key in ["best_ns", "added_best_ns", "median_ns", "added_median_ns"] {
                text += &format!("{:>12.1}", cost[key].as_f64().unwrap_or(f64::NAN));
            }
            text += "\n";
        }
        for (name, ratio) in workload["ratios"].as_object().into_iter().flatten().filter(|(_, ratio)| !ratio.is_null())
        {
            text += &format!("  {name}: best {}, median {}\n", ratio["best"], ratio["median"]);
        }
    }
    text
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
    let pairs = rounds.iter().zip(nothing);
    let added: Vec<_> = pairs.map(|(with, without)| median(with) - median(without)).collect();
    let (sum, count) = rounds.iter().flatten().fold((0.0, 0.0), |(sum, count), sample| (sum + sample, count + 1.0));
    Cost {
        best: best(rounds),
        median: median(&medians(rounds)),
        mean: sum / count,
        added_best: best(rounds) - best(nothing),
        added_median: median(&added),
    }
}

/// The lower quartile of the rounds' smallest samples. The smallest of all would be the luckiest round's: the machine is
/// not equally fast in all of them, and what is looked for is smaller than that.
fn best(rounds: &[Vec<f64>]) -> f64 {
    let smallest = rounds.iter().map(|samples| samples.iter().copied().fold(f64::INFINITY, f64::min));
    quantile(&smallest.collect::<Vec<_>>(), 0.25)
}

fn medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    rounds.iter().map(|samples| median(samples)).collect()
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// With a straight line between neighbours; not a number when there are no values.
fn quantile(values: &[f64], fraction: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = fraction * sorted.len().saturating_sub(1) as f64;
    let (low, high) = (sorted.get(place.floor() as usize), sorted.get(place.ceil() as usize));
    let (low, high) = (low.copied().unwrap_or(f64::NAN), high.copied().unwrap_or(f64::NAN));
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[7.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.25), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn neither_a_lucky_round_nor_a_disturbed_one_is_the_best() {
        let rounds = [vec![90.0, 120.0], vec![100.0, 130.0], vec![101.0], vec![500.0], vec![102.0]];
        assert_eq!(best(&rounds), 100.0);
    }
}
