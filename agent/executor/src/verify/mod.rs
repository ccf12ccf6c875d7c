//! Whether a command may be carried out: asked of the command, of this program's own policy and of the host.
//!
//! * [`key`]: the keys that are trusted.
//! * [`admission`]: the command itself against clock, identity, policy and budgets; pure.
//! * [`protected`]: whether the target is, or holds, what nobody may touch.
//! * [`trigger`]: whether there still is a reason, and afterwards whether it helped; pure.
//! * [`refusal`]: why not.

pub mod key;

pub mod admission;

pub mod protected;

pub mod trigger;

pub mod refusal;

pub use refusal::Refusal;
