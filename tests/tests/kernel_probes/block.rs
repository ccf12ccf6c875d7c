//! Requests to block devices.

use std::{
    fs,
    process::{Command, Stdio},
};

use skep_agent::probe::{ProbeOptions, reading::BlockReading};
use skep_common::{aggregate::block, bucket};

use crate::support::Watch;

/// A file on a disk, large enough for the transfers.
fn file_on_disk() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let path = folder.path().join("transfers");
    let file = fs::File::create(&path).expect("created");
    std::io::Write::write_all(&mut &file, &vec![7; 1 << 20]).expect("written");
    file.sync_all().expect("on the disk");
    (folder, path)
}

/// A program that moves 4 KiB a hundred times past the page cache.
fn transfer(path: &std::path::Path, is_read: bool) -> Command {
    let mut command = Command::new("/bin/dd");
    command.args(["bs=4096", "count=100"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if is_read {
        command.arg(format!("if={}", path.display())).args(["of=/dev/null", "iflag=direct"]);
    } else {
        command.arg(format!("of={}", path.display())).args(["if=/dev/zero", "oflag=direct", "conv=notrunc"]);
    }
    command
}

/// Every request is counted, with its size. It is the program's own unless the device was busy: then whoever hands it over
/// has it.
#[test]
fn direct_transfers_are_counted() {
    let (_folder, path) = file_on_disk();
    // The program itself is in the page cache from here on.
    assert!(transfer(&path, true).status().expect("dd runs").success());
    let mut watch = Watch::start(&ProbeOptions::default());
    for (is_read, operation) in [(true, block::NAMES[0]), (false, block::NAMES[1])] {
        let mut child = transfer(&path, is_read).spawn().expect("dd starts");
        let pid = child.id();
        watch.until_ended(&mut child);
        let page =
            |row: &BlockReading| row.size.buckets.iter().find(|(at, _)| *at == bucket::index(4_096)).map_or(0, |b| b.1);
        let rows: Vec<_> = watch.blocks(pid, operation).collect();
        let own: u64 = rows.iter().map(|row| row.count).sum();
        let all: u64 = watch
            .readings
            .iter()
            .flat_map(|reading| &reading.blocks)
            .filter(|row| row.operation == operation)
            .map(page)
            .sum();
        assert!((90..=100).contains(&own) && all >= 100, "{operation}: {own} own of {all}");
        assert_eq!(rows.iter().map(|row| row.size.sum_bytes).sum::<u64>(), own * 4_096);
        assert_eq!(rows.iter().map(|row| row.latency.count()).sum::<u64>(), own);
        for row in rows {
            assert_eq!((row.errors, row.size.buckets.as_slice()), (0, &[(bucket::index(4_096), row.count)][..]));
            assert!(row.latency.min_ns > 1_000 && row.latency.max_ns < 60_000_000_000, "{:?}", row.latency);
            let disk = format!("/sys/dev/block/{}:{}/queue", row.major, row.minor);
            assert!(fs::metadata(&disk).is_ok(), "{disk} is no disk");
        }
    }
    watch.assert_balanced();
}

/// A map with room for few requests: what does not fit is counted.
#[test]
fn requests_without_room_are_accounted() {
    let (_folder, path) = file_on_disk();
    let mut watch = Watch::start(&ProbeOptions { block_entries: 1, ..ProbeOptions::default() });
    let mut child = transfer(&path, true).spawn().expect("dd starts");
    watch.until_ended(&mut child);
    watch.assert_balanced();
    let (attempted, delivered) = watch.account("block");
    assert!(attempted >= 100 && delivered < attempted, "{attempted} {delivered}");
}
