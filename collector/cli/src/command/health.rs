//! `skep health`: how well nodes and workloads are, and what makes it so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use clap::Args;
use skep_series::health::{self, Health, NODE, WORKLOAD, parts};

use super::{listing, span};
use crate::connect::Source;
use crate::exit::Failure;
use crate::output::{ListFormat, rows, share};
use crate::place::PlaceArgs;

/// What `skep health --help` says above its options.
pub(crate) const ABOUT: &str = "How well nodes and workloads are: 0 to 100, and what takes points away.\n\n\
    Each part is a figure with a value at which it is good, one at which it is as bad as can be, and a weight, the share \
    of health it then takes away; parts multiply. A part that was not measured takes nothing, and `known` says how much \
    of the weight was. Figures are of the last ten minutes, findings of the last hour.";

const RECENT: Duration = Duration::from_secs(600);
const FINDINGS: Duration = Duration::from_secs(3600);

/// Workloads beyond these, the healthiest, are left out.
const MOST_WORKLOADS: usize = 50;

/// Arguments of `skep health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep health
  skep health --workloads
  skep health --format json | jq '.[] | select(.health < 60)'")]
pub struct HealthArgs {
    /// Workloads too, the worst first
    #[arg(long)]
    pub workloads: bool,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Node and workload, which is empty for the node itself.
type Whom = (String, String);

/// Figures by their names.
type Figures = BTreeMap<&'static str, f64>;

pub(super) async fn run(args: HealthArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let mut all: Vec<(Whom, Health)> = of_nodes(&source).await?;
    if args.workloads {
        all.extend(of_workloads(&source).await?);
    }
    let batch = print(&all, args.format)?;
    listing::write(&batch.schema(), &[batch], args.format, "no node has reported in the last ten minutes")
}

async fn of_nodes(source: &Source) -> Result<Vec<(Whom, Health)>, Failure> {
    let mut nodes: BTreeMap<Whom, Figures> = BTreeMap::new();
    let now_us = span::now_us();
    let sql = format!(
        "SELECT node, metric, label, avg(value) AS value FROM host WHERE {} AND metric IN ('cpu_busy_ratio', \
         'memory_used_ratio', 'disk_used_ratio', 'inodes_used_ratio', 'pressure_some_ratio', 'pressure_full_ratio') \
         GROUP BY node, metric, label",
        span::newer_than(RECENT, now_us)
    );
    for row in rows(&source.ask(&sql).await?.collect().await?) {
        let (Some(node), Some(metric), Some(value)) = (row.text("node"), row.text("metric"), row.float("value")) else {
            continue;
        };
        if let Some(name) = figure(&metric, &row.text("label").unwrap_or_default()) {
            let worst = nodes.entry((node, String::new())).or_default().entry(name).or_insert(value);
            *worst = worst.max(value);
        }
    }
    let sql = format!(
        "SELECT node, CAST(coalesce(sum(attempted), 0) AS DOUBLE) AS attempted, \
         CAST(coalesce(sum(lost), 0) AS DOUBLE) AS lost FROM loss WHERE {} GROUP BY node",
        span::newer_than(RECENT, now_us)
    );
    for row in rows(&source.ask(&sql).await?.collect().await?) {
        let (Some(node), Some(attempted), Some(lost)) = (row.text("node"), row.float("attempted"), row.float("lost"))
        else {
            continue;
        };
        if let Some(figures) = nodes.get_mut(&(node, String::new())).filter(|_| attempted > 0.0) {
            figures.insert("coverage_ratio", 1.0 - lost / attempted);
        }
    }
    findings(source, &mut nodes, now_us, |_| String::new()).await?;
    Ok(nodes.into_iter().map(|(whom, figures)| (whom, judged(&NODE, &figures))).collect())
}

async fn of_workloads(source: &Source) -> Result<Vec<(Whom, Health)>, Failure> {
    let mut workloads: BTreeMap<Whom, Figures> = BTreeMap::new();
    let now_us = span::now_us();
    let recent = span::newer_than(RECENT, now_us);
    let questions = [
        (
            "run_queue_delay_p99_ns",
            format!(
                "SELECT node, workload, hist_quantile(run_queue_delay, 0.99) AS value FROM cpu \
             WHERE pid <> 0 AND {recent} GROUP BY node, workload"
            ),
        ),
        (
            "block_latency_p99_ns",
            format!(
                "SELECT node, workload, hist_quantile(latency, 0.99) AS value FROM block_io WHERE {recent} \
             GROUP BY node, workload"
            ),
        ),
        (
            "connect_failures_ratio",
            format!(
                "SELECT node, workload, avg(CASE WHEN event = 'fail' THEN 1.0 ELSE 0.0 END) AS value FROM connections \
             WHERE direction = 'connect' AND event IN ('open', 'fail') AND {recent} GROUP BY node, workload"
            ),
        ),
    ];
    for (name, sql) in questions {
        for row in rows(&source.ask(&sql).await?.collect().await?) {
            let (Some(node), Some(workload), Some(value)) =
                (row.text("node"), row.text("workload"), row.float("value"))
            else {
                continue;
            };
            workloads.entry((node, workload)).or_default().insert(name, value);
        }
    }
    findings(source, &mut workloads, now_us, str::to_owned).await?;
    let mut all: Vec<(Whom, Health)> =
        workloads.into_iter().map(|(whom, figures)| (whom, judged(&WORKLOAD, &figures))).collect();
    all.sort_by(|a, b| a.1.score.total_cmp(&b.1.score));
    all.truncate(MOST_WORKLOADS);
    Ok(all)
}

/// Adds what findings weigh; nothing was found is zero.
async fn findings(
    source: &Source,
    all: &mut BTreeMap<Whom, Figures>,
    now_us: i64,
    workload: impl Fn(&str) -> String,
) -> Result<(), Failure> {
    for figures in all.values_mut() {
        figures.insert("findings", 0.0);
    }
    let sql = format!(
        "SELECT target_node, workload, severity, CAST(count(*) AS DOUBLE) AS count FROM findings WHERE {} \
         GROUP BY target_node, workload, severity",
        span::newer_than(FINDINGS, now_us)
    );
    for row in rows(&source.ask(&sql).await?.collect().await?) {
        let (Some(node), Some(severity), Some(count)) =
            (row.text("target_node"), row.text("severity"), row.float("count"))
        else {
            continue;
        };
        let whom = (node, workload(&row.text("workload").unwrap_or_default()));
        if let Some(figures) = all.get_mut(&whom) {
            *figures.entry("findings").or_default() += count * weight(&severity);
        }
    }
    Ok(())
}

fn weight(severity: &str) -> f64 {
    match severity {
        "critical" => 1.0,
        "high" => 0.6,
        "medium" => 0.2,
        "low" => 0.05,
        _ => 0.0,
    }
}

/// The part a gauge is measured for.
fn figure(metric: &str, label: &str) -> Option<&'static str> {
    Some(match (metric, label) {
        ("cpu_busy_ratio", _) => "cpu_busy_ratio",
        ("memory_used_ratio", _) => "memory_used_ratio",
        ("disk_used_ratio", _) => "disk_used_ratio",
        ("inodes_used_ratio", _) => "inodes_used_ratio",
        ("pressure_some_ratio", "cpu") => "cpu_pressure_ratio",
        ("pressure_full_ratio", "memory") => "memory_pressure_ratio",
        ("pressure_full_ratio", "io") => "io_pressure_ratio",
        _ => return None,
    })
}

