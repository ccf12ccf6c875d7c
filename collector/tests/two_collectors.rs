//! Two collectors on one bucket, killed in turn under load: every row once, from either of them and for other engines.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skep_wire::v1::{self, down};
use support::agent::{ROWS, Uplink};
use support::bucket::Bucket;
use support::{Collector, DELTALAKE_COUNT, Ground, eventually};

const NAMES: [&str; 2] = ["one", "two"];
const NODES: [&str; 3] = ["a", "b", "c"];

/// Flushes, merges and cleans up as often as it can, so that kills fall into every step of it.
const BUSY: &str = "[history]\nlocation = \"s3://skep/history\"\nrefresh_s = 2\n[flush]\ninterval_s = 1\nrows = 2000\n\
    [maintain]\ninterval_s = 2\nclosed_s = 0\ngrace_s = 6\ncheckpoint_commits = 5\nlog_hours = 0\n";

/// Batches on their way at once.
const WINDOW: u64 = 16;

/// Rest between two new batches.
const PACE: Duration = Duration::from_millis(12);

/// Where collectors listen; nothing for one that does not run.
type Addresses = Arc<Mutex<[Option<String>; 2]>>;

/// One agent: it knows both collectors, and sends again what nobody acknowledged.
#[derive(Debug, Default)]
struct Agent {
    made: AtomicU64,
    acked: AtomicU64,
    resent: AtomicU64,
    settling: AtomicBool,
}

