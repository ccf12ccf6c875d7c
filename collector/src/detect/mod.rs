//! Rows to findings.
//!
//! * [`event`]: execs and connections in the form the rules of `skep-rules` ask for, and their judgement.
//! * [`series`]: what is abnormal in a workload's numbers; one online robust score a series.
//! * [`hold`]: a storm of the same thing is one finding and a count.
//! * [`canary`], [`silence`], [`degraded`]: whether skep itself still sees.
//! * [`change`]: what changed before something was found.
//! * [`service`]: what the nodes' checks say of their services.
//! * [`finding`]: what comes out.
//!
//! Rules and scores are never fused into one number: they answer different questions.

pub mod event;

pub mod series;

pub mod hold;

pub mod canary;

pub mod silence;

pub mod degraded;

pub mod change;

pub mod service;

pub mod finding;
