//! What the CPUs counted, made into a row a process or call.

use std::collections::{BTreeMap, HashMap};

use skep_common::{
    aggregate::{Cell, Count, Mishaps, Traffic, UNTIMED, Usage, Wait, mishap, protocol, series},
    errno,
    ledger::probe,
};

use super::{
    reading::{CpuReading, Latency, ProcessKey, Protocol, SocketReading, SyscallReading},
    requests::Requests,
    slices::Head,
};

/// Rows of one epoch while it is read.
#[derive(Debug, Default)]
pub(super) struct Merge {
    /// With the time at which name and cgroup were read.
    cpu: HashMap<ProcessKey, (u64, CpuReading)>,
    syscalls: HashMap<(ProcessKey, u16), SyscallReading>,
    sockets: HashMap<(ProcessKey, Protocol), SocketReading>,
    /// What is in the rows, by probe and CPU.
    delivered: BTreeMap<(usize, u32), u64>,
    /// Requests to block devices.
    pub(super) requests: Requests,
    /// Of the slices, parts of such that were still running, by CPU.
    heads: BTreeMap<u32, u64>,
}

impl Merge {
    /// What is in the rows of what a probe counted on a CPU.
    pub(super) fn delivered(&self, probe: usize, cpu: u32) -> u64 {
        if probe == probe::BLOCK {
            return self.requests.delivered(cpu);
        }
        self.delivered.get(&(probe, cpu)).copied().unwrap_or(0)
    }

    /// Slices of a CPU that were still running.
    pub(super) fn heads(&self, cpu: u32) -> u64 {
        self.heads.get(&cpu).copied().unwrap_or(0)
    }

    /// Adds what a process did on one CPU.
    pub(super) fn add_usage(&mut self, cpu: u32, process: ProcessKey, seen: &Usage) {
        self.deliver(probe::CPU, cpu, seen.slices);
        let (read_ns, row) = self.cpu_row(process);
        if seen.last_ns >= *read_ns {
            *read_ns = seen.last_ns;
            row.comm = seen.comm;
            row.cgroup_id = seen.cgroup_id;
        }
        row.on_cpu_ns += seen.on_cpu_ns;
        row.slices += seen.slices;
        row.voluntary_switches += seen.voluntary;
        row.involuntary_switches += seen.involuntary;
        row.migrations += seen.migrations;
    }

    /// Adds waits of one kind and bucket. What no series is known for stays undelivered, which the ledger says.
    pub(super) fn add_wait(&mut self, cpu: u32, word: u64, start_ns: u64, seen: &Wait) {
        let cell = Cell::unpack(word);
        let process = ProcessKey { pid: cell.tgid, start_ns };
        let probe = match cell.series {
            series::RUN_QUEUE => probe::RUN_QUEUE,
            series::OFF_CPU => probe::OFF_CPU,
            _ => return,
        };
        self.deliver(probe, cpu, seen.count);
        let (_, row) = self.cpu_row(process);
        let latency = if probe == probe::RUN_QUEUE { &mut row.run_queue_delay } else { &mut row.off_cpu };
        let Wait { count, sum_ns, min_ns, max_ns } = *seen;
        add(latency, cell.bucket, &Count { count, measured: count, weight: count, sum_ns, min_ns, max_ns });
    }

    /// Adds the part before the flip of a slice that spans it.
    pub(super) fn add_head(&mut self, cpu: u32, head: &Head, comm_of: impl FnOnce(u32) -> [u8; 16]) {
        self.deliver(probe::CPU, cpu, 1);
        *self.heads.entry(cpu).or_default() += 1;
        let (_, row) = self.cpu_row(head.process);
        row.on_cpu_ns += head.on_cpu_ns;
        row.slices += 1;
        if row.comm == [0; 16] {
            row.comm = head.comm.unwrap_or_else(|| comm_of(head.process.pid));
        }
        if row.cgroup_id == 0 {
            row.cgroup_id = head.cgroup_id;
        }
    }

    /// Adds calls of one kind and bucket.
    pub(super) fn add_call(&mut self, cpu: u32, word: u64, start_ns: u64, seen: &Count) {
        let cell = Cell::unpack(word);
        let process = ProcessKey { pid: cell.tgid, start_ns };
        self.deliver(probe::SYSCALL, cpu, seen.measured);
        let row = self.syscalls.entry((process, cell.series)).or_insert_with(|| SyscallReading {
            process,
            comm: [0; 16],
            nr: u32::from(cell.series),
            count: 0,
            timed: 0,
            by_class: [0; errno::LEN],
            latency: Latency::NONE,
        });
        row.count += seen.count;
        let class = usize::from(cell.class).min(errno::LEN - 1);
        row.by_class[class] += seen.count;
        if cell.bucket != UNTIMED {
            row.timed += seen.measured;
            add(&mut row.latency, cell.bucket, seen);
        }
    }

