//! What is acknowledged is stored once and is found, in memory and in Parquet, with the collector and without it.

mod support;

use std::time::Duration;

use skep_wire::envelope;
use skep_wire::tables::TABLES;
use skep_wire::v1::{self, down, up};
use support::agent::{ROWS, Uplink, begins_with, noise, origin, sealed, told};
use support::{Collector, Ground, eventually};

const STREAM: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn rows_are_found_in_memory_in_files_and_offline() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    assert_eq!(uplink.durable_seq, 0);
    assert_eq!(uplink.deliver(1, 30).await.unwrap(), 30);
    let count = "SELECT count(*) FROM cpu";
    assert_eq!(collector.number(count).await, 30 * ROWS);
    let flushed = collector.flush().await;
    assert!(flushed.rows as i64 >= 30 * (ROWS + 2), "{flushed:?}");
    assert_eq!(collector.number(count).await, 30 * ROWS);
    uplink.deliver(31, 40).await.unwrap();
    assert_eq!(collector.number(count).await, 40 * ROWS);
    let sum = (1..=40).sum::<i64>() * ROWS;
    assert_eq!(collector.number("SELECT sum(on_cpu_ns) FROM cpu WHERE node = 'a' AND seq <= 40").await, sum);
    assert_eq!(collector.number("SELECT count(*) FROM cpu WHERE time >= '2026-11-22T00:00:00Z'").await, 31 * ROWS);
    assert_eq!(collector.number("SELECT hist_quantile(run_queue_delay, 0.5) FROM cpu").await, 20);
    assert_eq!(collector.number("SELECT count(*) FROM processes WHERE array_length(argv) = 2").await, 40);

    let offline = ground.offline(count);
    let said = String::from_utf8_lossy(&offline.stderr).into_owned();
    assert!(!offline.status.success() && said.contains("connect to it at https://"), "{said}");
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    assert!(!ground.data().join("endpoint.json").exists());
    let segments = ground.files("wal", "seg");
    assert_eq!(segments.len(), 1, "a clean stop leaves flushed segments: {segments:?}");
    assert_eq!(ground.offline_number(count), 40 * ROWS);
    assert_eq!(ground.offline_number("SELECT sum(on_cpu_ns) FROM cpu"), sum);
    let files = ground.files("history/cpu", "parquet");
    let folders: Vec<_> = files.iter().map(|f| f.parent().unwrap().display().to_string()).collect();
    assert!(folders.iter().any(|f| f.ends_with("date=2026-11-21/hour=23")), "{folders:?}");
    assert!(folders.iter().any(|f| f.ends_with("date=2026-11-22/hour=00")), "{folders:?}");
}

#[tokio::test]
async fn a_batch_sent_twice_is_acknowledged_twice_and_stored_once() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 5).await.unwrap();
    assert_eq!(uplink.deliver(3, 5).await.unwrap(), 5);
    drop(uplink);
    let mut again = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    assert_eq!(again.durable_seq, 5);
    again.deliver(1, 6).await.unwrap();
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 6 * ROWS);
    let nodes = collector.console().await.nodes(v1::NodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!((nodes[0].node.as_str(), nodes[0].batches, nodes[0].repeats), ("a", 6, 8));
    assert!(nodes[0].connected);
}

#[tokio::test]
async fn who_sends_more_than_its_part_waits_and_loses_nothing_and_others_do_not_wait() {
    let ground = Ground::new();
    let collector = ground.serve("[ingest]\npace_mib_s = 1\n");
    let open = |node| Uplink::open(&ground, &collector.grpc, node, STREAM);
    let (mut greedy, mut modest) = (open("a").await.unwrap(), open("b").await.unwrap());
    let part = std::thread::available_parallelism().unwrap().get() * 500_000;
    for seq in 1..=16 {
        let envelope = v1::Envelope { seq, ..told("a", STREAM, &"x".repeat(part)) };
        greedy.say(up::Message::Batch(envelope)).await;
    }
    assert_eq!(modest.deliver(1, 10).await.unwrap(), 10);
    let stored = "SELECT count(*) FROM loss WHERE node = 'a'";
    assert!(collector.number(stored).await < 16, "a part of ten seconds is saved, and of sixteen is sent");
    while greedy.next().await.unwrap() != Some(ack(16)) {}
    assert_eq!(collector.number(stored).await, 16);
    assert!(collector.held_us().await > 1_000_000);
}

