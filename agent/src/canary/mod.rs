//! Beside the stages: a harmless marked process now and then, which every probe must see.
//!
//! A probe that was detached, a ring that nobody drains and a collector that drops rows all look like a quiet host. A
//! canary is announced to the collector before it runs; when its exec, its exit or its connection then fails to arrive,
//! somebody is blind, and the collector says so.
//!
//! * [`errand`]: what the marked process does.
//! * [`rows`]: what is announced.
//! * [`task`]: when one is run, and what is said of it.

pub mod errand;
pub mod rows;
pub mod task;

pub use task::Canary;
