//! The kernel side as the agent sees it. Only this folder names the loader or a map.
//!
//! [`Probes::load`] looks at the kernel ([`kernel`], from its BTF), loads the object into it and attaches what this
//! kernel allows; whatever it does not is named in the [`ProbeReport`], and the rest works. Then:
//!
//! * [`Probes::drain_events`] hands out what happened, as [`Event`]s. Nothing wakes the agent: call it on a timer.
//! * [`Probes::flip`] closes the epoch and returns what was counted in it, as a [`Reading`].
//!
//! [`Probes::load_pinned`] lets them outlive the agent, and goes on with what an earlier agent left. What was handed out
//! stays in the kernel until [`Probes::commit`] says that it is stored, so that an agent that dies loses nothing.
//!
//! The order of a flip: number of the new epoch -> every program that saw the old number has returned (an RCU grace
//! period) -> ring drained -> quiet maps read and emptied -> ledger. So counts and ledger of an epoch are exact.
//!
//! [`kernel`]: self::kernel

pub mod reading;

pub mod error;

pub mod options;

pub mod report;

mod btf;

mod kernel;

mod object;

mod sys;

mod mapping;

mod table;

mod cpus;

mod ring_buffer;

mod programs;

mod attach;

mod pin;

mod ring;

mod handed;

mod slices;

mod merge;

mod requests;

mod account;

mod probes;

mod adopt;

mod cost;

mod log;

mod syscall_name;

pub use cost::{DomainCost, ProgramCost, RunStatistics};
pub use error::ProbeError;
pub use options::{LogLevel, ProbeOptions};
pub use pin::{Removed, detach, pin_feature};
pub use probes::Probes;
pub use reading::{Event, Mark, Reading};
pub use report::{Feature, ProbeReport, probe_feature_report};
pub use sys::lockdown;
pub use syscall_name::syscall_name;
