//! Rows of `block_io`.

use std::collections::HashMap;
use std::path::Path;

use skep_wire::chunk::{Builder, ChunkError};

use super::rows::{Who, ends, signed, window};
use super::window::Span;
use crate::probe::reading::BlockReading;

/// Names of devices, each looked up once.
#[derive(Debug, Default)]
pub struct Devices {
    names: HashMap<(u32, u32), String>,
}

impl Devices {
    /// The name of a disk; its numbers where it has none any more.
    ///
    /// Cost: one system call for a disk not met before.
    pub fn name(&mut self, major: u32, minor: u32) -> &str {
        self.names.entry((major, minor)).or_insert_with(|| {
            let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok();
            let name = link.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            name.unwrap_or_else(|| format!("{major}:{minor}"))
        })
    }
}

/// A row of `block_io`.
///
/// # Errors
/// [`ChunkError`]: too many rows.
pub fn row(
    row: &mut Builder,
    span: Span,
    who: &Who<'_>,
    device: &str,
    seen: &BlockReading,
    coverage: f64,
) -> Result<(), ChunkError> {
    window(row, span);
    who.write(row);
    let size = (!seen.size.buckets.is_empty()).then_some(&seen.size);
    row.text("device", device)
        .text("device_number", &format!("{}:{}", seen.major, seen.minor))
        .text("operation", seen.operation)
        .count("count", seen.count)
        .count("errors", seen.errors)
        .count("bytes", seen.size.sum_bytes)
        .count("latency_sum_ns", seen.latency.sum_ns)
        .maybe_int("latency_min_ns", ends(&seen.latency).map(|(min, _)| min))
        .maybe_int("latency_max_ns", ends(&seen.latency).map(|(_, max)| max))
        .histogram("latency", seen.latency.buckets.iter().copied())
        .maybe_int("size_min_bytes", size.map(|size| signed(size.min_bytes)))
        .maybe_int("size_max_bytes", size.map(|size| signed(size.max_bytes)))
        .histogram("size", seen.size.buckets.iter().copied())
        .float("coverage", coverage)
        .end_row()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_gone_is_called_by_its_numbers() {
        let mut devices = Devices::default();
        assert_eq!(devices.name(4_000, 7), "4000:7");
        assert_eq!(devices.names.len(), 1);
    }
}
