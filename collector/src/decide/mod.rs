//! Findings to actions: policy, budgets, approval, and the life of an action.
//!
//! * [`policy`]: the file that says what may be done about which finding.
//! * [`recipe`]: what a rule makes of a finding.
//! * [`protected`]: whom no policy may act on.
//! * [`state`]: the life of an action as one table.
//! * [`action`]: an action, and its row.
//! * [`ledger`]: all actions, within the budgets.
//! * [`refusal`]: why an operator's word was refused.

pub mod policy;

pub mod recipe;

pub mod protected;

pub mod state;

pub mod action;

pub mod ledger;

pub mod refusal;

pub use ledger::Ledger;
pub use policy::Policy;
pub use refusal::Refusal;