#[tokio::test]
async fn a_large_batch_that_has_to_wait_is_sent_again_when_it_is_its_turn() {
    let ground = Ground::new();
    let collector = ground.serve("[ingest]\npace_mib_s = 1\n");
    let part = std::thread::available_parallelism().unwrap().get() * 1_000_000;
    let envelope = told("a", STREAM, &noise(13 * part));
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.say(up::Message::Batch(envelope.clone())).await;
    let Some(down::Message::Reset(reset)) = uplink.next().await.unwrap() else { panic!("taken at once") };
    assert!(reset.reason.contains("more than its part"), "{}", reset.reason);
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.say(up::Message::Batch(envelope)).await;
    assert_eq!(uplink.next().await.unwrap(), Some(ack(1)), "it was greeted when the batch was paid for");
    assert!(collector.held_us().await > 1_000_000);
}

#[tokio::test]
async fn large_messages_of_many_come_in_one_after_the_other() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let before = collector.peak_bytes();
    // Refused as soon as it is here.
    let large = up::Message::Batch(told("another node", STREAM, &noise(32 << 20)));
    let mut uplinks = Vec::new();
    for node in (0..12).map(|node| format!("node-{node}")) {
        ground.certify(&node, &node, "agent");
        uplinks.push(Uplink::open(&ground, &collector.grpc, &node, STREAM).await.unwrap());
    }
    let sent = uplinks.iter_mut().map(async |uplink| {
        uplink.say(large.clone()).await;
        uplink.next().await.unwrap_err()
    });
    for status in futures::future::join_all(sent).await {
        assert!(status.message().starts_with("a batch of node another node came from"), "{status}");
    }
    let taken = collector.peak_bytes() - before;
    assert!(taken < 200 << 20, "{} MiB for twelve messages of 24 MiB", taken >> 20);

    let status = begins_with(&ground, &collector.grpc, "a", large).await;
    assert!(status.message().starts_with("the first message must be a hello; this one has"), "{status}");
}

#[tokio::test]
async fn an_agent_has_so_many_connections_and_its_hello_is_short() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut kept = Vec::new();
    for _ in 0..16 {
        kept.push(ground.channel(&collector.grpc, "a").await.unwrap());
    }
    assert!(Uplink::open(&ground, &collector.grpc, "a", STREAM).await.is_err(), "a seventeenth connection");
    let mut other = Uplink::open(&ground, &collector.grpc, "b", STREAM).await.unwrap();
    assert_eq!(other.deliver(1, 1).await.unwrap(), 1);
    drop(kept);
    let mut uplink = None;
    while uplink.is_none() {
        uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.ok();
    }
    assert_eq!(uplink.unwrap().deliver(1, 1).await.unwrap(), 1, "as soon as the others are closed");

    let hello = v1::Hello { probes: vec!["p".to_owned(); 2_000], ..Uplink::hello("c", STREAM) };
    let status = begins_with(&ground, &collector.grpc, "c", up::Message::Hello(hello)).await;
    assert_eq!(status.message(), "the hello names 2000 probes, 1000 are allowed");
    let long = up::Message::Hello(Uplink::hello("c", &"f".repeat(65)));
    let status = begins_with(&ground, &collector.grpc, "c", long).await;
    assert_eq!(status.message(), "the hello's stream has 65 bytes; 1 to 64 are allowed");
    let boot = "b".repeat(70_000);
    let large = up::Message::Hello(v1::Hello { boot, ..Uplink::hello("c", STREAM) });
    let status = begins_with(&ground, &collector.grpc, "c", large).await;
    assert!(status.message().ends_with("bytes, 65536 are allowed"), "{status}");
}

