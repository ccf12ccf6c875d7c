//! Fourth stage: batches go to a collector, in order, until it says they are durable.
//!
//! * [`credentials`]: this node's certificate and its name.
//! * [`connect`]: mutual TLS to the collector, and what to say when it does not work.
//! * [`acknowledged`]: which collector has what.
//! * `memory`: over restarts of the agent.
//! * `greet`: from a connection to a session.
//! * `look`: what the collector asks about services of other nodes.
//! * [`session`]: one connection, from hello to its end.
//! * [`choice`]: which collector is next.
//! * [`shipper`]: sessions for ever, with pauses in between.

pub mod acknowledged;
pub mod choice;
pub mod connect;
pub mod credentials;
mod greet;
mod look;
mod memory;
pub mod session;
pub mod shipper;

pub use credentials::{Credentials, CredentialsError};
pub use shipper::{Greeting, Shipper};
