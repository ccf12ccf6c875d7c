//! Probes that outlive the one who loaded them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{MutexGuard, PoisonError},
};

use skep_agent::probe::{Event, Mark, ProbeOptions, Probes, Reading, detach, syscall_name};

use crate::support::{ONE, shell};

/// A bpf file system of this test's own.
struct BpfFs {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl BpfFs {
    fn mount() -> Self {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a folder");
        let status = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(folder.path()).status().expect("mount runs");
        assert!(status.success(), "a bpf file system can be mounted: run the tests as root");
        Self { folder, _alone: alone }
    }

    fn pins(&self) -> PathBuf {
        self.folder.path().join("pins")
    }

    fn load(&self, options: &ProbeOptions, mark: Option<Mark>) -> Probes {
        let (probes, report) = Probes::load_pinned(options, &self.pins(), mark).expect("the probes load");
        assert!(report.works("pinned"), "{report}");
        probes
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg(self.folder.path()).status();
        if !std::thread::panicking() {
            assert!(gone.expect("umount runs").success(), "nobody holds the file system any more");
        }
    }
}

/// Everything a watch said.
#[derive(Default)]
struct Said {
    events: Vec<(Event, u64)>,
    readings: Vec<Reading>,
}

impl Said {
    fn drain(&mut self, probes: &mut Probes) {
        probes.drain_events(&mut |event, behind| self.events.push((event, behind)));
    }

    /// Closes an epoch and says that everything is safe.
    fn flip(&mut self, probes: &mut Probes) {
        self.flip_unsafely(probes);
        probes.commit(probes.mark().expect("they are pinned")).expect("it is let go");
    }

    fn flip_unsafely(&mut self, probes: &mut Probes) {
        let reading = probes.flip(&mut |event, behind| self.events.push((event, behind))).expect("the epoch closes");
        self.readings.push(reading);
    }

    fn catch_up(&mut self, probes: &mut Probes) -> bool {
        let reading = probes.catch_up(&mut |event, behind| self.events.push((event, behind))).expect("it can be read");
        let found = reading.is_some();
        self.readings.extend(reading);
        found
    }

    /// Execs of children of a process.
    fn execs_below(&self, parent: u32) -> usize {
        let below = |event: &Event| matches!(event, Event::Exec(exec) if exec.subject.parent.pid == parent);
        self.events.iter().filter(|(event, _)| below(event)).count()
    }

    fn getppid(&self, pid: u32) -> u64 {
        let rows = self.readings.iter().flat_map(|reading| &reading.syscalls);
        rows.filter(|row| row.process.pid == pid && syscall_name(row.nr) == Some("getppid")).map(|row| row.count).sum()
    }

