//! Beside the stages: what service checks find, on its way to the spool.
//!
//! `skep-checks` asks; here its outcomes become rows of `checks`, and figures become gauges of the window they were read in.
//!
//! * [`rows`]: outcomes to rows and gauges.
//! * [`task`]: gathers outcomes for a batch.
//! * [`once`]: every check once, for an operator.

pub mod rows;

pub mod task;

pub mod once;

pub use task::Services;