#[tokio::test]
async fn a_node_that_begins_streams_without_end_waits_for_the_next() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let stream = |n: u64| format!("{n:032x}");
    for n in 0..64 {
        let mut uplink = Uplink::open(&ground, &collector.grpc, "a", &stream(n)).await.unwrap();
        assert_eq!(uplink.deliver(1, 1).await.unwrap(), 1);
    }
    let Err(status) = Uplink::open(&ground, &collector.grpc, "a", &stream(64)).await else { panic!("a 65th") };
    assert_eq!(status.message(), "the node begins new streams too often: later");
    let mut known = Uplink::open(&ground, &collector.grpc, "a", &stream(0)).await.unwrap();
    assert_eq!(known.deliver(2, 2).await.unwrap(), 2, "what is known goes on");
}

fn ack(durable_seq: u64) -> down::Message {
    down::Message::Ack(v1::Ack { stream: STREAM.to_owned(), durable_seq })
}

#[tokio::test]
async fn a_batch_out_of_turn_is_refused_unless_a_gap_was_declared() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 2).await.unwrap();
    uplink.send(5).await;
    let Some(down::Message::Reset(reset)) = uplink.next().await.unwrap() else { panic!("not a reset") };
    assert!(reset.reason.contains("3 is due"), "{}", reset.reason);

    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    let gap = v1::Gap { stream: STREAM.to_owned(), from_seq: 3, to_seq: 4, reason: "full".to_owned() };
    uplink.say(up::Message::Gap(gap)).await;
    assert_eq!(uplink.deliver(5, 6).await.unwrap(), 6);
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 4 * ROWS);
}

#[tokio::test]
async fn an_agent_that_no_longer_has_what_the_collector_lost_is_not_kept_out() {
    let ground = Ground::new();
    let collector = ground.serve("");
    for attempt in 0..2 {
        let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
        uplink.send(8).await;
        match uplink.next().await.unwrap() {
            Some(down::Message::Reset(_)) => assert_eq!(attempt, 0),
            Some(down::Message::Ack(ack)) => assert_eq!((attempt, ack.durable_seq), (1, 8)),
            other => panic!("{other:?}"),
        }
    }
    let told = "SELECT count(*) FROM loss WHERE reason = 'collector_lost' AND detail LIKE '%1 to 7%' AND node = 'a'";
    assert_eq!(collector.number(told).await, 1);
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, ROWS);
}

#[tokio::test]
async fn what_a_wiped_collector_had_acknowledged_is_told_although_the_agent_declares_a_gap() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let hello = v1::Hello { acknowledged_seq: 5, ..Uplink::hello("a", STREAM) };
    for attempt in 0..2 {
        let mut uplink = Uplink::open_with(&ground, &collector.grpc, "a", hello.clone()).await.unwrap();
        assert_eq!(uplink.durable_seq, if attempt == 0 { 0 } else { 9 });
        let gap = v1::Gap { stream: STREAM.to_owned(), from_seq: 1, to_seq: 7, reason: "full".to_owned() };
        uplink.say(up::Message::Gap(gap)).await;
        assert_eq!(uplink.deliver(8, 9).await.unwrap(), 9);
    }
    let told = "SELECT count(*) FROM loss WHERE reason = 'collector_lost'";
    assert_eq!(collector.number(told).await, 1);
    assert_eq!(collector.number(&format!("{told} AND detail LIKE '%1 to 5%' AND node = 'a' AND seq = 5")).await, 1);

    let hello = v1::Hello { acknowledged_seq: 3, ..Uplink::hello("b", STREAM) };
    let mut uplink = Uplink::open_with(&ground, &collector.grpc, "b", hello).await.unwrap();
    assert_eq!(uplink.deliver(4, 5).await.unwrap(), 5, "all that is missing was acknowledged: no gap is needed");
    assert_eq!(collector.number(&format!("{told} AND detail LIKE '%1 to 3%' AND node = 'b'")).await, 1);
}

