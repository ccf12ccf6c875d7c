//! From rounds to figures.

use serde_json::{Map, Value, json};

use super::subjects::{Figures, Rounds};
use crate::quantiles::median;
use crate::rounded;

/// Figures of one workload: every subject's, what the others take over what skep takes, and the goals.
pub(super) fn of(rounds: &Rounds) -> Value {
    let mut figures = Map::new();
    for (name, rounds) in rounds {
        figures.insert((*name).to_owned(), of_subject(rounds));
    }
    let number = |name: &str, key: &str| figures.get(name).and_then(|subject| subject[key].as_f64());
    let over = |name: &str, key: &str| Some(rounded(number(name, key)? / number("skep", key)?));
    let mut ratios = Map::new();
    for name in rounds.keys().filter(|name| **name != "skep") {
        let ratio = json!({
            "cpu": over(name, "cpu_us_per_sample"),
            "cpu_median": over(name, "cpu_us_per_sample_median"),
            "disk": over(name, "disk_bytes_per_sample"),
        });
        ratios.insert(format!("{name}_over_skep"), ratio);
    }
    let goals = [
        at_most("cpu_us_per_sample", number("skep", "cpu_us_per_sample"), 0.15),
        at_most("disk_bytes_per_sample", number("skep", "disk_bytes_per_sample"), 1.5),
        at_least("victoria_metrics_cpu_over_skep", over("victoria_metrics", "cpu_us_per_sample"), 4.0),
        at_least("victoria_metrics_disk_over_skep", over("victoria_metrics", "disk_bytes_per_sample"), 1.0),
    ];
    let goals: Map<_, _> = goals.into_iter().flatten().collect();
    figures.insert("ratios".to_owned(), Value::Object(ratios));
    figures.insert("goals".to_owned(), Value::Object(goals));
    Value::Object(figures)
}

/// The best round's figures, and the median where it differs.
fn of_subject(rounds: &[Figures]) -> Value {
    let cpus: Vec<f64> = rounds.iter().map(|round| per_sample(round, round.cpu.as_secs_f64() * 1e6)).collect();
    let Some(best) = rounds.iter().min_by_key(|round| round.cpu) else { return Value::Null };
    json!({
        "rows": best.rows,
        "samples": best.samples,
        "cpu_s": rounded(best.cpu.as_secs_f64()),
        "wall_s": rounded(best.wall.as_secs_f64()),
        "cpu_us_per_sample": rounded(per_sample(best, best.cpu.as_secs_f64() * 1e6)),
        "cpu_us_per_sample_median": rounded(median(&cpus)),
        "cpu_us_per_row": rounded(best.cpu.as_secs_f64() * 1e6 / best.rows as f64),
        "disk_bytes": best.disk_bytes,
        "disk_bytes_per_sample": rounded(per_sample(best, best.disk_bytes as f64)),
        "disk_bytes_per_row": rounded(best.disk_bytes as f64 / best.rows as f64),
        "peak_rss_bytes": best.peak_bytes,
        "more": best.extra,
    })
}

fn per_sample(figures: &Figures, value: f64) -> f64 {
    value / figures.samples as f64
}

/// A goal that is a ceiling.
pub(crate) fn at_most(name: &str, found: Option<f64>, most: f64) -> Option<(String, Value)> {
    found.map(|found| (name.to_owned(), json!({ "found": found, "at_most": most, "met": found <= most })))
}

/// A goal that is a floor.
pub(crate) fn at_least(name: &str, found: Option<f64>, least: f64) -> Option<(String, Value)> {
    found.map(|found| (name.to_owned(), json!({ "found": found, "at_least": least, "met": found >= least })))
}
