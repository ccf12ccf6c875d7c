//! The compiled probes, embedded in the program, and what this kernel makes of them.

use skep_common::{
    offset::{Facts, Offsets, PLACEHOLDER_MARK},
    plain,
};

/// ELF object for the BPF target, aligned so that it can be parsed in place.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/skep-agent-ebpf.o"));

/// `BPF_LD | BPF_IMM | BPF_DW`, include/uapi/linux/bpf.h: the instruction that loads 64 bits, twice as long as others.
const LOAD: u64 = 0x18;

/// What tells it from others, and from those that load the address of a map: code, source register, offset.
const LOAD_MASK: u64 = 0xffff_f0ff;

/// The object, as words.
#[derive(Debug)]
pub(super) struct Object(Vec<u64>);

impl Object {
    /// The object with what is known of the kernel in the place of the placeholders.
    pub(super) fn of(offsets: &Offsets, facts: &Facts) -> Self {
        let entries = [plain::bytes(offsets), plain::bytes(facts)].concat();
        let entries: Vec<u64> = words(&entries).collect();
        let mut object: Vec<u64> = words(OBJECT).collect();
        fill_in(&mut object, &entries);
        Self(object)
    }

    /// What to load.
    pub(super) fn bytes(&self) -> &[u8] {
        plain::slice_bytes(&self.0)
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (whole, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(last);
    whole.iter().copied().chain(last).map(u64::from_ne_bytes)
}

/// Puts the entries in the place of their placeholders; returns how many there were. An instruction is eight bytes long
/// and lies at a multiple of that.
fn fill_in(object: &mut [u64], entries: &[u64]) -> usize {
    const LOW: u64 = u32::MAX as u64;
    let mut filled = 0;
    for at in 1..object.len() {
        let (load, upper) = (object[at - 1], object[at]);
        if upper != u64::from(PLACEHOLDER_MARK) << 32 || load & LOAD_MASK != LOAD {
            continue;
        }
        if let Some(value) = entries.get((load >> 32) as usize) {
            object[at - 1] = load & LOW | value << 32;
            object[at] = value & !LOW;
            filled += 1;
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A placeholder somewhere else than where an instruction can be would stay: there is none.
    #[test]
    fn every_placeholder_is_filled_in() {
        let mark = PLACEHOLDER_MARK.to_ne_bytes();
        let there = OBJECT.windows(4).filter(|bytes| *bytes == mark).count();
        let mut object: Vec<u64> = words(OBJECT).collect();
        let filled = fill_in(&mut object, &[7; Offsets::LEN + Facts::LEN]);
        assert!(filled > 100, "{filled}");
        assert_eq!(there, filled);
        assert!(!plain::slice_bytes(&object).windows(4).any(|bytes| bytes == mark));
    }

    #[test]
    fn an_entry_of_64_bits_is_filled_in_whole() {
        let mark = u64::from(PLACEHOLDER_MARK) << 32;
        let mut object = [LOAD | 0x300 | 1 << 32, mark, LOAD | 0x1300 | 1 << 32, mark];
        assert_eq!(fill_in(&mut object, &[0, 0x1234_5678_9abc_def0]), 1);
        let filled = [LOAD | 0x300 | 0x9abc_def0 << 32, 0x1234_5678 << 32, LOAD | 0x1300 | 1 << 32, mark];
        assert_eq!(object, filled);
    }
}