#[tokio::test]
async fn what_another_collector_acknowledged_is_neither_hole_nor_loss() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let hello = |here: u64, elsewhere: &[(u64, u64)]| {
        let elsewhere = elsewhere.iter().map(|&(from_seq, to_seq)| v1::SeqRange { from_seq, to_seq }).collect();
        v1::Hello { acknowledged_seq: here, elsewhere, ..Uplink::hello("a", STREAM) }
    };
    let lost = "SELECT count(*) FROM loss WHERE reason = 'collector_lost'";
    // 1 to 56 are elsewhere; then 60 to 89, of which this one has 58 and 59 without the agent having heard of it.
    for (here, elsewhere, durable, from, to) in
        [(0, &[(1, 56)][..], 0, 57, 59), (57, &[(1, 56), (58, 89)], 59, 90, 92), (92, &[(1, 56), (58, 89)], 92, 93, 93)]
    {
        let mut uplink = Uplink::open_with(&ground, &collector.grpc, "a", hello(here, elsewhere)).await.unwrap();
        assert_eq!(uplink.durable_seq, durable);
        assert_eq!(uplink.deliver(from, to).await.unwrap(), to);
    }
    assert_eq!(collector.number(lost).await, 0);
    assert_eq!(collector.number("SELECT count(*) FROM cpu WHERE node = 'a'").await, 7 * ROWS);

    // The same to a collector that lost its disk: what it had is gone, what others have is not.
    let hello = v1::Hello { stream: "f".repeat(32), node: "b".to_owned(), ..hello(92, &[(1, 56), (58, 89)]) };
    for attempt in 0..2 {
        let mut uplink = Uplink::open_with(&ground, &collector.grpc, "b", hello.clone()).await.unwrap();
        assert_eq!(uplink.durable_seq, if attempt == 0 { 0 } else { 94 });
        uplink.deliver(93, 94).await.unwrap();
    }
    assert_eq!(collector.number(lost).await, 2);
    for range in ["57 to 57", "90 to 92"] {
        assert_eq!(collector.number(&format!("{lost} AND detail LIKE '%batches {range} of%' AND seq = 92")).await, 1);
    }

    let senseless =
        v1::Hello { elsewhere: vec![v1::SeqRange { from_seq: 9, to_seq: 8 }], ..Uplink::hello("c", STREAM) };
    let refused = Uplink::open_with(&ground, &collector.grpc, "c", senseless).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
}

#[tokio::test]
async fn a_gap_that_ends_before_the_batch_before_is_no_leave_to_skip() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 2).await.unwrap();
    let gap = v1::Gap { stream: STREAM.to_owned(), from_seq: 3, to_seq: 4, reason: "full".to_owned() };
    uplink.say(up::Message::Gap(gap)).await;
    uplink.send(6).await;
    let Some(down::Message::Reset(reset)) = uplink.next().await.unwrap() else { panic!("not a reset") };
    assert!(reset.reason.contains("3 is due"), "{}", reset.reason);
}

#[tokio::test]
async fn a_batch_that_cannot_be_stored_is_kept_aside_and_the_ledger_says_so() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 1).await.unwrap();
    let mut bad = sealed("a", STREAM, 2);
    bad.payload.truncate(20);
    uplink.say(up::Message::Batch(bad)).await;
    uplink.deliver(3, 3).await.unwrap();
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 2 * ROWS);
    assert_eq!(collector.number("SELECT count(*) FROM loss WHERE reason = 'rejected' AND seq = 2").await, 1);
    assert_eq!(ground.files("quarantine", "envelope").len(), 1);
    assert!(ground.log().contains("a batch cannot be stored"), "{}", ground.log());
}

