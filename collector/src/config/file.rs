//! The TOML file's keys.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use skep_runtime::settings::{self, Faults, Section};

use super::{Config, Flags};
use crate::history::Location;
use crate::tls::TlsFiles;

const MIB: i64 = 1 << 20;

/// Reads `text`, puts `flags` over it and checks the whole.
pub(super) fn merge(text: &str, flags: Flags) -> Result<Config, Faults> {
    let (mut top, noted) = settings::parse(text)?;
    let data = needed(&mut top, "data", flags.data);
    let listen = listen(&mut top, flags.listen);
    let mut section = top.section("tls");
    let tls = TlsFiles {
        ca: needed(&mut section, "ca", flags.ca),
        cert: needed(&mut section, "cert", flags.cert),
        key: needed(&mut section, "key", flags.key),
    };
    section.finish();
    let mut response = top.section("response");
    let command_key = needed(&mut response, "command_key", flags.command_key);
    let policy = flags.policy.or(response.text("policy").map(PathBuf::from));
    response.finish();
    let mut section = top.section("rules");
    let rules = flags.rules.or(section.text("dir").map(PathBuf::from));
    section.finish();
    let mut ingest = top.section("ingest");
    let window = ingest.integer("window", 1..=10_000).unwrap_or(32) as u32;
    let buffer_bytes = mebibytes(&mut ingest, "buffer_mib", 256);
    let pace_bytes_s = ingest.integer("pace_mib_s", 0..=1 << 20).unwrap_or(32) * MIB;
    ingest.finish();
    let mut flush = top.section("flush");
    let flush_interval = seconds(&mut flush, "interval_s", 60);
    let flush_rows = flush.integer("rows", 1..=1 << 24).unwrap_or(1_000_000) as usize;
    let flush_wal_bytes = flush.integer("wal_mib", 1..=1 << 20).unwrap_or(256) * MIB;
    flush.finish();
    let History { location, refresh, adopt_after } = history(&mut top, flags.history);
    let mut query = top.section("query");
    let query_bytes = mebibytes(&mut query, "memory_mib", 512);
    let query_each_bytes =
        query.integer("memory_each_mib", 16..=1 << 20).map_or(query_bytes / 2, |mib| (mib * MIB) as usize);
    let query_at_once = query.integer("at_once", 1..=1000).unwrap_or(8) as usize;
    let query_timeout = seconds(&mut query, "timeout_s", 60);
    query.finish();
    let maintain = super::maintain::read(&mut top, adopt_after);
    let kubernetes = skep_kubernetes::Settings::read(top.section("kubernetes"));
    let mut section = top.section("incidents");
    let incident_quiet = seconds(&mut section, "quiet_s", 900);
    section.finish();
    let mut section = top.section("alerts");
    let alerts = skep_alerts::settings::read(&mut section, crate::alert::DEFAULT_RULES);
    section.finish();
    top.finish();
    noted.into_result()?;
    Ok(Config {
        data,
        listen,
        tls,
        command_key,
        policy,
        rules,
        window,
        buffer_bytes,
        pace_bytes_s: pace_bytes_s.unsigned_abs(),
        flush_interval,
        flush_rows,
        flush_wal_bytes: flush_wal_bytes.unsigned_abs(),
        query_bytes,
        query_each_bytes,
        query_at_once,
        query_timeout,
        history: location,
        history_refresh: refresh,
        maintain,
        kubernetes,
        alerts,
        incident_quiet,
    })
}

fn needed(section: &mut Section, key: &str, flag: Option<PathBuf>) -> PathBuf {
    let in_file = section.text(key).map(PathBuf::from);
    flag.or(in_file).unwrap_or_else(|| {
        section.note(key, format_args!("needed; give it here or as --{}", key.replace('_', "-")));
        PathBuf::new()
    })
}

fn listen(top: &mut Section, flag: Option<SocketAddr>) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], 7443));
    let in_file = top.text("listen").and_then(|text| {
        let parsed = text.parse().ok();
        if parsed.is_none() {
            top.note("listen", format_args!("{text:?} is not an address and a port"));
        }
        parsed
    });
    flag.or(in_file).unwrap_or(default)
}

/// The section `[history]`.
struct History {
    location: Option<Location>,
    refresh: Duration,
    adopt_after: Option<Duration>,
}

fn history(top: &mut Section, flag: Option<String>) -> History {
    let mut section = top.section("history");
    let in_file = section.text("location");
    let location = flag.or(in_file).and_then(|text| match text.parse() {
        Ok(location) => Some(location),
        Err(error) => {
            section.note("location", format_args!("{error}"));
            None
        }
    });
    let refresh = seconds(&mut section, "refresh_s", 5);
    let adopt_h = section.integer("adopt_h", 0..=876_000).map_or(24, i64::unsigned_abs);
    section.finish();
    History { location, refresh, adopt_after: (adopt_h > 0).then(|| Duration::from_secs(adopt_h * 3600)) }
}

fn seconds(section: &mut Section, key: &str, default: u64) -> Duration {
    let found = section.integer(key, 1..=86_400);
    Duration::from_secs(found.map_or(default, i64::unsigned_abs))
}

fn mebibytes(section: &mut Section, key: &str, default: i64) -> usize {
    (section.integer(key, 16..=1 << 20).unwrap_or(default) * MIB) as usize
}
