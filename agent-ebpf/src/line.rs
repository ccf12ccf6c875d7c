//! Histograms: lines of this CPU's caches, and the maps that take what the caches have no room for.
//!
//! A cache is direct-mapped. The line an observation leads to either counts the same thing already, or is free, or is
//! first added to the map: reading it out and emptying it costs less than the lookup it saves a hundred times.

use aya_ebpf::{macros::map, maps::HashMap};
use skep_common::{
    aggregate::{CellKey, Count, Line, Usage, UsageKey, UsageLine, Wait, WaitLine},
    limit,
};

use crate::here::Here;

#[map]
static CALLS_EVEN: HashMap<CellKey, Count> = HashMap::with_max_entries(limit::CALL_ENTRIES, 0);
#[map]
static CALLS_ODD: HashMap<CellKey, Count> = HashMap::with_max_entries(limit::CALL_ENTRIES, 0);
#[map]
static WAITS_EVEN: HashMap<CellKey, Wait> = HashMap::with_max_entries(limit::WAIT_ENTRIES, 0);
#[map]
static WAITS_ODD: HashMap<CellKey, Wait> = HashMap::with_max_entries(limit::WAIT_ENTRIES, 0);
#[map]
static USAGE_EVEN: HashMap<UsageKey, Usage> = HashMap::with_max_entries(limit::USAGE_ENTRIES, 0);
#[map]
static USAGE_ODD: HashMap<UsageKey, Usage> = HashMap::with_max_entries(limit::USAGE_ENTRIES, 0);

/// Spreads the bits of a key (Knuth's multiplicative hashing); the top ones are the index.
pub const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// One observation.
#[derive(Clone, Copy)]
pub struct Observation {
    /// A packed [`skep_common::aggregate::Cell`].
    pub word: u64,
    /// Start of the process.
    pub start_ns: u64,
    /// What was measured.
    pub value_ns: u64,
    /// For how many timed observations it stands; 0 when it was not timed.
    pub weight: u64,
    /// For how many it stands, as a power of two.
    pub shift: u64,
}

/// What the map behind a cache said when it had no room for a line that had to go. The line stays, for it may count
/// millions; the one observation that came is lost.
pub struct Refused(pub i32);

/// Counts a system call.
#[inline(always)]
pub fn count_call(here: Here, seen: Observation) -> Result<(), Refused> {
    let line = call_line(here, seen.word);
    let map = if here.is_odd() { &CALLS_ODD } else { &CALLS_EVEN };
    count(here, line, map, seen)
}

/// Counts a system call that was not timed: the same, with less to do.
#[inline(always)]
pub fn count_untimed_call(here: Here, word: u64, start_ns: u64, shift: u64) -> Result<(), Refused> {
    let line = call_line(here, word);
    // SAFETY: the line is in this CPU's state, which only its program writes.
    unsafe {
        if (*line).word != word || (*line).start_ns != start_ns {
            return count_call(here, Observation { word, start_ns, value_ns: 0, weight: 0, shift });
        }
        let count = &raw mut (*line).count;
        (*count).count += 1 << (shift & 15);
        (*count).measured += 1;
    }
    Ok(())
}

/// The line a system call leads to.
#[inline(always)]
fn call_line(here: Here, word: u64) -> *mut Line {
    const BITS: u32 = limit::CALL_LINES.trailing_zeros();
    // SAFETY: the side is this CPU's; the index has `BITS` bits.
    unsafe { (&raw mut (*here.side()).calls).cast::<Line>().add((word.wrapping_mul(SPREAD) >> (64 - BITS)) as usize) }
}

/// Counts a wait of `value_ns`, in the cell of a packed word.
#[inline(always)]
pub fn count_wait(here: Here, word: u64, start_ns: u64, value_ns: u64) -> Result<(), Refused> {
    const BITS: u32 = limit::WAIT_LINES.trailing_zeros();
    let side = here.side();
    let index = word.wrapping_mul(SPREAD) >> (64 - BITS);
    // SAFETY: the side is this CPU's and only the program at the switch writes its waits; the index has `BITS` bits.
    unsafe {
        let line = (&raw mut (*side).waits).cast::<WaitLine>().add(index as usize);
        if (*line).word != word || (*line).start_ns != start_ns {
            make_wait_room(here, line)?;
            let wait = Wait { count: 1, sum_ns: value_ns, min_ns: value_ns, max_ns: value_ns };
            line.write(WaitLine { word, start_ns, wait });
            return Ok(());
        }
        let wait = &raw mut (*line).wait;
        (*wait).count += 1;
        (*wait).sum_ns += value_ns;
        if value_ns < (*wait).min_ns {
            (*wait).min_ns = value_ns;
        }
        if value_ns > (*wait).max_ns {
            (*wait).max_ns = value_ns;
        }
    }
    Ok(())
}

