//! Batches from agents: checked, numbered, handed to the WAL, acknowledged.
//!
//! * [`peer`]: who is at the other end, by its certificate.
//! * [`arrival`]: an envelope opened, checked and turned into rows.
//! * [`pace`]: how fast the batches of each agent are taken.
//! * [`opener`]: the thread that opens large ones.
//! * [`hole`]: numbers that are missing, and who speaks for them.
//! * [`substitute`]: what is stored in place of a batch that cannot be.
//! * [`quarantine`]: what cannot be stored is kept.
//! * `asked`: what an agent was asked to look at.
//! * [`session`]: one agent's stream.
//! * [`uplink`]: the gRPC service.
//! * [`registry`]: which nodes there are, and the way down to them.
//! * [`publish`]: durable batches to whoever listens.
//! * [`durable`]: what they get.

pub mod peer;

pub mod arrival;

pub mod pace;

pub mod opener;

pub mod hole;

pub mod substitute;

pub mod quarantine;

mod asked;

pub mod session;

pub mod uplink;

pub mod registry;

pub mod publish;

pub mod durable;

pub use durable::Durable;