#[tokio::test]
async fn what_would_unfold_to_far_more_than_it_is_is_not_unfolded() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    let before = collector.peak_bytes();
    let rows = TABLES.iter().map(|t| v1::Chunk { table: t.name.to_owned(), rows: 1 << 20, columns: Vec::new() });
    let columns = v1::Chunk { columns: vec![v1::ColumnData::default(); 1 << 20], ..v1::Chunk::default() };
    let bombs = [
        v1::Batch { chunks: rows.collect(), ..v1::Batch::default() },
        v1::Batch { chunks: vec![columns], ..v1::Batch::default() },
        v1::Batch { deliveries: vec![v1::Delivery::default(); 1 << 20], ..v1::Batch::default() },
    ];
    for (bomb, seq) in bombs.iter().zip(1..) {
        uplink.say(up::Message::Batch(envelope::seal(origin("a", STREAM, seq), bomb).unwrap())).await;
        assert_eq!(uplink.next().await.unwrap(), Some(ack(seq)));
    }
    let taken = collector.peak_bytes() - before;
    assert!(taken < 64 << 20, "{} MiB", taken >> 20);
    let told = "SELECT count(*) FROM loss WHERE reason = 'rejected' AND detail LIKE '%would take up to%'";
    assert_eq!(collector.number(told).await, 3);
    assert_eq!(uplink.deliver(4, 4).await.unwrap(), 4);
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.say(up::Message::Batch(sealed("b", STREAM, 1))).await;
    assert_eq!(uplink.next().await.unwrap_err().code(), tonic::Code::PermissionDenied);

    let refused = Uplink::open(&ground, &collector.grpc, "operator", STREAM).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");
    let own = Uplink::hello("collector", STREAM);
    let refused = Uplink::open_with(&ground, &collector.grpc, "pretender", own).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");
    assert!(refused.message().contains("the collector's own"), "{refused:?}");
    let channel = ground.channel(&collector.grpc, "a").await.unwrap();
    let mut console = v1::console_client::ConsoleClient::new(channel);
    let refused = console.nodes(v1::NodesRequest {}).await.unwrap_err();
    assert!(refused.message().contains("needs operator"), "{refused:?}");

    let strangers = Ground::new();
    let error = strangers.channel(&collector.grpc, "a").await.err();
    assert!(error.is_some(), "a certificate of another authority was taken");
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 0);
}

#[tokio::test]
async fn wrong_statements_get_one_clear_line() {
    let ground = Ground::new();
    let collector = ground.serve("");
    for (sql, code, says) in [
        ("SELEC 1", tonic::Code::InvalidArgument, "SELEC"),
        ("SELECT * FROM syscall", tonic::Code::NotFound, "did you mean syscalls?"),
        ("SELECT pidd FROM cpu", tonic::Code::InvalidArgument, "did you mean pid"),
        ("DROP TABLE cpu", tonic::Code::InvalidArgument, "only statements that read"),
        ("INSERT INTO cpu SELECT * FROM cpu", tonic::Code::InvalidArgument, "only statements that read"),
        ("COPY cpu TO '/tmp/x.csv'", tonic::Code::InvalidArgument, "only statements that read"),
        ("SET datafusion.execution.batch_size = 1", tonic::Code::InvalidArgument, "only statements that read"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", tonic::Code::InvalidArgument, "only"),
        ("EXPLAIN ANALYZE COPY cpu TO '/tmp/x.csv'", tonic::Code::InvalidArgument, "only"),
        ("SELECT 1; SELECT 2", tonic::Code::InvalidArgument, ""),
        ("SELECT nofunction(pid) FROM cpu", tonic::Code::InvalidArgument, "nofunction"),
    ] {
        let (_, ended) = collector.query(sql).await;
        let status = ended.unwrap_err();
        assert_eq!(status.code(), code, "{sql}: {status:?}");
        assert!(status.message().contains(says) && !status.message().contains('\n'), "{sql}: {}", status.message());
    }
    for sql in ["SHOW TABLES", "DESCRIBE cpu", "EXPLAIN SELECT * FROM cpu", "SHOW COLUMNS FROM loss"] {
        let (rows, ended) = collector.query(sql).await;
        assert!(ended.is_ok() && rows.iter().any(|batch| batch.num_rows() > 0), "{sql}: {ended:?}");
    }
}

#[tokio::test]
async fn a_deleted_file_is_named_counted_once_and_the_rest_is_answered() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 5).await.unwrap();
    collector.flush().await;
    uplink.deliver(6, 8).await.unwrap();
    collector.flush().await;
    let victim = ground.files("history/cpu", "parquet").remove(0);
    let gone = ground.offline(""); // The collector runs; nothing is read.
    assert!(!gone.status.success());
    let before = collector.number("SELECT count(*) FROM cpu").await;
    assert_eq!(before, 8 * ROWS);
    std::fs::remove_file(&victim).unwrap();
    for _ in 0..2 {
        let (rows, ended) = collector.query("SELECT count(*) FROM cpu").await;
        let status = ended.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DataLoss);
        let name = victim.file_name().unwrap().to_str().unwrap();
        assert!(status.message().contains(name), "{}", status.message());
        assert!(support::number(&rows) < before);
    }
    let told = "SELECT count(*) FROM loss WHERE probe = 'history' AND reason = 'file_missing'";
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while collector.number(told).await == 0 {
        assert!(std::time::Instant::now() < deadline);
    }
    assert_eq!(collector.number(told).await, 1);
    assert_eq!(collector.number("SELECT count(*) FROM loss WHERE attempted <> delivered + lost").await, 0);
    assert_eq!(collector.stop(), Some(0));
    let offline = ground.offline("SELECT count(*) FROM cpu");
    assert_eq!(offline.status.code(), Some(1));
    let said = String::from_utf8(offline.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(support::number(&support::batches(&offline.stdout)) < before);
}