/// Adds what a line counts to the map.
#[inline(always)]
unsafe fn make_wait_room(here: Here, line: *mut WaitLine) -> Result<(), Refused> {
    // SAFETY: the caller's line is good.
    let WaitLine { word, start_ns, wait: seen } = unsafe { line.read() };
    if word == 0 {
        return Ok(());
    }
    let key = CellKey { word, start_ns, cpu: here.cpu, pad: 0 };
    let map = if here.is_odd() { &WAITS_ODD } else { &WAITS_EVEN };
    let Some(known) = map.get_ptr_mut(key) else {
        return map.insert(key, seen, 0).map_err(Refused);
    };
    // SAFETY: the map gave the pointer; only this program on this CPU writes entries of this CPU.
    unsafe {
        (*known).count += seen.count;
        (*known).sum_ns += seen.sum_ns;
        if seen.min_ns < (*known).min_ns {
            (*known).min_ns = seen.min_ns;
        }
        if seen.max_ns > (*known).max_ns {
            (*known).max_ns = seen.max_ns;
        }
    }
    Ok(())
}

#[inline(always)]
fn count(here: Here, line: *mut Line, map: &HashMap<CellKey, Count>, seen: Observation) -> Result<(), Refused> {
    let Observation { word, start_ns, value_ns, weight, shift } = seen;
    let (weight, sum_ns) = (weight << (shift & 15), value_ns * weight << (shift & 15));
    // SAFETY: the caller's line is in this CPU's state, which only its program writes.
    unsafe {
        if (*line).word != word || (*line).start_ns != start_ns {
            make_room(here, line, map)?;
            (*line).word = word;
            (*line).start_ns = start_ns;
            (*line).count =
                Count { count: 1 << (shift & 15), measured: 1, weight, sum_ns, min_ns: value_ns, max_ns: value_ns };
            return Ok(());
        }
        let count = &raw mut (*line).count;
        (*count).count += 1 << (shift & 15);
        (*count).measured += 1;
        (*count).weight += weight;
        (*count).sum_ns += sum_ns;
        if value_ns < (*count).min_ns {
            (*count).min_ns = value_ns;
        }
        if value_ns > (*count).max_ns {
            (*count).max_ns = value_ns;
        }
    }
    Ok(())
}

/// Adds what a line counts to the map.
#[inline(always)]
unsafe fn make_room(here: Here, line: *mut Line, map: &HashMap<CellKey, Count>) -> Result<(), Refused> {
    // SAFETY: the caller's line is good.
    let Line { word, start_ns, count: seen, .. } = unsafe { line.read() };
    if word == 0 {
        return Ok(());
    }
    let key = CellKey { word, start_ns, cpu: here.cpu, pad: 0 };
    let Some(known) = map.get_ptr_mut(key) else {
        return map.insert(key, seen, 0).map_err(Refused);
    };
    // SAFETY: the map gave the pointer; only this program on this CPU writes entries of this CPU.
    unsafe {
        (*known).count += seen.count;
        (*known).measured += seen.measured;
        (*known).weight += seen.weight;
        (*known).sum_ns += seen.sum_ns;
        if seen.min_ns < (*known).min_ns {
            (*known).min_ns = seen.min_ns;
        }
        if seen.max_ns > (*known).max_ns {
            (*known).max_ns = seen.max_ns;
        }
    }
    Ok(())
}

/// The line of a process's time on this CPU, made for it if need be.
#[inline(always)]
pub fn usage_of(here: Here, tgid: u32, start_ns: u64) -> Result<*mut Usage, Refused> {
    const BITS: u32 = limit::USAGE_LINES.trailing_zeros();
    let side = here.side();
    let index = u64::from(tgid).wrapping_mul(SPREAD) >> (64 - BITS);
    // SAFETY: the side is this CPU's and only this program writes its usage; the index has `BITS` bits.
    unsafe {
        let line = (&raw mut (*side).usage).cast::<UsageLine>().add(index as usize);
        if (*line).tgid != tgid || (*line).start_ns != start_ns {
            make_usage_room(here, line)?;
            line.write(UsageLine { start_ns, tgid, pad: 0, usage: NO_USAGE });
        }
        Ok(&raw mut (*line).usage)
    }
}

#[inline(always)]
unsafe fn make_usage_room(here: Here, line: *mut UsageLine) -> Result<(), Refused> {
    // SAFETY: the caller's line is good.
    let (tgid, start_ns, seen) = unsafe { ((*line).tgid, (*line).start_ns, &raw const (*line).usage) };
    if tgid == 0 {
        return Ok(());
    }
    let key = UsageKey { start_ns, tgid, cpu: here.cpu };
    let map = if here.is_odd() { &USAGE_ODD } else { &USAGE_EVEN };
    // SAFETY: the line is good and the map gave the other; only this program on this CPU writes entries of this CPU.
    unsafe {
        let Some(known) = map.get_ptr_mut(key) else {
            return map.insert(key, &*seen, 0).map_err(Refused);
        };
        (*known).on_cpu_ns += (*seen).on_cpu_ns;
        (*known).slices += (*seen).slices;
        (*known).voluntary += (*seen).voluntary;
        (*known).involuntary += (*seen).involuntary;
        (*known).migrations += (*seen).migrations;
        (*known).last_ns = (*seen).last_ns;
        (*known).cgroup_id = (*seen).cgroup_id;
        (*known).comm = (*seen).comm;
    }
    Ok(())
}

const NO_USAGE: Usage = Usage {
    on_cpu_ns: 0,
    slices: 0,
    voluntary: 0,
    involuntary: 0,
    migrations: 0,
    last_ns: 0,
    cgroup_id: 0,
    comm: [0; 16],
    pad: 0,
};
