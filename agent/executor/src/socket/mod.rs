//! The unix socket: who may speak, and in which frames.
//!
//! * [`frame`]: a length and a message.
//! * [`server`]: listens, checks who connects, passes requests in and receipts out.
//! * [`client`]: asks a running executor for its status.

pub mod frame;

pub mod server;

pub mod client;
