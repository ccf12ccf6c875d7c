//! Forecasts of the host series, from every row after a quarter of the file and two days, against repeating the last
//! value.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use skep_series::Point;
use skep_series::forecast::{Forecast, HORIZONS, Outlook};
use skep_series::replay::{self, Row};

use crate::series;

const STEP_S: f64 = 300.0;
const TWO_DAYS_S: f64 = 2.0 * 86_400.0;

/// What one series gave at one horizon.
#[derive(Debug, Clone, Copy)]
struct Figures {
    relative_mae: f64,
    covered_80: f64,
    covered_95: f64,
}

/// All host series, all horizons.
pub(crate) fn measure(nab: &Path) -> Result<Value> {
    let mut of = HashMap::<u32, Vec<(String, Figures)>>::new();
    for file in series::files(nab)? {
        let name = file.to_string_lossy().into_owned();
        let host = ["realAWSCloudwatch/", "cpu_utilization_asg", "ec2_request_latency"];
        if !host.iter().any(|part| name.contains(part)) {
            continue;
        }
        let text = series::text(nab, &file)?;
        let rows = replay::rows(&text).with_context(|| format!("in {name}"))?;
        for (horizon, figures) in HORIZONS.iter().zip(replay_one(&rows)) {
            of.entry(*horizon).or_default().push((name.clone(), figures));
        }
    }
    Ok(HORIZONS.iter().filter_map(|steps| Some((format!("{}s", steps * 300), summary(of.get(steps)?)))).collect())
}

fn replay_one(rows: &[Row<'_>]) -> Vec<Figures> {
    let slot = |row: &Row<'_>| (row.time_s / STEP_S).floor() as i64;
    let mut values = HashMap::new();
    for row in rows {
        values.entry(slot(row)).or_insert(row.value);
    }
    let from_s = (rows[rows.len() / 4].time_s).max(rows[0].time_s + TWO_DAYS_S);
    let mut forecast = Forecast::new(STEP_S);
    let mut sums = vec![(0.0, 0.0, 0.0, 0.0, 0.0); HORIZONS.len()];
    for row in rows {
        if !matches!(forecast.observe(Point::new(row.time_s, row.value)), Ok(true)) || row.time_s < from_s {
            continue;
        }
        for ((outlook, steps), sum) in forecast.outlooks().zip(HORIZONS).zip(&mut sums) {
            if let Some(&came) = values.get(&(slot(row) + i64::from(steps))) {
                let inside = |within: Option<(f64, f64)>| {
                    f64::from(u8::from(within.is_some_and(|(from, to)| (from..=to).contains(&came))))
                };
                let Outlook { value, within_80, within_95, .. } = outlook;
                sum.0 += (came - value).abs();
                sum.1 += (came - row.value).abs();
                sum.2 += inside(within_80);
                sum.3 += inside(within_95);
                sum.4 += 1.0;
            }
        }
    }
    sums.iter()
        .map(|&(ours, last, in_80, in_95, count)| Figures {
            relative_mae: ours / last,
            covered_80: in_80 / count,
            covered_95: in_95 / count,
        })
        .collect()
}

fn summary(series: &[(String, Figures)]) -> Value {
    let count = series.len() as f64;
    let mean = |of: fn(&Figures) -> f64| series.iter().map(|(_, figures)| of(figures)).sum::<f64>() / count;
    let least = |of: fn(&Figures) -> f64| series.iter().map(|(_, figures)| of(figures)).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&Figures) -> f64| series.iter().map(|(_, figures)| of(figures)).fold(0.0, f64::max);
    json!({
        "series": series.len(),
        "relative_mae": mean(|figures| figures.relative_mae.ln()).exp(),
        "relative_mae_worst": most(|figures| figures.relative_mae),
        "covered_80": mean(|figures| figures.covered_80),
        "covered_95": mean(|figures| figures.covered_95),
        "covered_95_worst": least(|figures| figures.covered_95),
        "by_series": series.iter().map(|(name, figures)| (
            name.clone(),
            json!([figures.relative_mae, figures.covered_80, figures.covered_95]),
        )).collect::<serde_json::Map<_, _>>(),
    })
}
