//! What the CPUs counted of requests to block devices, made into a row a process, device and operation.

use std::collections::{BTreeMap, HashMap};

use skep_common::aggregate::{Amount, BlockKey, Cell, block};

use super::reading::{BlockReading, Latency, ProcessKey, Sizes};

/// Rows of one epoch while it is read.
#[derive(Debug, Default)]
pub(super) struct Requests {
    rows: HashMap<(ProcessKey, u32, u32), BlockReading>,
    delivered: BTreeMap<u32, u64>,
}

impl Requests {
    /// Requests in the rows that were counted on a CPU.
    pub(super) fn delivered(&self, cpu: u32) -> u64 {
        self.delivered.get(&cpu).copied().unwrap_or(0)
    }

    /// Adds what was counted of one kind and bucket.
    pub(super) fn add(&mut self, key: &BlockKey, seen: &Amount) {
        let cell = Cell::unpack(key.word);
        let process = ProcessKey { pid: cell.tgid, start_ns: key.start_ns };
        let operation = u32::from(cell.series >> 1);
        let row = self.rows.entry((process, key.device, operation)).or_insert_with(|| BlockReading {
            process,
            major: key.device >> block::MINOR_BITS,
            minor: key.device & ((1 << block::MINOR_BITS) - 1),
            operation: block::NAMES.get(operation as usize).copied().unwrap_or("other"),
            count: 0,
            errors: 0,
            latency: Latency::NONE,
            size: Sizes::NONE,
        });
        if cell.series == block::size_series(operation) {
            row.size.sum_bytes += seen.sum;
            row.size.min_bytes = row.size.min_bytes.min(seen.min);
            row.size.max_bytes = row.size.max_bytes.max(seen.max);
            add(&mut row.size.buckets, cell.bucket, seen.count);
            return;
        }
        *self.delivered.entry(key.cpu).or_default() += seen.count;
        row.count += seen.count;
        if cell.class != 0 {
            row.errors += seen.count;
        }
        row.latency.sum_ns += seen.sum;
        row.latency.min_ns = row.latency.min_ns.min(seen.min);
        row.latency.max_ns = row.latency.max_ns.max(seen.max);
        add(&mut row.latency.buckets, cell.bucket, seen.count);
    }

    /// The rows, sorted by process.
    pub(super) fn into_rows(self) -> Vec<BlockReading> {
        let mut rows: Vec<_> = self.rows.into_values().collect();
        rows.sort_unstable_by_key(|row| (row.process, row.major, row.minor, row.operation));
        rows
    }
}

fn add(buckets: &mut Vec<(u16, u64)>, bucket: u16, count: u64) {
    match buckets.binary_search_by_key(&bucket, |(index, _)| *index) {
        Ok(at) => buckets[at].1 += count,
        Err(at) => buckets.insert(at, (bucket, count)),
    }
}

#[cfg(test)]
mod tests {
    use skep_common::bucket;

    use super::*;

    #[test]
    fn latencies_and_sizes_of_a_request_become_one_row() {
        let mut requests = Requests::default();
        let device = 254 << block::MINOR_BITS | 16;
        let mut see = |series: u16, class: u8, value: u64, count: u64| {
            let word = Cell { tgid: 9, series, class, bucket: bucket::index(value) }.pack();
            let seen = Amount { count, sum: count * value, min: value, max: value };
            requests.add(&BlockKey { word, start_ns: 3, cpu: 1, device }, &seen);
        };
        see(block::latency_series(block::WRITE), 0, 9_000, 2);
        see(block::latency_series(block::WRITE), 1, 70_000, 1);
        see(block::size_series(block::WRITE), 0, 4_096, 2);
        see(block::size_series(block::WRITE), 1, 4_096, 1);
        assert_eq!((requests.delivered(0), requests.delivered(1)), (0, 3));
        let rows = requests.into_rows();
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.major, row.minor, row.operation, row.count, row.errors), (254, 16, "write", 3, 1));
        assert_eq!((row.latency.min_ns, row.latency.max_ns, row.latency.sum_ns), (9_000, 70_000, 88_000));
        assert_eq!((row.size.sum_bytes, row.size.buckets.as_slice()), (12_288, &[(bucket::index(4_096), 3)][..]));
    }
}
