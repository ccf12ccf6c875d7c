//! Batches from agents: checked, numbered, handed to the WAL, acknowledged.
//!
//! * [`peer`]: who is at the other end, by its certificate.
//! * [`gate`]: large messages, let in as there is room for them.
//! * [`inbox`]: what an agent sends, message by message.
//! * [`arrival`]: an envelope opened, checked and turned into rows.
//! * [`pace`]: how fast the batches of each agent are taken.
//! * `turn`: a node's batches that wait for their turn.
//! * `admit`: batches are opened as there is room for their rows.
//! * [`opener`]: the thread that opens large ones.
//! * `fresh`: how often a node may begin a new stream.
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

pub mod gate;

pub mod inbox;

pub mod arrival;

pub mod pace;

mod turn;

mod admit;

pub mod opener;

mod fresh;

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
