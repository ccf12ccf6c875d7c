//! A batch that is durable.

use skep_wire::envelope::Origin;
use skep_wire::v1;

/// A batch that is in the WAL and synced.
#[derive(Debug, Clone, PartialEq)]
pub struct Durable {
    /// Whose and which.
    pub origin: Origin,
    /// Its content; every chunk of a known table passed its check, others are not in it.
    pub batch: v1::Batch,
    /// Wall clock when it came, microseconds since the epoch.
    pub received_us: i64,
}
