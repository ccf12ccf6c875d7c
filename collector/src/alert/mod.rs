//! Findings and rules to whoever should hear of them. `skep-alerts` decides who that is and tells them.
//!
//! * [`report`]: a finding, as a report. Pure.
//! * [`task`]: the one task that owns the desk.
//! * [`rules`]: asks the statements of rules.

/// Rules that hold where nobody says otherwise.
pub const DEFAULT_RULES: &str = include_str!("rules.toml");

pub mod report;

pub mod task;

pub mod rules;

pub use rules::Rules;
pub use task::Alerting;
