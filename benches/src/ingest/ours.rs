//! The collector: mutual TLS, every batch synced before it is acknowledged, sorted Parquet at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use skep_wire::envelope::{self, Origin};
use skep_wire::v1;

use super::NODE;
use super::subjects::Figures;
use crate::ground::{self, Ground};
use crate::measured::bytes_below;
use crate::quantiles;
use crate::rows::{Windows, cpu};
use crate::uplink::{self, Uplink};

/// How long the last flush may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Feeds all windows to a new collector.
pub(super) fn measure(windows: Windows) -> Result<Figures> {
    let ground = Ground::new()?;
    // Made beforehand, so that the generator does not compete with the collector for the machine.
    let Sealed { envelopes, rows, samples } = seal(windows)?;
    let papers = ground.authority.issue(NODE, "agent")?;
    let collector = ground.serve()?;
    let start = Instant::now();
    let mut taken = Vec::with_capacity(envelopes.len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = uplink::channel(&collector.address, &ground.authority.certificate, &papers).await?;
        let mut uplink = Uplink::open(channel, NODE, &uplink::stream(NODE)).await?;
        for envelope in envelopes {
            uplink.send(envelope, &mut taken).await?;
        }
        uplink.settle(&mut taken).await
    })?;
    let acknowledged = start.elapsed();
    drop(runtime);
    let peak_bytes = collector.process.peak_bytes()?;
    let cpu = collector.process.stop(PATIENCE)?.cpu - collector.start_cpu;
    let table = ground.table("cpu");
    let stored = ground::live_rows(&table)?;
    ensure!(stored == rows, "{rows} rows were acknowledged and {stored} are stored: {}", ground.log());
    let disk_bytes = bytes_below(&table)?;
    let extra = json!({
        "ack": quantiles::of(taken),
        "acknowledged_rows_per_s": (rows as f64 / acknowledged.as_secs_f64()).round(),
        "delta_log_bytes": bytes_below(&table.join("_delta_log"))?,
    });
    Ok(Figures { rows, samples, cpu, wall: start.elapsed(), disk_bytes, peak_bytes, extra })
}

struct Sealed {
    envelopes: Vec<v1::Envelope>,
    rows: u64,
    samples: u64,
}

fn seal(windows: Windows) -> Result<Sealed> {
    let mut sealed = Sealed { envelopes: Vec::new(), rows: 0, samples: 0 };
    let window_s = windows.window_s;
    for (index, (time_us, rows)) in windows.enumerate() {
        sealed.rows += rows.len() as u64;
        sealed.samples += rows.iter().map(cpu::Row::samples).sum::<u64>();
        let chunk = cpu::chunk(&rows, time_us, window_s)?;
        let deliveries = vec![v1::Delivery { probe: "cpu".to_owned(), delivered: rows.len() as u64 }];
        let batch = v1::Batch { sealed_us: time_us, chunks: vec![chunk], deliveries };
        let origin = Origin {
            node: NODE.to_owned(),
            boot: uplink::boot(NODE),
            stream: uplink::stream(NODE),
            seq: index as u64 + 1,
        };
        sealed.envelopes.push(envelope::seal(origin, &batch)?);
    }
    Ok(sealed)
}
