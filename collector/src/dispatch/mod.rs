//! Decisions to signed commands.

pub mod sign;

pub mod draw;

pub use draw::Draw;
pub use sign::Signer;
