//! The collector: takes batches from agents, keeps them, answers questions about them, and decides on actions.
//!
//! The stages, as data flows; [`app`] wires them and is the only place with long-lived channels and tasks:
//! ingest -> wal -> buffer -> history, read back by query; ingest -> respond (detect, decide, dispatch) -> wal.
//!
//! Invariants: a batch is acknowledged only when it is synced in the WAL; (node, stream, seq) is stored once; a query sees
//! every stored row once, wherever it is; a segment of the WAL goes only when all its rows are in committed Parquet
//! files; nothing waits for a slow reader of events; a full buffer stops the reading of uplinks and drops nothing.

#![forbid(unsafe_code)]

pub mod folder;

pub mod tls;

pub mod config;

pub mod shares;

/// Batches from agents, checked and acknowledged.
pub mod ingest;

/// What is acknowledged is here first.
pub mod wal;

/// Rows not yet in Parquet.
pub mod buffer;

/// Parquet under a Delta log.
pub mod history;

/// Checkpoints, compaction, retention.
pub mod maintain;

/// What a start finds of it.
pub mod recover;

/// Copies, puts back, checks and describes all of it.
pub mod archive;

/// SQL over all of it.
pub mod query;

pub mod missing;

pub mod detect;

pub mod decide;

pub mod dispatch;

pub mod incident;

pub mod response;

pub mod respond;

pub mod cluster;

/// Whoever should hear of it does.
pub mod alert;

pub mod rules;

/// Series of other tools through the same scorer.
pub mod score;

/// What operators ask.
pub mod console;

/// What other programs ask, by Flight SQL.
pub mod flight;

pub mod app;

pub use skep_runtime::error;
