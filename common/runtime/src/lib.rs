//! What every daemon needs before it does its own work.
//!
//! * [`clock`]: time since boot, and wall time anchored to it.
//! * [`backoff`]: jittered waits between tries.
//! * [`shutdown`]: one signal, named components, a deadline on the whole.
//! * [`telemetry`]: log lines to stderr.
//! * [`settings`]: TOML, all faults at once.
//! * [`secret`]: read where it is, at each use.
//! * [`error`]: an error and its causes on one line.

#![forbid(unsafe_code)]

pub mod backoff;

pub mod clock;

pub mod shutdown;

pub mod telemetry;

pub mod secret;

pub mod settings;

pub mod error;
