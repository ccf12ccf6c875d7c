//! Entries of the counting maps, which are by CPU and bucket, made into a row a process or call.

use std::collections::HashMap;

use hdrhistogram::{CreationError, Histogram};
use skep_common::{
    aggregate::{CpuKey, CpuValue, DelayKey, SyscallKey, SyscallValue, bucket_of},
    bucket,
};

use super::{
    reading::{CpuReading, Latency, ProcessKey, SyscallReading},
    slices::Head,
};

/// Rows of one epoch while its maps are read.
#[derive(Debug)]
pub(super) struct Merge {
    /// With the time at which name and cgroup were read.
    cpu: HashMap<ProcessKey, (u64, CpuReading)>,
    syscalls: HashMap<(ProcessKey, u32), SyscallReading>,
    /// An empty histogram, to copy.
    empty: Histogram<u64>,
    /// Slices in the rows.
    pub(super) slices: u64,
    /// Of these, parts of slices that were still running.
    pub(super) heads: u64,
    /// Waits in the rows.
    pub(super) delays: u64,
    /// Calls in the rows.
    pub(super) calls: u64,
}

impl Merge {
    /// Nothing yet.
    ///
    /// Errors: never, with the bounds the histograms have.
    pub(super) fn new() -> Result<Self, CreationError> {
        Ok(Self {
            cpu: HashMap::new(),
            syscalls: HashMap::new(),
            empty: Histogram::new_with_bounds(1, bucket::MAX_VALUE, 1)?,
            slices: 0,
            heads: 0,
            delays: 0,
            calls: 0,
        })
    }

    /// Adds what a process did on one CPU.
    pub(super) fn add_cpu(&mut self, key: &CpuKey, value: &CpuValue) {
        self.slices += value.slices;
        let (read_ns, row) = self.cpu_row(ProcessKey { pid: key.tgid, start_ns: key.start_ns });
        if value.last_ns >= *read_ns {
            *read_ns = value.last_ns;
            row.comm = value.comm;
            row.cgroup_id = value.cgroup_id;
        }
        row.on_cpu_ns += value.on_cpu_ns;
        row.slices += value.slices;
        row.voluntary_switches += value.voluntary;
        row.involuntary_switches += value.involuntary;
        row.run_queue_delay.sum_ns += value.delay_sum_ns;
        row.run_queue_delay.min_ns = row.run_queue_delay.min_ns.min(value.delay_min_ns);
        row.run_queue_delay.max_ns = row.run_queue_delay.max_ns.max(value.delay_max_ns);
    }

    /// Adds waits of one bucket.
    pub(super) fn add_delay(&mut self, key: &DelayKey, count: u64) {
        self.delays += count;
        let (_, row) = self.cpu_row(ProcessKey { pid: key.tgid, start_ns: key.start_ns });
        record(&mut row.run_queue_delay.histogram, bucket_of(key.cpu_bucket), count);
    }

    /// Adds the part before the flip of a slice that spans it.
    pub(super) fn add_head(&mut self, head: &Head, comm_of: impl FnOnce(u32) -> [u8; 16]) {
        self.slices += 1;
        self.heads += 1;
        let (_, row) = self.cpu_row(head.process);
        row.on_cpu_ns += head.on_cpu_ns;
        row.slices += 1;
        row.cgroup_id = head.cgroup_id;
        if row.comm == [0; 16] {
            row.comm = head.comm.unwrap_or_else(|| comm_of(head.process.pid));
        }
    }

    /// Adds calls of one bucket.
    pub(super) fn add_syscall(&mut self, key: &SyscallKey, value: &SyscallValue) {
        self.calls += value.count;
        let process = ProcessKey { pid: key.tgid, start_ns: key.start_ns };
        let row = self.syscalls.entry((process, key.nr)).or_insert_with(|| SyscallReading {
            process,
            comm: value.comm,
            nr: key.nr,
            count: 0,
            errors: 0,
            latency: nothing(&self.empty),
        });
        row.count += value.count;
        row.errors += value.errors;
        row.latency.sum_ns += value.sum_ns;
        row.latency.min_ns = row.latency.min_ns.min(value.min_ns);
        row.latency.max_ns = row.latency.max_ns.max(value.max_ns);
        record(&mut row.latency.histogram, bucket_of(key.cpu_bucket), value.count);
    }

