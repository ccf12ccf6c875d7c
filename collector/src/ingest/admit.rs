//! A batch is opened and has room for its rows, or waits as it came: open, it takes ten times the memory and more.

use std::sync::Arc;

use skep_wire::v1;

use super::arrival::{self, Checked, Refused};
use super::opener;
use super::session::Shared;
use crate::buffer::room::Room;

/// Batches that are this large once they are decompressed are taken in one at a time.
pub(super) const LARGE_BYTES: u32 = 1 << 20;

/// Why sessions end with the collector.
pub(super) const STOPPING: &str = "the collector is stopping";

/// A batch that may be stored now.
pub(super) struct Admitted {
    pub(super) checked: Checked,
    pub(super) room: Room,
}

/// Opens and checks a batch of this node, and waits for room for it; the batch, and what became of it.
///
/// How much it takes is known once it was open. Where so much is not there, what was made is let go, and made again when
/// it is.
///
/// # Errors
/// Why the session has to end.
pub(super) async fn admit(
    shared: &Arc<Shared>,
    node: &str,
    envelope: v1::Envelope,
    now_us: i64,
) -> Result<(v1::Envelope, Result<Admitted, Refused>), &'static str> {
    let (envelope, checked) = match open(shared, envelope, now_us).await? {
        (envelope, Ok(checked)) => (envelope, checked),
        (envelope, Err(refused)) => return Ok((envelope, Err(refused))),
    };
    let bytes = checked.row_bytes();
    if let Some(room) = shared.store.room_now(node, bytes) {
        return Ok((envelope, Ok(Admitted { checked, room })));
    }
    drop(checked);
    let room = shared.store.room(Some(node), bytes).await.ok_or(STOPPING)?;
    let (envelope, checked) = open(shared, envelope, now_us).await?;
    Ok((envelope, checked.map(|checked| Admitted { checked, room })))
}

/// A large one beside the threads that serve the others.
async fn open(shared: &Shared, envelope: v1::Envelope, now_us: i64) -> Result<opener::Opened, &'static str> {
    if envelope.payload_bytes < LARGE_BYTES {
        let checked = arrival::check(&envelope, now_us);
        return Ok((envelope, checked));
    }
    shared.opener.open(envelope, now_us).await.ok_or("the batch could not be looked at")
}
