//! Two collectors that put the same hour in order at once.

use std::ops::RangeInclusive;

use skep_seglog::SegmentId;
use skep_wire::tables::CPU;

use super::*;
use crate::buffer::sample;
use crate::history::batches::{Batches, KnownBatches};
use crate::history::upkeep::Guard;

/// One collector's view.
struct Collector {
    name: &'static str,
    history: History,
    known: KnownBatches,
    runtime: Runtime,
}

/// A rewrite that is not committed yet.
struct Planned {
    inputs: Vec<HourFile>,
    guard: Guard,
    done: Rewritten,
}

impl Collector {
    fn new(root: &std::path::Path, name: &'static str) -> Self {
        let history = History::open(root, name).unwrap();
        let known = KnownBatches::new(Arc::clone(history.place()));
        Self { name, history, known, runtime: tokio::runtime::Builder::new_current_thread().build().unwrap() }
    }

    fn store(&self, segment: u64, seqs: RangeInclusive<i64>) {
        let rows = [sample::cpu("s", seqs)];
        self.history.with("cpu", |table| table.append(SegmentId(segment), &rows)).unwrap().unwrap();
    }

    fn own(&self) -> Vec<HourFile> {
        self.history.with("cpu", |table| table.own_files()).unwrap().unwrap()
    }

    fn plan(&self, change: Change) -> Planned {
        let inputs = self.own();
        let others = self.history.with("cpu", |table| table.others_of_hour(&inputs)).unwrap();
        let sums = matches!(change, Change::Windows(_));
        let parting = Parting::of(&self.known, self.name, &inputs, &others, sums).unwrap();
        let job = Job { table: &CPU, inputs: &inputs, change, parting: Some(&parting) };
        let done = job.run(&self.history, &self.runtime, || true).unwrap();
        Planned { guard: parting.guard.clone(), done, inputs }
    }

    fn commit(&self, planned: Planned) -> Result<(), HistoryError> {
        let Planned { inputs, guard, done } = planned;
        let committed = self.history.with("cpu", |table| match done.file {
            Some(file) => table.replace(file, done.rows, &guard).map(drop),
            None => table.remove(&inputs, &guard),
        });
        committed.unwrap()
    }

    /// Rows of all live files, and the sum of their `on_cpu_ns`.
    fn rows(&self) -> (u64, i64) {
        use arrow::datatypes::Int64Type;
        let files = self.history.with("cpu", |table| table.refresh().map(|_| table.files())).unwrap().unwrap();
        let (mut rows, mut sum) = (0, 0);
        for file in files {
            let source = Source::open(self.history.place().as_ref(), &CPU, &file.path).unwrap();
            for batch in source.batches().map(|batch| batch.unwrap()) {
                rows += batch.num_rows() as u64;
                let column = batch.column_by_name("on_cpu_ns").unwrap().as_primitive::<Int64Type>();
                sum += column.values().iter().sum::<i64>();
            }
        }
        (rows, sum)
    }
}

fn is_overtaken(committed: Result<(), HistoryError>) -> bool {
    RewriteError::from(committed.unwrap_err()).is_overtaken()
}

#[test]
fn of_two_that_leave_out_for_each_others_sake_the_second_begins_again() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b, c] = ["aa", "bb", "cc"].map(|name| Collector::new(temp.path(), name));
    a.store(1, 1..=6);
    b.store(1, 4..=9);
    b.store(2, 10..=12);
    assert_eq!(c.rows(), (15, (1..=6).chain(4..=12).sum()));

    // cc takes over from aa, whose rows bb is just leaving out.
    let of_b = b.plan(Change::None);
    assert_eq!((of_b.done.read, of_b.done.left_out), (6, 3));
    c.history.adopt(&BTreeSet::from(["aa".to_owned()]));
    let of_c = c.plan(Change::None);
    assert_eq!((of_c.done.read, of_c.done.left_out), (3, 3), "and cc those that bb has");
    c.commit(of_c).unwrap();
    assert!(is_overtaken(b.commit(of_b)));
    b.commit(b.plan(Change::None)).unwrap();
    let all = (12, (1..=12).sum());
    assert_eq!((a.rows(), b.rows(), c.rows()), (all, all, all));
    let files = crate::history::Folders::default();
    let laid = crate::history::Place::list_hours(&files, &temp.path().join("cpu")).unwrap();
    assert_eq!(laid.len(), 5, "what was overtaken is gone: {laid:?}");
}

#[test]
fn sums_hold_what_is_needed_to_leave_out_what_comes_later() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b] = ["aa", "bb"].map(|name| Collector::new(temp.path(), name));
    b.store(1, 1..=6);
    b.commit(b.plan(Change::Windows(60))).unwrap();
    // A collector with a smaller name comes with some of it after all: the sums stay.
    a.store(1, 4..=9);
    let of_a = a.plan(Change::Windows(60));
    assert_eq!((of_a.done.read, of_a.done.left_out), (3, 3));
    a.commit(of_a).unwrap();
    assert_eq!(a.rows().1, (1..=9).sum::<i64>());
    let summed = a.own();
    let held = a.known.of(&summed[0].file).unwrap();
    assert_eq!(*held, Batches::of_rows(&[sample::cpu("s", 7..=9)]).unwrap());
    assert!(a.plan(Change::None).done.left_out == 0, "nothing is left to be done");
}

#[test]
fn of_two_that_sum_up_at_once_the_second_begins_again() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b] = ["aa", "bb"].map(|name| Collector::new(temp.path(), name));
    b.store(1, 1..=6);
    let of_b = b.plan(Change::Windows(60));
    a.store(1, 4..=9);
    a.commit(a.plan(Change::Windows(60))).unwrap();
    assert!(is_overtaken(b.commit(of_b)));
    b.commit(b.plan(Change::Windows(60))).unwrap();
    assert_eq!(b.rows().1, (1..=9).sum::<i64>());
}
