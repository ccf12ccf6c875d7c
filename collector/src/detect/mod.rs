//! Rows to findings.
//!
//! * [`exec`]: what an exec row says, in the form rules ask for it.
//! * [`rules`]: what is suspicious in one exec; data and pure functions.
//! * [`series`]: what is abnormal in a workload's numbers; one online robust score a series.
//! * [`hold`]: a storm of the same thing is one finding and a count.
//! * [`canary`], [`silence`], [`degraded`]: whether skep itself still sees.
//! * [`service`]: what the nodes' checks say of their services.
//! * [`finding`]: what comes out.
//!
//! Rules and scores are never fused into one number: they answer different questions.

pub mod exec;

pub mod rules;

pub mod series;

pub mod hold;

pub mod canary;

pub mod silence;

pub mod degraded;

pub mod service;

pub mod finding;
