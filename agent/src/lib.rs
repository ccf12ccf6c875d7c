//! The host agent.
//!
//! Stages in flow order:
//!
//! [`probe`] -> [`aggregate`] -> [`spool`] -> [`ship`], and beside them [`command`], which carries orders to the executor
//! and receipts back, [`canary`], which lets the collector see whether all of this works, and [`cri`], which asks the
//! container runtime for the names of pods, and [`service`], which brings in what service checks find.
//! [`govern`] keeps all of it within its budget.
//!
//! Invariants: only `probe` names the loader or a map; only [`app`] makes channels and starts tasks; a batch leaves only
//! after it is on disk; whatever is dropped is a row of the ledger.
//!
//! Entry points: [`app::run`], [`doctor::run`], [`config::load`].

pub mod probe;

pub mod source;

pub mod ledger;

pub mod aggregate;

pub mod cri;

pub mod spool;

pub mod ship;

pub mod command;

pub mod canary;

pub mod service;

pub mod govern;

pub mod app;

pub mod config;

pub mod doctor;

pub use skep_runtime::error;

pub mod heap;

pub mod host;
