//! The unix socket: who may speak, and in frames of [`skep_wire::frame`].
//!
//! * [`server`]: listens, checks who connects, passes requests in and receipts out.
//! * [`client`]: asks a running executor for its status.

pub mod server;

pub mod client;
