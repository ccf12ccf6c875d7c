//! The contract between the probes in the kernel and the agent in user space.
//!
//! No standard library and no dependencies: the same source is compiled for the BPF target. Anything both sides must
//! agree on is here once.
//!
//! * [`bucket`]: the HDR bucket index used in kernel, agent, wire, Parquet and SQL.
//! * [`aggregate`]: what is counted: cache lines, keys and values of the maps behind them.
//! * [`errno`]: classes of errors.
//! * [`state`]: what each CPU keeps for itself.
//! * [`event`]: records of the ring buffer.
//! * [`exec_flag`]: what an exec event says of its executable and standard streams.
//! * [`ledger`]: probes, reasons for loss and the counters that hold them.
//! * [`offset`]: the kernel fields the probes read, resolved from BTF when they are loaded.
//! * [`limit`]: how much kernel memory all this takes.
//!
//! Every record is `repr(C)`, made of fixed-width integers and arrays, with its padding spelt out and its layout asserted
//! at compile time.

#![no_std]

pub mod bucket;

pub mod errno;

pub mod aggregate;

pub mod event;

pub mod exec_flag;

pub mod ledger;

pub mod limit;

pub mod state;

pub mod offset;

#[cfg(feature = "user")]
pub mod plain;