#[tokio::test]
async fn a_damaged_file_is_named_and_the_rest_is_answered() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 5).await.unwrap();
    collector.flush().await;
    uplink.deliver(6, 8).await.unwrap();
    collector.flush().await;
    let victim = ground.files("history/cpu", "parquet").remove(0);
    let mut bytes = std::fs::read(&victim).unwrap();
    for at in [200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000] {
        bytes[at..at + 60].fill(0xa5);
    }
    std::fs::write(&victim, bytes).unwrap();
    let (rows, ended) =
        collector.query("SELECT sum(on_cpu_ns), min(comm), min(start_ns), min(workload) FROM cpu").await;
    let status = ended.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DataLoss, "{status:?}");
    assert!(status.message().contains(victim.file_name().unwrap().to_str().unwrap()), "{}", status.message());
    assert_eq!(support::number(&rows), (6..=8).sum::<i64>() * ROWS);
    std::fs::write(&victim, b"short").unwrap();
    let (rows, ended) = collector.query("SELECT sum(on_cpu_ns) FROM cpu").await;
    assert!(ended.unwrap_err().message().contains("5 bytes"));
    assert_eq!(support::number(&rows), (6..=8).sum::<i64>() * ROWS);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended() {
    let ground = Ground::new();
    let collector = ground.serve("[query]\ntimeout_s = 1\n");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 60).await.unwrap();
    let (_, ended) = collector.query("SELECT sum(a.pid * b.pid * c.pid) FROM cpu a, cpu b, cpu c").await;
    let status = ended.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status:?}");
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 60 * ROWS);
}

/// Waits until the process does next to nothing for half a second.
async fn rests(collector: &Collector<'_>) -> bool {
    for _ in 0..20 {
        let before = collector.cpu_time();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if collector.cpu_time() - before < Duration::from_millis(100) {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_statement_whose_asker_went_away_ends() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 60).await.unwrap();
    let all = "cpu AS a, cpu AS b, cpu AS c, cpu AS d";
    for sql in [
        // Nothing comes back for hours, or everything at once and more than anybody takes.
        format!("SELECT sum(a.pid * b.pid * c.pid * d.pid) FROM {all}"),
        format!("SELECT count(*) FROM (SELECT a.pid + b.pid + c.pid + d.pid AS m FROM {all}) GROUP BY m"),
        format!("SELECT a.pid, b.pid, c.pid, d.pid FROM {all}"),
    ] {
        assert!(rests(&collector).await, "before {sql}");
        let mut console = collector.console().await;
        let request = v1::QueryRequest { sql: sql.clone(), timeout_s: 0 };
        let before = collector.cpu_time();
        let asking = tokio::spawn(async move {
            let mut replies = console.query(request).await.unwrap().into_inner();
            while replies.message().await.unwrap().is_some() {}
        });
        while collector.cpu_time() - before < Duration::from_millis(500) {
            assert!(!asking.is_finished(), "{sql} ended by itself");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        asking.abort();
        assert!(rests(&collector).await, "{sql} went on without anybody to hear it");
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_gives_its_turn_up() {
    let ground = Ground::new();
    let collector = ground.serve("[query]\nat_once = 1\ntimeout_s = 2\n");
    let range = "(SELECT unnest(range(0, 100000)) AS v)";
    let request = v1::QueryRequest { sql: format!("SELECT a.v FROM {range} AS a, {range} AS b"), timeout_s: 0 };
    let mut unread = collector.console().await.query(request).await.unwrap().into_inner();
    // It waits for the other one's deadline, which comes before its own.
    let (rows, ended) = collector.query("SELECT 1").await;
    assert!(ended.is_ok() && rows[0].num_rows() == 1, "{ended:?}");
    let late = loop {
        match unread.message().await {
            Ok(Some(_)) => {}
            other => break other.map(|_| ()),
        }
    };
    assert_eq!(late.map_err(|status| status.code()), Err(tonic::Code::DeadlineExceeded));
}

#[tokio::test]
async fn a_wal_cut_short_is_trimmed_and_the_rest_is_there() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    for seq in 1..=5 {
        uplink.deliver(seq, seq).await.unwrap();
    }
    collector.kill();
    let wal = ground.files("wal", "seg").pop().unwrap();
    let length = wal.metadata().unwrap().len();
    std::fs::File::options().write(true).open(&wal).unwrap().set_len(length - 3).unwrap();
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), 4 * ROWS);
    assert_eq!(wal.metadata().unwrap().len(), length - 3, "reading changes nothing");
    let collector = ground.serve("");
    assert!(ground.log().contains("trimmed a torn end of the WAL"), "{}", ground.log());
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    assert_eq!(uplink.durable_seq, 4);
    uplink.deliver(5, 6).await.unwrap();
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 6 * ROWS);
}

