use proptest::prelude::*;
use skep_wire::chunk::Builder;
use skep_wire::envelope::Origin;
use skep_wire::tables::{BLOCK_IO, CPU, HOST};

use super::*;
use crate::buffer::convert;

/// One window of one process.
#[derive(Debug, Clone)]
struct Window {
    pid: i64,
    time_s: i64,
    window_s: f64,
    on_cpu_ns: i64,
    coverage: f64,
    least: Option<i64>,
    waits: Vec<(u16, u64)>,
}

fn windows() -> impl Strategy<Value = Vec<Window>> {
    let waits = prop::collection::btree_map(0u16..40, 1u64..1000, 0..5);
    let least = prop::option::of(0i64..1000);
    let window = (0i64..3, 0i64..60, 0i64..1_000_000, 0.0..1.0, least, waits).prop_map(
        |(pid, slot, on_cpu_ns, coverage, least, waits)| Window {
            pid,
            time_s: slot * 10,
            window_s: 10.0,
            on_cpu_ns,
            coverage,
            least,
            waits: waits.into_iter().collect(),
        },
    );
    prop::collection::vec(window, 1..60).prop_map(|mut windows| {
        windows.sort_by_key(|window| (window.pid, window.time_s));
        windows
    })
}

fn rows(windows: &[Window]) -> RecordBatch {
    let mut cpu = Builder::new(&CPU);
    for window in windows {
        cpu.int("time", window.time_s * 1_000_000).float("window_s", window.window_s);
        cpu.int("pid", window.pid)
            .int("start_ns", 1)
            .text("comm", "x")
            .text("workload", "host")
            .text("attribution", "exact");
        cpu.int("on_cpu_ns", window.on_cpu_ns)
            .int("slices", 1)
            .int("voluntary_switches", 1)
            .int("involuntary_switches", 0);
        cpu.int("migrations", 0).int("run_queue_delay_count", 0).int("run_queue_delay_sum_ns", 0);
        cpu.maybe_int("run_queue_delay_min_ns", window.least).maybe_int("run_queue_delay_max_ns", window.least);
        cpu.histogram("run_queue_delay", window.waits.iter().copied());
        cpu.int("off_cpu_count", 0)
            .int("off_cpu_sum_ns", 0)
            .histogram("off_cpu", [])
            .float("coverage", window.coverage);
        cpu.end_row().unwrap();
    }
    batch(&CPU, cpu)
}

fn batch(table: &'static Table, builder: Builder) -> RecordBatch {
    let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 7 };
    schema::plain(&convert::record_batch(&origin, table, &builder.finish().unwrap()).unwrap()).unwrap()
}

fn coarse(table: &'static Table, batches: &[RecordBatch], window_s: u32) -> RecordBatch {
    let mut coarsener = Coarsener::new(table, window_s).unwrap();
    let mut out: Vec<_> = batches.iter().map(|batch| coarsener.push(batch).unwrap()).collect();
    out.push(coarsener.finish().unwrap());
    concat_batches(&schema::schema(table), &out).unwrap()
}

fn ints(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    batch[name].as_primitive::<Int64Type>().iter().collect()
}

fn of(batch: &RecordBatch, name: &str) -> Vec<f64> {
    batch[name].as_primitive::<Float64Type>().values().to_vec()
}

/// Everything counted in a histogram column, by value.
fn counted(batch: &RecordBatch, name: &str) -> BTreeMap<i64, i64> {
    let lists = batch[name].as_list::<i32>();
    let parts = lists.values().as_struct();
    let values = parts["value_ns"].as_primitive::<Int64Type>();
    let counts = parts["count"].as_primitive::<Int64Type>();
    let mut all = BTreeMap::new();
    for (value, count) in values.values().iter().zip(counts.values()) {
        *all.entry(*value).or_default() += count;
    }
    all
}

