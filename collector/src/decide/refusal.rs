//! Why an operator's word was refused.

use thiserror::Error;

/// Why an operator's word was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No action has this id.
    #[error("no action {action}")]
    UnknownAction {
        /// What was asked for.
        action: String,
    },
}
