//! Acts on a Kubernetes cluster for the collector, as the executor does on a host.
//!
//! * [`settings`]: what may be done to what, the last word.
//! * [`cluster`]: a word with the API server, and what its errors mean.
//! * [`target`]: the object a command means.
//! * [`act`]: the only code that changes the cluster.
//! * [`refusal`]: why not.
//! * [`engine`]: a command's way from check over journal, act and verification to its undoing.
//! * [`fault`]: where tests have this program end.
//! * [`task`]: commands in, receipts out.
//!
//! Invariants: nothing is changed before the journal says on disk how to take it back; nothing is changed that was made
//! again under the same name, for every change names the uid it is for; no command overrides the settings or the protected
//! list. What stands goes on over a restart of the collector and ends with its lease.

#![forbid(unsafe_code)]

pub mod settings;

pub mod cluster;

pub mod target;

pub mod act;

pub mod refusal;

pub mod engine;

pub mod fault;

pub mod task;

pub use settings::Settings;
pub use task::{Task, Word};
