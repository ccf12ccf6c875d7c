//! The part before a flip of slices that span it.
//!
//! The kernel accounts a slice when it ends, in the epoch it ends in, from the flip on. What was before the flip is
//! found here, CPU by CPU: in the slice that runs, or in what the first switch after the flip left.

use skep_common::state::{Running, Tail};

use super::reading::ProcessKey;

/// Between which flips.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The epoch that begins with the later one.
    pub(super) next_epoch: u64,
    /// The earlier.
    pub(super) from_ns: u64,
    /// The later.
    pub(super) until_ns: u64,
}

/// A part of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) process: ProcessKey,
    pub(super) cgroup_id: u64,
    pub(super) on_cpu_ns: u64,
    /// Task name, where the kernel said.
    pub(super) comm: Option<[u8; 16]>,
}

/// What one CPU ran when the epoch ended. `running` was read before `tail`.
pub(super) fn head(running: &Running, tail: &Tail, span: Span) -> Option<Head> {
    if tail.epoch == span.next_epoch {
        let process = ProcessKey { pid: tail.tgid, start_ns: tail.start_ns };
        return (tail.tgid != 0 && tail.on_cpu_ns != 0).then_some(Head {
            process,
            cgroup_id: tail.cgroup_id,
            on_cpu_ns: tail.on_cpu_ns,
            comm: Some(tail.comm),
        });
    }
    let on_cpu_ns = span.until_ns.saturating_sub(running.since_ns.max(span.from_ns));
    let process = ProcessKey { pid: running.tgid, start_ns: running.start_ns };
    (running.tgid != 0 && running.since_ns != 0 && on_cpu_ns != 0).then_some(Head {
        process,
        cgroup_id: running.cgroup_id,
        on_cpu_ns,
        comm: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { next_epoch: 8, from_ns: 1_000, until_ns: 2_000 };

    fn running(since_ns: u64, tgid: u32) -> Running {
        Running {
            since_ns,
            start_ns: 5,
            cgroup_id: 9,
            tgid,
            tid: tgid,
            sequence: 2,
            epoch: 7,
            migrated: 0,
            ahead_ns: 0,
            compared_ns: 0,
        }
    }

    fn tail(epoch: u64, on_cpu_ns: u64) -> Tail {
        let comm = *b"worker\0\0\0\0\0\0\0\0\0\0";
        Tail { epoch, on_cpu_ns, start_ns: 6, cgroup_id: 9, tgid: 4, pad: 0, comm, filler: 0 }
    }

    #[test]
    fn a_slice_that_runs_on_counts_up_to_the_flip() {
        let head = head(&running(1_200, 3), &tail(7, 0), SPAN).expect("it ran");
        assert_eq!((head.process.pid, head.on_cpu_ns), (3, 800));
    }

    #[test]
    fn a_slice_older_than_the_epoch_counts_from_its_beginning() {
        assert_eq!(head(&running(10, 3), &tail(7, 0), SPAN).map(|head| head.on_cpu_ns), Some(1_000));
    }

    #[test]
    fn a_slice_that_ended_after_the_flip_left_its_head_behind() {
        let head = head(&running(2_500, 3), &tail(8, 300), SPAN).expect("it ran");
        assert_eq!((head.process.pid, head.on_cpu_ns), (4, 300));
    }

    #[test]
    fn nothing_ran_on_an_idle_cpu() {
        assert_eq!(head(&running(1_200, 0), &tail(7, 0), SPAN), None);
        assert_eq!(head(&running(2_500, 3), &tail(8, 0), SPAN), None);
    }

    #[test]
    fn a_slice_that_began_after_the_flip_is_of_the_next_epoch() {
        assert_eq!(head(&running(2_100, 3), &tail(7, 0), SPAN), None);
    }

    #[test]
    fn a_cpu_that_never_switched_says_nothing() {
        assert_eq!(head(&running(0, 0), &tail(0, 0), SPAN), None);
    }
}
