//! Findings to actions: policy, budgets, approval, and the life of an action.

pub mod policy;

pub mod refusal;

pub use policy::{Policy, PolicyError};
pub use refusal::Refusal;