    /// Adds what a process moved through a protocol. What no protocol is known for stays undelivered.
    pub(super) fn add_traffic(&mut self, cpu: u32, process: ProcessKey, number: u16, seen: &Traffic) {
        let protocol = match number {
            protocol::TCP => Protocol::Tcp,
            protocol::UDP => Protocol::Udp,
            _ => return,
        };
        self.deliver(probe::SOCKET, cpu, seen.sent_messages + seen.received_messages);
        let row = self.socket_row(process, protocol, seen.comm);
        row.sent_bytes += seen.sent_bytes;
        row.received_bytes += seen.received_bytes;
        row.sent_messages += seen.sent_messages;
        row.received_messages += seen.received_messages;
    }

    /// Adds what went wrong with a process's connections. What no kind is known for stays undelivered.
    pub(super) fn add_mishaps(&mut self, cpu: u32, process: ProcessKey, kind: u32, seen: &Mishaps) {
        let probe = match kind {
            mishap::RETRANSMIT => probe::RETRANSMIT,
            mishap::RESET_SENT | mishap::RESET_RECEIVED => probe::RESET,
            _ => return,
        };
        self.deliver(probe, cpu, seen.count);
        let row = self.socket_row(process, Protocol::Tcp, seen.comm);
        match kind {
            mishap::RETRANSMIT => row.retransmits += seen.count,
            mishap::RESET_SENT => row.resets_sent += seen.count,
            _ => row.resets_received += seen.count,
        }
    }

    /// The rows, sorted by process. A call's row takes the task name of its process's.
    pub(super) fn into_rows(self) -> (Vec<CpuReading>, Vec<SyscallReading>, Vec<SocketReading>) {
        let mut syscalls: Vec<_> = self.syscalls.into_values().collect();
        for row in &mut syscalls {
            row.latency.scale_to(row.count);
            if let Some((_, process)) = self.cpu.get(&row.process) {
                row.comm = process.comm;
            }
        }
        let mut cpu: Vec<_> = self.cpu.into_values().map(|(_, row)| row).collect();
        cpu.sort_unstable_by_key(|row| row.process);
        syscalls.sort_unstable_by_key(|row| (row.process, row.nr));
        let mut sockets: Vec<_> = self.sockets.into_values().collect();
        sockets.sort_unstable_by_key(|row| (row.process, row.protocol));
        (cpu, syscalls, sockets)
    }

    fn deliver(&mut self, probe: usize, cpu: u32, count: u64) {
        *self.delivered.entry((probe, cpu)).or_default() += count;
    }

    fn socket_row(&mut self, process: ProcessKey, protocol: Protocol, comm: [u8; 16]) -> &mut SocketReading {
        self.sockets.entry((process, protocol)).or_insert_with(|| SocketReading {
            process,
            comm,
            protocol,
            sent_bytes: 0,
            received_bytes: 0,
            sent_messages: 0,
            received_messages: 0,
            retransmits: 0,
            resets_sent: 0,
            resets_received: 0,
        })
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
                migrations: 0,
                run_queue_delay: Latency::NONE,
                off_cpu: Latency::NONE,
            };
            (0, row)
        })
    }
}

fn add(latency: &mut Latency, bucket: u16, seen: &Count) {
    latency.sum_ns += seen.sum_ns;
    latency.min_ns = latency.min_ns.min(seen.min_ns);
    latency.max_ns = latency.max_ns.max(seen.max_ns);
    match latency.buckets.binary_search_by_key(&bucket, |(index, _)| *index) {
        Ok(at) => latency.buckets[at].1 += seen.weight,
        Err(at) => latency.buckets.insert(at, (bucket, seen.weight)),
    }
}

#[cfg(test)]
mod tests {
    use skep_common::bucket;

    use super::*;

    const PROCESS: ProcessKey = ProcessKey { pid: 3, start_ns: 1 };

    fn call(latency_ns: u64, class: u8, count: u64) -> (u64, Count) {
        let word = Cell { tgid: 1, series: 39, class, bucket: bucket::index(latency_ns) }.pack();
        let sum_ns = count * latency_ns;
        (word, Count { count, measured: count, weight: count, sum_ns, min_ns: latency_ns, max_ns: latency_ns })
    }

    fn usage(last_ns: u64, comm: [u8; 16]) -> Usage {
        Usage {
            on_cpu_ns: 10,
            slices: 1,
            voluntary: 1,
            involuntary: 0,
            migrations: 0,
            last_ns,
            cgroup_id: last_ns,
            comm,
            pad: 0,
        }
    }