    /// The rows, sorted by process. A call's row takes the task name of its process's, which is newer.
    pub(super) fn into_rows(self) -> (Vec<CpuReading>, Vec<SyscallReading>) {
        let mut syscalls: Vec<_> = self.syscalls.into_values().collect();
        for row in &mut syscalls {
            if let Some((_, process)) = self.cpu.get(&row.process) {
                row.comm = process.comm;
            }
        }
        let mut cpu: Vec<_> = self.cpu.into_values().map(|(_, row)| row).collect();
        cpu.sort_unstable_by_key(|row| row.process);
        syscalls.sort_unstable_by_key(|row| (row.process, row.nr));
        (cpu, syscalls)
    }

    fn cpu_row(&mut self, process: ProcessKey) -> &mut (u64, CpuReading) {
        self.cpu.entry(process).or_insert_with(|| {
            let row = CpuReading {
                process,
                comm: [0; 16],
                cgroup_id: 0,
                on_cpu_ns: 0,
                slices: 0,
                voluntary_switches: 0,
                involuntary_switches: 0,
                run_queue_delay: nothing(&self.empty),
            };
            (0, row)
        })
    }
}

fn nothing(empty: &Histogram<u64>) -> Latency {
    Latency { histogram: empty.clone(), sum_ns: 0, min_ns: u64::MAX, max_ns: 0 }
}

/// The kernel's buckets are the histogram's, so the midpoint falls into the same one and never outside the bounds.
fn record(histogram: &mut Histogram<u64>, bucket: u16, count: u64) {
    histogram.saturating_record_n(bucket::midpoint(bucket), count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(cpu: u32, latency_ns: u64, count: u64) -> (SyscallKey, SyscallValue) {
        let cpu_bucket = skep_common::aggregate::cpu_bucket(cpu, bucket::index(latency_ns));
        let key = SyscallKey { start_ns: 7, tgid: 1, nr: 39, cpu_bucket, pad: 0 };
        let value = SyscallValue {
            count,
            errors: 1,
            sum_ns: count * latency_ns,
            min_ns: latency_ns,
            max_ns: latency_ns,
            comm: [b'x'; 16],
        };
        (key, value)
    }

    #[test]
    fn cpus_and_buckets_become_one_row() {
        let mut merge = Merge::new().expect("bounds are good");
        for (key, value) in [call(0, 200, 10), call(1, 200, 5), call(1, 9_000, 1)] {
            merge.add_syscall(&key, &value);
        }
        assert_eq!(merge.calls, 16);
        let (_, rows) = merge.into_rows();
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.count, row.errors, row.latency.histogram.len()), (16, 3, 16));
        assert_eq!((row.latency.min_ns, row.latency.max_ns), (200, 9_000));
        assert_eq!(row.latency.sum_ns, 15 * 200 + 9_000);
    }

    #[test]
    fn every_bucket_of_the_kernel_is_one_of_the_histogram() {
        let empty = Histogram::<u64>::new_with_bounds(1, bucket::MAX_VALUE, 1).expect("bounds are good");
        for index in 0..bucket::BUCKETS as u16 {
            let mut histogram = empty.clone();
            record(&mut histogram, index, 1);
            let value = histogram.iter_recorded().next().expect("recorded").value_iterated_to();
            assert_eq!(bucket::index(value), index);
            assert!(histogram.lowest_equivalent(value) == bucket::lowest(index), "bucket {index}");
        }
    }

    #[test]
    fn a_slice_that_goes_on_makes_a_row_of_its_own() {
        let mut merge = Merge::new().expect("bounds are good");
        let head = Head { process: ProcessKey { pid: 3, start_ns: 1 }, cgroup_id: 2, on_cpu_ns: 500, comm: None };
        merge.add_head(&head, |_| *b"busy\0\0\0\0\0\0\0\0\0\0\0\0");
        let (rows, _) = merge.into_rows();
        assert_eq!((rows[0].on_cpu_ns, rows[0].slices, &rows[0].comm[..4]), (500, 1, &b"busy"[..]));
    }

    #[test]
    fn the_cpu_that_saw_a_process_last_names_it() {
        let mut merge = Merge::new().expect("bounds are good");
        let key = |cpu| CpuKey { start_ns: 1, tgid: 3, cpu };
        let value = |last_ns, comm| CpuValue {
            on_cpu_ns: 10,
            slices: 1,
            voluntary: 1,
            involuntary: 0,
            delays: 0,
            delay_sum_ns: 0,
            delay_min_ns: u64::MAX,
            delay_max_ns: 0,
            last_ns,
            cgroup_id: last_ns,
            comm,
        };
        merge.add_cpu(&key(0), &value(200, [b'n'; 16]));
        merge.add_cpu(&key(1), &value(100, [b'o'; 16]));
        let (rows, _) = merge.into_rows();
        assert_eq!((rows[0].on_cpu_ns, rows[0].cgroup_id, rows[0].comm), (20, 200, [b'n'; 16]));
    }
}