impl Agent {
    async fn run(self: Arc<Self>, ground: Arc<Ground>, node: &'static str, first: usize, addresses: Addresses) {
        for attempt in first.. {
            let address = addresses.lock().unwrap()[attempt % 2].clone();
            if let Some(address) = address {
                // Why a connection ended is of no interest: the next collector gets the rest.
                let _ended = self.connection(&ground, node, &address).await;
            }
            if self.settling.load(Ordering::SeqCst) && self.is_settled() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn is_settled(&self) -> bool {
        self.acked.load(Ordering::SeqCst) == self.made.load(Ordering::SeqCst)
    }

    async fn connection(&self, ground: &Ground, node: &str, address: &str) -> Result<(), tonic::Status> {
        // Now and then an acknowledgement is lost with its connection: some batches come again, to whoever is there.
        let acked = self.acked.load(Ordering::SeqCst);
        let known = acked.saturating_sub(self.resent.load(Ordering::SeqCst) % 4);
        let stream = node.repeat(32);
        let mut uplink = Uplink::open_with(ground, address, node, hello(node, &stream, known)).await?;
        let mut seq = known.max(uplink.durable_seq);
        self.acked.fetch_max(uplink.durable_seq, Ordering::SeqCst);
        let mut heard = seq;
        loop {
            let made = self.made.load(Ordering::SeqCst);
            let may_make = !self.settling.load(Ordering::SeqCst);
            if seq < heard + WINDOW && (seq < made || may_make) {
                seq += 1;
                if seq > made {
                    self.made.store(seq, Ordering::SeqCst);
                    tokio::time::sleep(PACE).await;
                } else {
                    self.resent.fetch_add(1, Ordering::SeqCst);
                }
                if !uplink.send(seq).await {
                    return Ok(());
                }
            } else if heard < seq {
                match uplink.next().await? {
                    Some(down::Message::Ack(ack)) => {
                        heard = ack.durable_seq;
                        self.acked.fetch_max(heard, Ordering::SeqCst);
                    }
                    Some(other) => panic!("{node}: {other:?}"),
                    None => return Ok(()),
                }
            } else {
                return Ok(());
            }
        }
    }
}

/// What an agent says that knows of acknowledgements up to `known`, whoever gave them.
fn hello(node: &str, stream: &str, known: u64) -> v1::Hello {
    // Each start listens at another address: what was acknowledged, was so elsewhere.
    let elsewhere = (known > 0).then_some(v1::SeqRange { from_seq: 1, to_seq: known }).into_iter().collect();
    v1::Hello { elsewhere, ..Uplink::hello(node, stream) }
}

/// Both collectors under load, killed in turn; then everything is acknowledged. What each agent made.
async fn killed_in_turn(ground: &Arc<Ground>, bucket: &Bucket, config: &str, rounds: usize) -> [i64; 3] {
    let start = |name: &str| tokio::task::block_in_place(|| ground.serve_in(name, config, &bucket.environment()));
    let mut running: Vec<Option<Collector<'_>>> = NAMES.iter().map(|name| Some(start(name))).collect();
    let addresses: Addresses = Arc::default();
    let announce = |running: &[Option<Collector<'_>>]| {
        let now = [0, 1].map(|at: usize| running[at].as_ref().map(|collector| collector.grpc.clone()));
        *addresses.lock().unwrap() = now;
    };
    announce(&running);
    let agents: [Arc<Agent>; 3] = Default::default();
    let run = |at: usize| Arc::clone(&agents[at]).run(Arc::clone(ground), NODES[at], at, Arc::clone(&addresses));
    let load: Vec<_> = (0..NODES.len()).map(|at| tokio::spawn(run(at))).collect();
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let victim = round % 2;
        tokio::task::block_in_place(|| running[victim].take().unwrap().kill());
        announce(&running);
        tokio::time::sleep(Duration::from_millis(900)).await;
        running[victim] = Some(start(NAMES[victim]));
        announce(&running);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    agents.iter().for_each(|agent| agent.settling.store(true, Ordering::SeqCst));
    for agent in load {
        agent.await.unwrap();
    }
    assert!(agents.iter().all(|agent| agent.is_settled()));
    assert!(agents.iter().any(|agent| agent.resent.load(Ordering::SeqCst) > 0), "nothing was sent twice");
    for collector in running.into_iter().flatten() {
        assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    }
    let log = ground.log();
    let is_fault = |line: &&str| {
        ["damaged", "nowhere else", "nothing is lost", "panicked"].iter().any(|fault| line.contains(fault))
    };
    assert_eq!(log.lines().filter(is_fault).collect::<Vec<_>>(), Vec::<&str>::new());
    agents.map(|agent| agent.made.load(Ordering::SeqCst) as i64)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_collectors_killed_in_turn_have_every_row_once() {
    let (ground, bucket) = (Arc::new(Ground::new()), Bucket::start());
    let config = format!("{BUSY}tier = []\n");
    let made = killed_in_turn(&ground, &bucket, &config, 4).await;
    let total: i64 = made.iter().sum();

    // Before anything more is put in order, and after.
    let lazy = config.replace("[maintain]\ninterval_s = 2\n", "[maintain]\ninterval_s = 86400\n");
    for config in [&lazy, &config] {
        let both = NAMES.map(|name| ground.serve_in(name, config, &bucket.environment()));
        for collector in &both {
            for (node, made) in NODES.iter().zip(made) {
                let exact = format!(
                    "SELECT count(*) FROM (SELECT seq FROM cpu WHERE node = '{node}' GROUP BY seq \
                     HAVING count(*) = {ROWS} AND count(DISTINCT pid) = {ROWS} AND min(on_cpu_ns) = seq)"
                );
                assert_eq!(collector.number(&exact).await, made, "{node}");
            }
            assert_eq!(collector.number("SELECT count(*) FROM cpu").await, total * ROWS);
            assert_eq!(collector.number("SELECT count(*) FROM processes").await, total);
            assert_eq!(collector.number("SELECT count(*) FROM loss WHERE probe = 'cpu'").await, total);
            let in_view = "SELECT CAST(round(sum(cpu_s) * 1e9) AS BIGINT) FROM top_cpu";
            // It leaves out pid 0.
            let sum: i64 = made.iter().map(|made| made * (made + 1) / 2 * (ROWS - 1)).sum();
            assert_eq!(collector.number(in_view).await, sum);
        }
        if *config == lazy {
            continue;
        }
        // What both stored goes when an hour is put in order: readers that know nothing of batches agree then.
        let count = || bucket.python(DELTALAKE_COUNT, "s3://skep/history/cpu");
        let agrees = || (count() == (total * ROWS).to_string()).then_some(());
        tokio::task::block_in_place(|| eventually("other engines to see every row once", agrees));
        assert_eq!(both[0].number("SELECT count(*) FROM cpu").await, total * ROWS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_two_collectors_made_longer_hold_every_count_once() {
    let (ground, bucket) = (Arc::new(Ground::new()), Bucket::start());
    let config = format!("{BUSY}[[maintain.tier]]\nwindow_s = 60\nafter_h = 0\n[retention]\ndays = 0\n");
    let made = killed_in_turn(&ground, &bucket, &config, 3).await;
    let sum: i64 = made.iter().map(|made| made * (made + 1) / 2 * ROWS).sum();
    let both = NAMES.map(|name| ground.serve_in(name, &config, &bucket.environment()));
    let sums = "SELECT CAST(sum(on_cpu_ns) AS BIGINT) FROM cpu";
    for collector in &both {
        assert_eq!(collector.number(sums).await, sum);
        let counted = "SELECT CAST(sum(b['count']) AS BIGINT) FROM (SELECT unnest(run_queue_delay) AS b FROM cpu)";
        assert_eq!(collector.number(counted).await, 3 * made.iter().sum::<i64>() * ROWS);
    }
    let theirs = "import sys, deltalake\n\
        table = deltalake.DeltaTable(sys.argv[1])\n\
        rows = deltalake.QueryBuilder().register('t', table).execute('SELECT sum(on_cpu_ns) AS n FROM t')\n\
        print(rows.read_all()['n'][0].as_py())";
    let agrees = || (bucket.python(theirs, "s3://skep/history/cpu") == sum.to_string()).then_some(());
    tokio::task::block_in_place(|| eventually("other engines to see every count once", agrees));
    for collector in both {
        assert_eq!(collector.number(sums).await, sum);
        assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_takes_over_the_files_of_one_that_is_gone() {
    let (ground, bucket) = (Ground::new(), Bucket::start());
    let config = format!("{BUSY}tier = []\n");
    let lazy = config.replace("[maintain]\ninterval_s = 2\n", "[maintain]\ninterval_s = 86400\n");
    for (at, name) in NAMES.iter().enumerate() {
        let collector = ground.serve_in(name, &lazy, &bucket.environment());
        let mut uplink = Uplink::open(&ground, &collector.grpc, NODES[at], &NODES[at].repeat(32)).await.unwrap();
        for seq in 1..=8 {
            uplink.deliver(seq, seq).await.unwrap();
            collector.flush().await;
        }
        assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    }
    let id = |name: &str| {
        let text = std::fs::read(ground.path().join(name).join("collector.json")).unwrap();
        let identity: serde_json::Value = serde_json::from_slice(&text).unwrap();
        identity["collector"].as_str().unwrap().to_owned()
    };
    let (gone, stays) = (id("one"), id("two"));
    let adopt = || {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_skep-collector"))
            .args(["adopt", &gone, "--data"])
            .arg(ground.path().join("two"))
            .envs(bucket.environment())
            .output()
            .unwrap();
        (program.status.code(), String::from_utf8(program.stderr).unwrap())
    };
    let (code, said) = adopt();
    assert!(code == Some(1) && said.contains("gave a sign of life"), "{said}");
    let collector = ground.serve_in("two", &config, &bucket.environment());
    let rows_of = |writer: &str| {
        let keys = bucket.keys("history/cpu/date=");
        keys.iter().filter(|key| key.contains(&format!("/{writer}-"))).count()
    };
    tokio::task::block_in_place(|| eventually("its own to become one", || (rows_of(&stays) == 1).then_some(())));
    assert!(rows_of(&gone) > 1, "they are another's");
    // As the command does once its silence is long enough.
    bucket.remove(&format!("history/_collectors/{gone}.json"));
    let all = || (rows_of(&gone) == 0 && rows_of(&stays) == 1).then_some(());
    tokio::task::block_in_place(|| eventually("all to become one", all));
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 16 * ROWS);
    assert_eq!(bucket.python(DELTALAKE_COUNT, "s3://skep/history/cpu"), (16 * ROWS).to_string());

    // It comes back: nothing of it is lost, and nothing is there twice.
    let back = ground.serve_in("one", &config, &bucket.environment());
    let mut uplink = Uplink::open(&ground, &back.grpc, "a", &"a".repeat(32)).await.unwrap();
    assert_eq!(uplink.durable_seq, 8);
    uplink.deliver(9, 9).await.unwrap();
    back.flush().await;
    let sees = || {
        let count = tokio::runtime::Handle::current().block_on(collector.number("SELECT count(*) FROM cpu"));
        (count == 17 * ROWS).then_some(())
    };
    tokio::task::block_in_place(|| eventually("the other to see it", sees));
    assert_eq!((back.stop(), collector.stop()), (Some(0), Some(0)), "{}", ground.log());
}