    #[test]
    fn cpus_classes_and_buckets_become_one_row() {
        let mut merge = Merge::default();
        for (cpu, (word, count)) in [(0, call(200, 0, 10)), (1, call(200, 3, 5)), (1, call(9_000, 0, 1))] {
            merge.add_call(cpu, word, 7, &count);
        }
        assert_eq!((merge.delivered(probe::SYSCALL, 0), merge.delivered(probe::SYSCALL, 1)), (10, 6));
        let (_, rows, _) = merge.into_rows();
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.count, row.by_class[0], row.by_class[3], row.latency.count()), (16, 11, 5, 16));
        assert_eq!((row.latency.min_ns, row.latency.max_ns), (200, 9_000));
        assert_eq!(row.latency.sum_ns, 15 * 200 + 9_000);
        assert_eq!(row.latency.buckets, [(bucket::index(200), 15), (bucket::index(9_000), 1)]);
    }

    #[test]
    fn a_sampled_call_stands_for_others() {
        let mut merge = Merge::default();
        let (word, count) = call(200, 0, 2);
        merge.add_call(0, word, 7, &Count { count: 16, weight: 16, ..count });
        assert_eq!(merge.delivered(probe::SYSCALL, 0), 2);
        let (_, rows, _) = merge.into_rows();
        assert_eq!((rows[0].count, rows[0].timed, rows[0].latency.count()), (16, 2, 16));
    }

    #[test]
    fn calls_that_were_only_counted_are_counted_and_the_timed_ones_stand_for_them() {
        let mut merge = Merge::default();
        let (word, timed) = call(200, 0, 3);
        merge.add_call(0, word, 7, &Count { weight: 24, sum_ns: 24 * 200, ..timed });
        let (slow, one) = call(1_000_000, 0, 1);
        merge.add_call(0, slow, 7, &one);
        let untimed = Cell { bucket: UNTIMED, ..Cell::unpack(word) }.pack();
        let (_, counted) = call(0, 0, 19);
        merge.add_call(0, untimed, 7, &Count { weight: 0, ..counted });
        assert_eq!(merge.delivered(probe::SYSCALL, 0), 23);
        let (_, rows, _) = merge.into_rows();
        let row = &rows[0];
        assert_eq!((row.count, row.timed, row.latency.count()), (23, 4, 23));
        assert_eq!(row.latency.buckets, [(bucket::index(200), 22), (bucket::index(1_000_000), 1)]);
        assert_eq!((row.latency.min_ns, row.latency.max_ns), (200, 1_000_000));
    }

    #[test]
    fn waits_go_where_their_series_says() {
        let mut merge = Merge::default();
        for (series, value_ns) in [(series::RUN_QUEUE, 50), (series::OFF_CPU, 7_000), (series::LAST_CALL, 1)] {
            let word = Cell { tgid: 3, series, class: 0, bucket: bucket::index(value_ns) }.pack();
            merge.add_wait(2, word, 1, &Wait { count: 1, sum_ns: value_ns, min_ns: value_ns, max_ns: value_ns });
        }
        assert_eq!((merge.delivered(probe::RUN_QUEUE, 2), merge.delivered(probe::OFF_CPU, 2)), (1, 1));
        let (rows, ..) = merge.into_rows();
        assert_eq!((rows[0].run_queue_delay.sum_ns, rows[0].off_cpu.sum_ns), (50, 7_000));
    }

    #[test]
    fn a_slice_that_goes_on_makes_a_row_of_its_own() {
        let mut merge = Merge::default();
        let head = Head { process: PROCESS, cgroup_id: 2, on_cpu_ns: 500, comm: None };
        merge.add_head(1, &head, |_| *b"busy\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!((merge.heads(0), merge.heads(1)), (0, 1));
        let (rows, ..) = merge.into_rows();
        assert_eq!((rows[0].on_cpu_ns, rows[0].slices, &rows[0].comm[..4]), (500, 1, &b"busy"[..]));
    }

    #[test]
    fn the_cpu_that_saw_a_process_last_names_it() {
        let mut merge = Merge::default();
        merge.add_usage(0, PROCESS, &usage(200, [b'n'; 16]));
        merge.add_usage(1, PROCESS, &usage(100, [b'o'; 16]));
        let (rows, ..) = merge.into_rows();
        assert_eq!((rows[0].on_cpu_ns, rows[0].cgroup_id, rows[0].comm), (20, 200, [b'n'; 16]));
    }
    #[test]
    fn traffic_and_mishaps_of_a_protocol_become_one_row() {
        let mut merge = Merge::default();
        let moved =
            Traffic { sent_bytes: 5, received_bytes: 7, sent_messages: 1, received_messages: 2, comm: [b'c'; 16] };
        for (cpu, number) in [(0, protocol::TCP), (1, protocol::TCP), (1, protocol::UDP), (1, 1)] {
            merge.add_traffic(cpu, PROCESS, number, &moved);
        }
        for kind in [mishap::RETRANSMIT, mishap::RESET_SENT, mishap::RESET_RECEIVED, 9] {
            merge.add_mishaps(1, PROCESS, kind, &Mishaps { count: u64::from(kind), comm: [b'c'; 16] });
        }
        assert_eq!((merge.delivered(probe::SOCKET, 0), merge.delivered(probe::SOCKET, 1)), (3, 6));
        assert_eq!((merge.delivered(probe::RETRANSMIT, 1), merge.delivered(probe::RESET, 1)), (1, 5));
        let (.., rows) = merge.into_rows();
        let [tcp, udp] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((tcp.protocol, tcp.sent_bytes, tcp.received_bytes), (Protocol::Tcp, 10, 14));
        assert_eq!((tcp.sent_messages, tcp.received_messages), (2, 4));
        assert_eq!((tcp.retransmits, tcp.resets_sent, tcp.resets_received), (1, 2, 3));
        assert_eq!((udp.protocol, udp.sent_messages, udp.retransmits), (Protocol::Udp, 1, 0));
    }
}
