//! The one program that changes the host.
//!
//! * [`socket`]: who may speak, and in which frames.
//! * [`verify`]: whether a command may be carried out.
//! * [`journal`]: what is about to be done and how to take it back, on disk first.
//! * [`act`]: the only code that changes the host.
//! * [`undo`]: takes an action back.
//! * [`engine`]: a command's way through all of these.
//! * [`fault`]: where tests have it end.
//! * [`config`]: its own policy, the last word.
//! * [`app`]: the wiring.
//!
//! Invariants: nothing is changed before the journal says on disk how to take it back; nothing stands beyond its lease;
//! nothing stands after a crash, once this program runs again; only `act` changes the host; no command overrides the
//! protected list or the configuration.

#![forbid(unsafe_code)]

pub mod socket;

pub mod verify;

pub use skep_journal as journal;

pub mod act;

pub mod undo;

pub mod engine;

pub mod fault;

pub mod config;

pub mod app;
