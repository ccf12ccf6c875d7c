//! The probes against the running kernel. Needs root; a test without its privileges fails and says so.
//!
//! Every test loads its own probes and does something known in processes of its own; one runs at a time.

mod cpu;
mod ledger;
mod process;
mod support;
mod syscall;
mod tcp;
