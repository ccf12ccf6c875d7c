//! Requests to block devices: how many, how large, how long from the moment the device gets one until it is done.
//!
//! A request belongs to the process that runs when the device gets it. For direct and synchronous input and output that
//! is the process that asked, but for few: a request that must wait for a busy device goes to whoever hands it over. What
//! was written to the page cache is handed over later, by a worker of the kernel.

use aya_ebpf::{macros::map, maps::HashMap};
use skep_common::{
    aggregate::{Amount, BlockKey, Cell, block},
    bucket,
    ledger::{column, price, probe},
    limit,
};

use crate::{
    here::Here,
    hook::Arguments,
    kernel::{self, Address},
    price::Meter,
    subject,
};

/// A request the device has.
#[derive(Clone, Copy)]
#[repr(C)]
struct Request {
    issued_ns: u64,
    start_ns: u64,
    tgid: u32,
    bytes: u32,
    device: u32,
    operation: u32,
}

/// By address of the `struct request`.
#[map]
static INFLIGHT: HashMap<u64, Request> = HashMap::with_max_entries(limit::REQUEST_ENTRIES, 0);

#[map]
static BLOCK_EVEN: HashMap<BlockKey, Amount> = HashMap::with_max_entries(limit::BLOCK_ENTRIES, 0);
#[map]
static BLOCK_ODD: HashMap<BlockKey, Amount> = HashMap::with_max_entries(limit::BLOCK_ENTRIES, 0);

/// Operations, include/linux/blk_types.h.
mod operation {
    pub const MASK: u32 = 0xff;
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 2;
    pub const DISCARD: u32 = 3;
}

// Source: block/blk-mq.c `blk_mq_start_request`, `(struct request *rq)`; before 5.11 a queue comes first.
hook!(block_rq_issue, raw_block_rq_issue, issued);

#[inline(always)]
fn issued(arguments: Arguments) {
    let request = if fact!(issue_has_queue) != 0 { arguments.address(1) } else { arguments.address(0) };
    let task = kernel::current();
    let disk = if has!(request_disk) {
        fetch!(request, request_disk as Address)
    } else {
        fetch!(fetch!(request, request_queue as Address), queue_disk as Address)
    };
    let made = Request {
        issued_ns: kernel::now_ns(),
        start_ns: subject::start_ns(task),
        tgid: load!(task, task_tgid as u32),
        bytes: fetch!(request, request_bytes as u32),
        device: fetch!(disk, disk_major as u32) << block::MINOR_BITS | fetch!(disk, disk_minor as u32),
        operation: match fetch!(request, request_flags as u32) & operation::MASK {
            operation::READ => block::READ,
            operation::WRITE => block::WRITE,
            operation::FLUSH => block::FLUSH,
            operation::DISCARD => block::DISCARD,
            _ => block::OTHER,
        },
    };
    // When there is no room its end finds no beginning, which the ledger says.
    _ = INFLIGHT.insert(request as u64, made, 0);
}

// Source: block/blk-mq.c `blk_update_request`, `(struct request *rq, blk_status_t error, unsigned int nr_bytes)`; before
// 5.16 the error is an errno.
hook!(block_rq_complete, raw_block_rq_complete, completed);

#[inline(always)]
fn completed(arguments: Arguments) {
    let request = arguments.address(0);
    let failed = arguments.number(1) as u32 != 0;
    let bytes = arguments.number(2) as u32;
    if bytes < fetch!(request, request_bytes as u32) {
        // A part of it; the rest is still to come.
        return;
    }
    let Some(here) = Here::now() else { return };
    here.attempted(probe::BLOCK);
    let now_ns = kernel::now_ns();
    let Some(made) = INFLIGHT.get_ptr_mut(request as u64) else {
        here.lost(probe::BLOCK, column::ENTRY_MISSED);
        return;
    };
    let meter = Meter::start(here, price::BLOCK, Some(now_ns));
    // SAFETY: the map gave the pointer; nobody else has the request.
    let made = unsafe { made.read() };
    _ = INFLIGHT.remove(request as u64);
    count(here, &made, failed, now_ns.saturating_sub(made.issued_ns));
    meter.stop();
}

#[inline(always)]
fn count(here: Here, made: &Request, failed: bool, latency_ns: u64) {
    let map = if here.is_odd() { &BLOCK_ODD } else { &BLOCK_EVEN };
    let cell = Cell {
        tgid: made.tgid,
        series: block::latency_series(made.operation),
        class: u8::from(failed),
        bucket: bucket::index(latency_ns),
    };
    let mut key = BlockKey { word: cell.pack(), start_ns: made.start_ns, cpu: here.cpu, device: made.device };
    if let Err(error) = add(map, &key, latency_ns) {
        here.refused(probe::BLOCK, error);
        return;
    }
    let bytes = u64::from(made.bytes);
    let cell = Cell { series: block::size_series(made.operation), bucket: bucket::index(bytes), ..cell };
    key.word = cell.pack();
    // The request itself is counted; of its size nothing is known then.
    _ = add(map, &key, bytes);
}

#[inline(always)]
fn add(map: &HashMap<BlockKey, Amount>, key: &BlockKey, value: u64) -> Result<(), i32> {
    let Some(known) = map.get_ptr_mut(key) else {
        return map.insert(key, Amount { count: 1, sum: value, min: value, max: value }, 0);
    };
    // SAFETY: the map gave the pointer; only this program on this CPU writes entries of this CPU.
    unsafe {
        (*known).count += 1;
        (*known).sum += value;
        if value < (*known).min {
            (*known).min = value;
        }
        if value > (*known).max {
            (*known).max = value;
        }
    }
    Ok(())
}
