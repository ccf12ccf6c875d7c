//! What travels between skep's programs, and the tables it ends up in.
//!
//! * [`tables`]: every table's columns, once; schema, documentation and `skep tables` come from it.
//! * [`views`]: views over them and functions of our own, likewise.
//! * [`reference`]: the page about them.
//! * [`canary`]: what a canary is called with and how it ends.
//! * [`chunk`]: rows to columns and back, checked.
//! * [`order`]: what a command asks for, in words.
//! * [`envelope`]: seal and open a batch.
//! * `unfolded`: what a batch takes in memory.
//! * `frame` (feature `socket`): messages between agent and executor.
//! * `cri` (feature `cri`): what the container runtime is asked, generated likewise.
//! * [`v1`]: the generated messages. `cargo xtask generate` writes them from `proto/`.
//!
//! Compatibility: fields are only added within `v1`, and a reader ignores what it does not know. A column missing from a
//! chunk reads as null (or as the kind's zero where the table says it is never null); an unknown column is ignored and
//! counted; an unknown table is stored nowhere and counted.

#![forbid(unsafe_code)]

pub mod canary;

pub mod chunk;

pub mod order;

pub mod envelope;

#[cfg(feature = "socket")]
pub mod frame;

pub mod tables;

pub mod views;

pub mod reference;

mod packed;

mod unfolded;

/// Generated from `proto/skep/v1`.
#[expect(missing_docs, clippy::large_enum_variant, reason = "generated code")]
#[cfg_attr(
    feature = "grpc",
    expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::missing_errors_doc,
        clippy::too_many_lines,
        reason = "generated code"
    )
)]
pub mod v1 {
    include!("gen/skep.v1.rs");

    pub use crate::packed::{Histograms, Ints, Texts};
}

/// Messages of the container runtime's own interface, as far as skep speaks it.
#[cfg(feature = "cri")]
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::missing_errors_doc,
    clippy::too_many_lines,
    reason = "generated code"
)]
#[rustfmt::skip]
#[path = "gen/runtime.v1.rs"]
pub mod cri;

/// Revision of the messages; raised by one for each addition that a peer may want to know of.
pub const WIRE_REVISION: u32 = 2;

/// What an Ed25519 signature over a command covers, before the command's bytes.
pub const COMMAND_CONTEXT: &[u8] = b"skep.v1.Command\0";
