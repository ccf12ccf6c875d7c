//! Windows as Prometheus' remote write has them: a series for every number of every process.
//!
//! Source: Prometheus Remote-Write 1.0 specification; prompb/types.proto.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use prost::Message;
use skep_common::bucket;

use super::http::Client;
use crate::rows::cpu::{NUMBERS, Row};
use crate::rows::host::Process;

/// Lines of a request's head.
const HEADERS: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
    X-Prometheus-Remote-Write-Version: 0.1.0\r\n";

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// Which series: metric, pid and start, bucket.
type Key = (&'static str, u64, u64, u16);

/// A request under way.
#[derive(Debug, Default)]
pub(crate) struct Request {
    series: Vec<TimeSeries>,
    places: HashMap<Key, usize>,
}

impl Request {
    /// Adds every number of `rows`: what is measured, and the buckets' counts.
    pub(crate) fn add(&mut self, node: &str, rows: &[Row], time_us: i64) {
        for row in rows {
            for (name, number) in NUMBERS.iter().zip(row.numbers) {
                if let Some(number) = number {
                    self.put(
                        node,
                        (name, row.process.pid, row.process.start_ns, u16::MAX),
                        &row.process,
                        number,
                        time_us,
                    );
                }
            }
            for (name, buckets) in [("run_queue_delay_bucket", &row.run_queue_delay), ("off_cpu_bucket", &row.off_cpu)]
            {
                for (index, count) in buckets {
                    self.put(
                        node,
                        (name, row.process.pid, row.process.start_ns, *index),
                        &row.process,
                        *count,
                        time_us,
                    );
                }
            }
        }
    }

    /// Adds one number only.
    pub(crate) fn add_number(&mut self, node: &str, rows: &[Row], number: usize, time_us: i64) {
        for row in rows {
            if let (Some(name), Some(value)) = (NUMBERS.get(number), row.numbers[number]) {
                self.put(node, (name, row.process.pid, row.process.start_ns, u16::MAX), &row.process, value, time_us);
            }
        }
    }

    fn put(&mut self, node: &str, key: Key, process: &Arc<Process>, value: u64, time_us: i64) {
        let next = self.series.len();
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.series.push(TimeSeries { labels: labels(node, key, process), samples: Vec::new() });
        }
        self.series[place].samples.push(Sample { value: value as f64, timestamp: time_us / 1000 });
    }

    /// Sends it.
    pub(crate) fn send(self, client: &mut Client) -> Result<()> {
        let plain = WriteRequest { timeseries: self.series }.encode_to_vec();
        let packed = snap::raw::Encoder::new().compress_vec(&plain)?;
        client.post("/api/v1/write", HEADERS, &packed).map(|_| ())
    }
}

/// Sorted by name, as the specification wants them.
fn labels(node: &str, (metric, pid, start, index): Key, process: &Process) -> Vec<Label> {
    let label = |name: &str, value: String| Label { name: name.to_owned(), value };
    let mut labels = vec![
        label("__name__", metric.to_owned()),
        label("comm", process.comm.clone()),
        label("node", node.to_owned()),
        label("pid", pid.to_string()),
        label("start_ns", start.to_string()),
    ];
    if index != u16::MAX {
        labels.push(label("value_ns", bucket::midpoint(index).to_string()));
    }
    labels.push(label("workload", process.workload.clone()));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Host, cpu};

    #[test]
    fn every_number_is_one_sample() {
        let mut host = Host::new("h", 1, 10);
        let mut request = Request::default();
        let mut expected = 0;
        for second in 0..3 {
            let rows = cpu::window(&mut host, 1.0, true);
            expected += rows.iter().map(Row::samples).sum::<u64>();
            request.add("h", &rows, second * 1_000_000);
        }
        let samples: usize = request.series.iter().map(|series| series.samples.len()).sum();
        assert_eq!(samples as u64, expected);
        let sorted = request.series.iter().all(|series| series.labels.is_sorted_by_key(|label| label.name.clone()));
        assert!(sorted);
    }
}
