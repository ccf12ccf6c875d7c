//! The life of an action; what is done about which finding is decided by `skep_policy`.
//!
//! * [`seen`]: a finding as the policy sees it, and an action's state as it hears of it.
//! * [`state`]: the life of an action as one table.
//! * [`action`]: an action, and its row.
//! * [`ledger`]: all actions.
//! * [`refusal`]: why an operator's word was refused.

pub mod seen;

pub mod state;

pub mod action;

pub mod ledger;

pub mod refusal;

pub use ledger::Ledger;
pub use refusal::Refusal;
pub use skep_policy::Policy;