#[tokio::test]
async fn a_damaged_wal_is_kept_aside_and_the_ledger_says_so() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    for seq in 1..=5 {
        uplink.deliver(seq, seq).await.unwrap();
    }
    collector.kill();
    let wal = ground.files("wal", "seg").pop().unwrap();
    let mut bytes = std::fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&wal, &bytes).unwrap();
    // The first flush takes the damaged segment away: by then the ledger must have it.
    let collector = ground.serve("");
    eventually("the first flush", || (!wal.exists()).then_some(()));
    collector.kill();
    let collector = ground.serve("");
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 4 * ROWS);
    let said = "SELECT count(*) FROM loss WHERE reason = 'collector_lost'";
    assert_eq!(collector.number(said).await, 2, "the bytes, and the batch that was in them");
    let named =
        format!("{said} AND detail LIKE 'batches % of stream {STREAM} of node a were acknowledged and cannot be read'");
    assert_eq!(collector.number(&named).await, 1);
    let kept = ground.files("quarantine", "seg");
    assert_eq!(std::fs::read(&kept[0]).unwrap(), bytes);
    assert!(ground.log().contains("the WAL is damaged and acknowledged rows may be lost"), "{}", ground.log());
    let uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    assert_eq!(uplink.durable_seq, 5);
}

#[tokio::test]
async fn events_come_as_they_become_durable() {
    let ground = Ground::new();
    let collector = ground.serve("");
    let mut console = collector.console().await;
    let request = v1::EventsRequest { kinds: vec!["exec".to_owned()] };
    let mut events = console.events(request).await.unwrap().into_inner();
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 3).await.unwrap();
    for seq in 1..=3 {
        let reply = events.message().await.unwrap().unwrap();
        let chunk = reply.chunk.unwrap();
        assert_eq!((reply.node.as_str(), chunk.table.as_str(), reply.missed), ("a", "processes", 0));
        assert_eq!(skep_wire::chunk::rows(&chunk).next().unwrap().int("pid"), Some(seq));
    }
    let unknown = v1::EventsRequest { kinds: vec!["exek".to_owned()] };
    assert!(console.events(unknown).await.unwrap_err().message().contains("exek"));
}

#[test]
fn a_second_collector_on_the_folder_is_told_who_has_it() {
    let ground = Ground::new();
    let _first = ground.serve("");
    let mut second = ground.spawn("");
    assert_eq!(second.wait(), Some(1));
    eventually("the log", || ground.log().contains("is in use by a running collector").then_some(()));
}

#[test]
fn every_fault_of_the_configuration_is_told_and_the_exit_code_is_2() {
    let ground = Ground::new();
    let mut collector = ground.spawn("nonsense = 1\n[flush]\nrows = 0\n");
    assert_eq!(collector.wait(), Some(2));
    let log = ground.log();
    assert!(log.contains("nonsense") && log.contains("flush.rows"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
}
