//! The contract between the probes in the kernel and the agent in user space.
//!
//! No standard library and no dependencies: the same source is compiled for the BPF target. Anything both sides must
//! agree on is here once: histogram buckets, records, limits, reasons for loss.
//!
//! * [`bucket`]: the HDR bucket index used in kernel, agent, wire, Parquet and SQL.

#![no_std]

pub mod bucket;
