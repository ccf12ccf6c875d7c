//! The compiled probes, embedded in the program.

/// ELF object for the BPF target, aligned so that it can be parsed in place.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/skep-agent-ebpf.o"));
