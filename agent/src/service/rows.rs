//! Rows of the table `checks`, and gauges of their figures. Pure.

use skep_checks::figure::rounded;
use skep_checks::outcome::Outcome;
use skep_wire::chunk::{Builder, ChunkError};
use skep_wire::{tables, v1};

use crate::aggregate::gauges::Gauge;

/// One chunk of all outcomes.
///
/// # Errors
/// [`ChunkError`]: a row does not fit its table, a fault of this program.
pub fn chunk(outcomes: &[Outcome]) -> Result<Option<v1::Chunk>, ChunkError> {
    let mut row = Builder::new(&tables::CHECKS);
    for outcome in outcomes {
        let check = &outcome.check;
        let figures = outcome.figures.iter().map(|figure| format!("{}={}", figure.name, rounded(figure.value)));
        row.int("time", outcome.time_us)
            .text("name", &check.name)
            .text("kind", check.way.kind())
            .text("target", &check.target)
            .text("workload", &check.workload)
            .bool("ok", outcome.error.is_none())
            .int("latency_ns", i64::try_from(outcome.latency.as_nanos()).unwrap_or(i64::MAX))
            .maybe_text("error", outcome.error.as_deref())
            .int("failures", outcome.failures.into())
            .int("retries", check.retries.into())
            .bool("down", outcome.is_down())
            .bool("critical", check.critical)
            .float("interval_s", check.interval.as_secs_f64())
            .text_list("depends_on", &check.depends_on)
            .maybe_text("blocked_by", outcome.blocked_by.as_deref())
            .text_list("figures", &figures.collect::<Vec<_>>())
            .end_row()?;
    }
    Ok(row.finish())
}

/// How long it took and what the server says, as gauges of this check.
pub fn gauges(outcome: &Outcome) -> Vec<Gauge> {
    // What did not answer took no time: the wait is the timeout's.
    let latency = outcome.error.is_none().then_some(("check_latency_s", outcome.latency.as_secs_f64()));
    let figures = outcome.figures.iter().map(|figure| (figure.name, figure.value));
    let gauge = |(metric, value)| Gauge { metric, label: outcome.check.name.clone(), value };
    latency.into_iter().chain(figures).map(gauge).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use skep_checks::figure::Figure;
    use skep_runtime::settings;
    use skep_wire::chunk;

    use super::*;

    fn outcome(error: Option<&str>) -> Outcome {
        let text = "[[check]]\nname = \"cache\"\nkind = \"redis\"\ntarget = \"localhost:1\"\nretries = 0\n\
                    unit = \"redis.service\"\n";
        let (mut top, _) = settings::parse(text).unwrap();
        Outcome {
            check: Arc::new(skep_checks::settings::read(&mut top).remove(0)),
            time_us: 7,
            latency: Duration::from_millis(3),
            error: error.map(str::to_owned),
            figures: vec![Figure { name: "redis_hit_ratio", value: 0.123_456 }],
            failures: u32::from(error.is_some()),
            blocked_by: None,
        }
    }

    #[test]
    fn an_outcome_is_a_row_its_table_takes() {
        let chunk = super::chunk(&[outcome(None), outcome(Some("down"))]).unwrap().unwrap();
        chunk::check(&chunk, &tables::CHECKS).unwrap();
        let rows: Vec<_> = chunk::rows(&chunk).collect();
        assert_eq!((rows[0].int("ok"), rows[0].text("error"), rows[0].int("down")), (Some(1), None, Some(0)));
        assert_eq!((rows[1].int("ok"), rows[1].text("error"), rows[1].int("down")), (Some(0), Some("down"), Some(1)));
        assert_eq!(rows[0].text_list("figures"), Some(vec!["redis_hit_ratio=0.123"]));
        assert_eq!(
            (rows[0].int("latency_ns"), rows[0].text("workload")),
            (Some(3_000_000), Some("unit:redis.service"))
        );
    }

    #[test]
    fn figures_are_gauges_under_the_name_of_the_check() {
        let names = |outcome: &Outcome| gauges(outcome).into_iter().map(|g| (g.metric, g.label)).collect::<Vec<_>>();
        let of = |metric| (metric, "cache".to_owned());
        assert_eq!(names(&outcome(None)), [of("check_latency_s"), of("redis_hit_ratio")]);
        assert_eq!(names(&outcome(Some("down"))), [of("redis_hit_ratio")]);
    }
}
