//! Fourth stage: batches go to the collector, in order, until it says they are durable.
//!
//! * [`credentials`]: this node's certificate and its name.
//! * [`connect`]: mutual TLS to the collector, and what to say when it does not work.
//! * [`session`]: one connection, from hello to its end.
//! * [`shipper`]: sessions for ever, with pauses in between.

pub mod connect;
pub mod credentials;
pub mod session;
pub mod shipper;

pub use credentials::{Credentials, CredentialsError};
pub use shipper::{Greeting, Shipper};