fn judged(of: &[(&'static str, f64, f64, f64)], figures: &Figures) -> Health {
    health::health(&parts(of, |name| figures.get(name).copied()))
}

/// `disk_used_ratio 0.970 takes 42.1; ...`, and what was not measured.
fn explained(health: &Health) -> String {
    let taking = health.shares.iter().filter(|share| share.points >= 0.05);
    let mut said: Vec<String> = taking
        .map(|share| {
            format!("{} {:.3} takes {:.1}", share.part.name, share.part.value.unwrap_or(f64::NAN), share.points)
        })
        .collect();
    let unknown: Vec<&str> =
        health.shares.iter().filter(|share| share.part.value.is_none()).map(|share| share.part.name).collect();
    if !unknown.is_empty() {
        said.push(format!("not measured: {}", unknown.join(", ")));
    }
    said.join("; ")
}

fn print(all: &[(Whom, Health)], format: ListFormat) -> Result<RecordBatch, Failure> {
    let texts = |value: &dyn Fn(&(Whom, Health)) -> String| listing::texts(all.iter().map(value));
    let numbers = |value: &dyn Fn(&Health) -> f64| -> ArrayRef {
        Arc::new(all.iter().map(|(_, health)| Some(value(health))).collect::<Float64Array>())
    };
    let people = format == ListFormat::Table;
    let score = |health: &Health| (health.score * 10.0).round() / 10.0;
    listing::batch([
        ("node", texts(&|(whom, _)| whom.0.clone())),
        ("workload", texts(&|(whom, _)| whom.1.clone())),
        ("health", if people { texts(&|(_, health)| format!("{:.0}", health.score)) } else { numbers(&score) }),
        ("known", if people { texts(&|(_, health)| share(health.known)) } else { numbers(&|health| health.known) }),
        ("why", texts(&|(_, health)| explained(health))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_node_can_be_measured() {
        let gauges = [
            figure("cpu_busy_ratio", ""),
            figure("memory_used_ratio", ""),
            figure("disk_used_ratio", "/"),
            figure("inodes_used_ratio", "/"),
            figure("pressure_some_ratio", "cpu"),
            figure("pressure_full_ratio", "memory"),
            figure("pressure_full_ratio", "io"),
        ];
        for (name, ..) in NODE {
            let other = ["coverage_ratio", "findings"].contains(&name);
            assert!(other || gauges.contains(&Some(name)), "{name}");
        }
        assert_eq!(figure("pressure_some_ratio", "io"), None);
    }

    #[test]
    fn what_takes_points_is_said() {
        let figures = Figures::from([("disk_used_ratio", 0.97), ("cpu_busy_ratio", 0.2), ("findings", 0.2)]);
        let health = judged(&NODE, &figures);
        let said = explained(&health);
        assert!(said.starts_with("disk_used_ratio 0.970 takes "), "{said}");
        assert!(said.contains("findings 0.200 takes ") && said.contains("not measured: "), "{said}");
        assert!(health.score < 50.0 && health.known < 0.5);
    }

    #[test]
    fn a_severity_weighs_what_it_is() {
        assert!(weight("critical") > weight("high") && weight("high") > weight("medium") && weight("info") == 0.0);
    }
}