    /// Attempted is delivered and lost, and nothing is unexplained.
    fn assert_balanced(&self) {
        for row in self.readings.iter().flat_map(|reading| &reading.ledger) {
            let lost: u64 = row.lost.iter().map(|(_, count)| count).sum();
            assert_eq!(row.attempted, row.delivered + lost, "{row:?}");
            assert!(!row.lost.iter().any(|(reason, _)| matches!(*reason, "unexplained" | "unreadable")), "{row:?}");
        }
    }
}

fn call_getppid(times: u64) -> u32 {
    (0..times).for_each(|_| {
        std::hint::black_box(rustix::process::getppid());
    });
    std::process::id()
}

/// Runs `/bin/true` so many times below one shell, whose number it returns.
fn run_children(count: u64) -> u32 {
    let script = format!("i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done");
    let mut child = shell(&script, &[]).spawn().expect("it starts");
    child.wait().expect("it ends");
    child.id()
}

#[test]
fn counting_goes_on_while_nobody_is_there() {
    let fs = BpfFs::mount();
    let options = ProbeOptions::default();
    let mut said = Said::default();
    let mut probes = fs.load(&options, None);
    assert!(!probes.is_adopted() && !probes.is_seamless());
    call_getppid(1_000);
    said.flip(&mut probes);
    call_getppid(2_000);
    let mark = probes.mark();
    drop(probes);
    let pid = call_getppid(4_000);
    let parent = run_children(50);

    let mut probes = fs.load(&options, mark);
    assert!(probes.is_adopted() && probes.is_seamless());
    assert!(!said.catch_up(&mut probes), "what was closed is stored");
    call_getppid(8_000);
    said.flip(&mut probes);
    assert_eq!(said.getppid(pid), 15_000);
    assert_eq!(said.execs_below(parent), 50);
    said.assert_balanced();
    drop(probes);
    let removed = detach(&fs.pins()).expect("it goes");
    assert_eq!(removed.len(), 1);
    assert!(removed[0].programs >= 7 && removed[0].maps >= 10, "{removed:?}");
    assert!(!fs.pins().exists());
}

#[test]
fn what_was_closed_and_not_stored_is_read_again_once() {
    let fs = BpfFs::mount();
    let options = ProbeOptions::default();
    let mut probes = fs.load(&options, None);
    let mark = probes.mark();
    let pid = call_getppid(1_000);
    let parent = run_children(20);
    let mut lost = Said::default();
    lost.flip_unsafely(&mut probes);
    assert_eq!((lost.getppid(pid), lost.execs_below(parent)), (1_000, 20));
    assert!(!probes.can_flip() && probes.flip(&mut |_, _| {}).is_err(), "it is not stored");
    call_getppid(500);
    drop(probes);

    // Its reader died with it, and so does the next one.
    for _ in 0..2 {
        let mut probes = fs.load(&options, mark);
        let mut again = Said::default();
        assert!(again.catch_up(&mut probes));
        assert_eq!((again.getppid(pid), again.execs_below(parent)), (1_000, 20));
        again.assert_balanced();
    }
    let mut probes = fs.load(&options, mark);
    let mut said = Said::default();
    assert!(probes.is_seamless() && said.catch_up(&mut probes) && !said.catch_up(&mut probes));
    let stored = probes.mark();
    drop(probes);

    // Now it is stored, although nobody told the probes.
    let mut probes = fs.load(&options, stored);
    assert!(probes.is_seamless() && !said.catch_up(&mut probes));
    said.flip(&mut probes);
    said.flip(&mut probes);
    assert_eq!((said.getppid(pid), said.execs_below(parent)), (1_500, 20));
    said.assert_balanced();
}

#[test]
fn the_ring_goes_on_behind_the_last_event_that_is_stored() {
    let fs = BpfFs::mount();
    let options = ProbeOptions::default();
    let mut probes = fs.load(&options, None);
    let parent = run_children(30);
    let mut said = Said::default();
    said.drain(&mut probes);
    // Somewhere in the middle of the drain a batch was full, and only that one was stored.
    let at = said.events.iter().map(|(event, behind)| (event, *behind)).nth(said.events.len() / 2).expect("events").1;
    let mark = probes.mark().map(|mark| Mark { position: at, ..mark });
    said.events.retain(|(_, behind)| *behind <= at);
    drop(probes);
    run_children(1);

    let mut probes = fs.load(&options, mark);
    assert!(probes.is_seamless());
    said.flip(&mut probes);
    assert_eq!(said.execs_below(parent), 30);
    assert!(said.events.windows(2).all(|pair| pair[0].1 < pair[1].1), "in order, each once");
    said.assert_balanced();

    // Without the mark nobody knows what was stored since the room was given back, which is worth a word.
    drop(probes);
    assert!(!fs.load(&options, None).is_seamless());
}

#[test]
fn another_layout_replaces_what_is_pinned_and_a_new_log_level_does_not() {
    let fs = BpfFs::mount();
    let options = ProbeOptions::default();
    let probes = fs.load(&options, None);
    let mark = probes.mark();
    drop(probes);
    let debug = ProbeOptions { log: skep_agent::probe::LogLevel::Debug, ..ProbeOptions::default() };
    assert!(fs.load(&debug, mark).is_adopted());
    let larger = ProbeOptions { usage_entries: 2 * options.usage_entries, ..ProbeOptions::default() };
    let probes = fs.load(&larger, mark);
    assert!(!probes.is_adopted() && !probes.is_seamless());
    assert_eq!(std::fs::read_dir(fs.pins()).expect("the folder").count(), 1, "the old set is gone");
}

#[test]
fn a_set_with_a_piece_missing_is_not_adopted() {
    let fs = BpfFs::mount();
    let options = ProbeOptions::default();
    drop(fs.load(&options, None));
    let set = only_entry(&fs.pins());
    std::fs::remove_file(set.join("link_sys_enter")).expect("it goes");
    assert!(!fs.load(&options, None).is_adopted());
}

#[test]
fn pins_that_were_taken_away_are_made_again() {
    let fs = BpfFs::mount();
    let options = ProbeOptions::default();
    let mut probes = fs.load(&options, None);
    std::fs::remove_file(only_entry(&fs.pins()).join("map_CPUS")).expect("it goes");
    probes.tend();
    let mark = probes.mark();
    drop(probes);
    let mut probes = fs.load(&options, mark);
    assert!(probes.is_adopted());
    let set = only_entry(&fs.pins());
    for entry in std::fs::read_dir(&set).expect("the set") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("it goes");
    }
    std::fs::remove_dir(&set).and_then(|()| std::fs::remove_dir(fs.pins())).expect("the folders go");
    let mut said = Said::default();
    let pid = call_getppid(700);
    probes.tend();
    said.flip(&mut probes);
    assert_eq!(said.getppid(pid), 700, "counting went on all the while");
    let mark = probes.mark();
    drop(probes);
    assert!(fs.load(&options, mark).is_adopted());
}

#[test]
fn one_agent_at_a_time_has_the_pins() {
    let fs = BpfFs::mount();
    let options = ProbeOptions::default();
    let probes = fs.load(&options, None);
    let (second, report) = Probes::load_pinned(&options, &fs.pins(), None).expect("it loads its own");
    assert!(!report.works("pinned") && !second.is_adopted() && second.mark().is_none(), "{report}");
    assert!(detach(&fs.pins()).expect_err("it is in use").to_string().contains("an agent runs"));
    drop((probes, second));
    assert!(fs.load(&options, None).is_adopted());
}

#[test]
fn nothing_of_others_is_removed() {
    let fs = BpfFs::mount();
    std::fs::create_dir_all(fs.pins().join("theirs")).expect("a folder");
    drop(fs.load(&ProbeOptions::default(), None));
    assert_eq!(detach(&fs.pins()).expect("ours goes").len(), 1);
    assert!(fs.pins().join("theirs").exists());
    let plain = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(plain.path().join("skep-v1-00000000-1")).expect("a folder");
    assert!(detach(plain.path()).is_err(), "it is in no bpf file system");
    assert_eq!(detach(&plain.path().join("nothing")).expect("nothing is there").len(), 0);
    let (probes, report) =
        Probes::load_pinned(&ProbeOptions::default(), &plain.path().join("pins"), None).expect("they load");
    assert!(!report.works("pinned") && probes.mark().is_none(), "{report}");
    assert!(!plain.path().join("pins").exists());
}

fn only_entry(folder: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let only = entries.next().expect("one");
    assert_eq!(entries.next(), None);
    only
}
