//! The audit chain: what was decided and done, so that nothing of it can be changed unseen.
//!
//! * [`entry`]: one step, with the digest of the one before and a signature.
//! * [`head`]: the signed last step; what is missing at the end shows by it.
//! * [`verify`]: finds what was changed, removed, moved or put in.
//! * [`book`]: the chain as files, appended to and synced.
//!
//! Whoever holds the signing key can write another history, and whoever kept files *and* head of an earlier day can put
//! both back; against the second, note a head elsewhere now and then and give it to [`verify::Verifier::expect`].

#![forbid(unsafe_code)]

pub mod entry;

pub mod head;

pub mod verify;

pub mod book;

pub use book::{Book, BookError};
pub use entry::{Entry, Record};
pub use head::Head;
pub use verify::{Fault, Report, Verifier};

/// Lower-case hex digits of `bytes`.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The inverse; `None` for anything but lower-case hex digits of `N` bytes.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