proptest! {
    #[test]
    fn nothing_counted_is_lost_and_every_window_stands_once(windows in windows(), cut in 0usize..60) {
        let all = rows(&windows);
        let cut = cut.min(all.num_rows());
        let parts = [all.slice(0, cut), all.slice(cut, all.num_rows() - cut)];
        let minutes = coarse(&CPU, &parts, 60);
        prop_assert_eq!(&minutes, &coarse(&CPU, std::slice::from_ref(&all), 60), "however the rows come");
        let sum = |batch: &RecordBatch| ints(batch, "on_cpu_ns").into_iter().flatten().sum::<i64>();
        prop_assert_eq!(sum(&minutes), sum(&all));
        prop_assert_eq!(counted(&minutes, "run_queue_delay"), counted(&all, "run_queue_delay"));
        prop_assert_eq!(minutes.num_rows(), minutes["time"].as_primitive::<TimestampMicrosecondType>().values().iter()
            .zip(ints(&minutes, "pid")).collect::<std::collections::BTreeSet<_>>().len());
        prop_assert!(of(&minutes, "window_s").iter().all(|window_s| *window_s == 60.0));
        let least = |batch: &RecordBatch| ints(batch, "run_queue_delay_min_ns").into_iter().flatten().min();
        prop_assert_eq!(least(&minutes), least(&all));
        let (steps, once) = (coarse(&CPU, &[minutes], 300), coarse(&CPU, &[all], 300));
        for column in CPU.stored_columns().filter(|column| column.name != "coverage") {
            prop_assert_eq!(&steps[column.name], &once[column.name], "in steps or at once: {}", column.name);
        }
    }
}

#[test]
fn coverage_weighs_what_it_was_long_and_the_unknown_stays_unknown() {
    let window = |time_s, window_s, coverage, least| Window {
        pid: 1,
        time_s,
        window_s,
        on_cpu_ns: 5,
        coverage,
        least,
        waits: Vec::new(),
    };
    let windows = [window(0, 30.0, 1.0, None), window(30, 10.0, 0.2, Some(9)), window(60, 10.0, 0.5, None)];
    let minutes = coarse(&CPU, &[rows(&windows)], 60);
    assert_eq!(of(&minutes, "coverage"), [0.8, 0.5]);
    assert_eq!(ints(&minutes, "run_queue_delay_min_ns"), [Some(9), None]);
    assert_eq!(ints(&minutes, "on_cpu_ns"), [Some(10), Some(5)]);
    assert_eq!(minutes["time"].as_primitive::<TimestampMicrosecondType>().values(), &[0, 60_000_000]);
    assert_eq!(ints(&minutes, "seq"), [Some(7), Some(7)]);
}

#[test]
fn rows_of_windows_that_are_longer_already_stay_and_take_in_what_comes_late() {
    let mut windows = [(0, 60.0, 100), (20, 10.0, 5), (60, 600.0, 7)].map(|(time_s, window_s, on_cpu_ns)| Window {
        pid: 1,
        time_s,
        window_s,
        on_cpu_ns,
        coverage: 1.0,
        least: None,
        waits: vec![(3, 2)],
    });
    let minutes = coarse(&CPU, &[rows(&windows)], 60);
    assert_eq!((ints(&minutes, "on_cpu_ns"), of(&minutes, "window_s")), (vec![Some(105), Some(7)], vec![60.0, 600.0]));
    windows[1].pid = 2;
    windows.sort_by_key(|window| window.pid);
    assert_eq!(coarse(&CPU, &[rows(&windows)], 60).num_rows(), 3);
}

#[test]
fn gauges_become_means_and_sizes_of_requests_keep_their_ends() {
    let mut host = Builder::new(&HOST);
    for (time_s, value) in [(0, 1.0), (10, 2.0), (20, 6.0)] {
        host.int("time", time_s * 1_000_000).float("window_s", 10.0).text("metric", "load").text("label", "");
        host.float("value", value).end_row().unwrap();
    }
    let minutes = coarse(&HOST, &[batch(&HOST, host)], 60);
    assert_eq!(of(&minutes, "value"), [3.0]);

    let mut io = Builder::new(&BLOCK_IO);
    for (time_s, bytes) in [(0, 512), (10, 4096)] {
        io.int("time", time_s * 1_000_000).float("window_s", 10.0).int("pid", 1).int("start_ns", 1).text("comm", "x");
        io.text("workload", "host").text("attribution", "exact").text("device", "vda").text("device_number", "8:0");
        io.text("operation", "read").int("count", 1).int("errors", 0).int("bytes", bytes).int("latency_sum_ns", 3);
        io.histogram("latency", [(9, 1)]).int("size_min_bytes", bytes).int("size_max_bytes", bytes);
        io.histogram("size", [(bytes as u16 / 64, 1)]).float("coverage", 1.0).end_row().unwrap();
    }
    let minutes = coarse(&BLOCK_IO, &[batch(&BLOCK_IO, io)], 60);
    let columns = ["count", "bytes", "size_min_bytes", "size_max_bytes"];
    assert_eq!(columns.map(|name| ints(&minutes, name)[0]), [Some(2), Some(4608), Some(512), Some(4096)]);
    assert_eq!(counted(&minutes, "latency").values().collect::<Vec<_>>(), [&2]);
    assert_eq!(counted(&minutes, "size").len(), 2);
}
