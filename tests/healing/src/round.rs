//! Faults, several at a time: each is injected, watched until it is over, and told of.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::ground::{self, Ground};
use crate::hog::Hog;
use crate::kind::Kind;
use crate::record::Seen;
use crate::settings::Subject;
use crate::subject::files;
use crate::{Arguments, figures};

/// How long a fault may take to show.
const SHOWS_WITHIN_S: i64 = 30;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A job that takes more than this is broken.
const HOG_CORES: f64 = 0.5;

/// What became of one fault.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) subject: Subject,
    pub(crate) injected_us: i64,
    /// It showed, by the thing itself.
    pub(crate) broke: bool,
    /// It is well since then, by the thing itself.
    pub(crate) well_us: Option<i64>,
    /// What skep says.
    pub(crate) seen: Seen,
    /// It was over at last.
    pub(crate) ended_us: i64,
}

pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Figures of all faults that `arguments` ask for; progress goes to stderr.
pub(crate) fn run_all(arguments: &Arguments) -> Result<Map<String, Value>> {
    let chosen = Kind::ALL.into_iter().filter(|kind| arguments.only.is_empty() || arguments.only.contains(kind));
    let faults: Vec<(Kind, u16)> =
        chosen.map(|kind| (kind, arguments.rounds.unwrap_or_else(|| kind.usual_rounds()))).collect();
    let (ground, subjects) = Ground::prepare(arguments, &faults)?;
    let untouched: Vec<Subject> = subjects
        .iter()
        .filter(|subject| subject.kind.is_service() && (subject.number == 0 || !subject.kind.restarts()))
        .cloned()
        .collect();
    let before = ground.invocations(&untouched)?;
    let queue = Mutex::new(in_turn(&subjects));
    let taken = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..arguments.lanes {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(subject) = next.filter(|_| !crate::is_told_to_stop()) else { return };
                    match take(&ground, &subject, arguments) {
                        Ok(one) => {
                            tell(&one);
                            taken.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                        }
                        Err(error) => eprintln!("{} {}: {error:#}", subject.kind.name(), subject.number),
                    }
                }
            });
        }
    });
    ensure!(!crate::is_told_to_stop(), "told to stop");
    // What was still on its way is in the rows by then.
    thread::sleep(Duration::from_secs(3));
    let after = ground.invocations(&untouched)?;
    let lives = before.iter().zip(&after);
    let hurt = untouched.iter().zip(lives).filter(|(_, (before, after))| before != after);
    let hurt: Vec<Kind> = hurt.map(|(subject, _)| subject.kind).collect();
    let taken = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
    let planned: Vec<(Kind, usize)> = faults.iter().map(|(kind, rounds)| (*kind, usize::from(*rounds))).collect();
    Ok(figures::of(&planned, &taken, &ground.record.all(), &hurt))
}

/// One of each kind, then the next of each.
fn in_turn(subjects: &[Subject]) -> VecDeque<Subject> {
    let mut queue: Vec<Subject> = subjects.iter().filter(|subject| subject.number > 0).cloned().collect();
    // What takes longest goes first.
    queue.sort_by_key(|subject| (subject.number, !matches!(subject.kind, Kind::LostCause | Kind::CrashLoop)));
    queue.into()
}

fn tell(taken: &Taken) {
    let after = |time_us: Option<i64>| {
        time_us.map_or("-".to_owned(), |time_us| format!("{:.1}", (time_us - taken.injected_us) as f64 / 1e6))
    };
    eprintln!(
        "{:<14} {:>2}: found after {} s, well after {} s, verified after {} s, escalated after {} s",
        taken.subject.kind.name(),
        taken.subject.number,
        after(taken.seen.found_us),
        after(taken.well_us),
        after(taken.seen.recovered_us),
        after(taken.seen.escalated_us)
    );
}

/// Injects one fault and watches it until it is over, or nobody could wait for it any longer.
fn take(ground: &Ground, subject: &Subject, arguments: &Arguments) -> Result<Taken> {
    let mut hog = None;
    ensure!(!subject.kind.is_service() || ground::answer(subject, "/") == Some(200), "it is not well to begin with");
    let injected_us = now_us();
    inject(ground, subject, &mut hog)?;
    let restarts = if subject.kind == Kind::LostCause { arguments.restart_limit } else { 3 };
    let patience_s = 120 + i64::from(restarts) * (i64::from(arguments.restart_cool_down_s) + 20);
    let workload = subject.workload();
    let mut taken = Taken {
        subject: subject.clone(),
        injected_us,
        broke: false,
        well_us: None,
        seen: Seen::default(),
        ended_us: injected_us,
    };
    loop {
        thread::sleep(LOOK);
        ensure!(!crate::is_told_to_stop(), "told to stop");
        taken.ended_us = now_us();
        match is_well(subject, &mut hog) {
            Some(true) if taken.broke => taken.well_us = taken.well_us.or(Some(taken.ended_us)),
            Some(false) => (taken.broke, taken.well_us) = (true, None),
            _ => {}
        }
        taken.seen = ground.record.since(injected_us, &workload);
        let over = match subject.kind {
            Kind::LostCause => taken.seen.escalated_us.is_some(),
            _ => taken.well_us.is_some() && taken.seen.recovered_us.is_some(),
        };
        let passed_s = (taken.ended_us - injected_us) / 1_000_000;
        ensure!(taken.broke || passed_s < SHOWS_WITHIN_S, "it did not break");
        if over || passed_s >= patience_s {
            return Ok(taken);
        }
    }
}

fn inject(ground: &Ground, subject: &Subject, hog: &mut Option<Hog>) -> Result<()> {
    let ask = |how: &str| {
        // One that ends answers nobody any more; whether it is broken is seen.
        let _answered = ground::answer(subject, &format!("/break/{how}")).is_some();
    };
    match subject.kind {
        Kind::HungUnit => ask("hang"),
        Kind::FdLeak => ask("descriptors"),
        Kind::MemoryLeak => ask("memory"),
        Kind::DiskFilling => ask("disk"),
        Kind::ReverseShell => ask("shell"),
        Kind::PortScan => ask("scan"),
        Kind::CrashLoop => {
            fs::write(subject.folder.join(files::STATE).join("index"), "damaged")?;
            ask("end");
        }
        Kind::LostCause => {
            fs::write(subject.folder.join(files::HOPELESS), "")?;
            ask("end");
        }
        Kind::BadRollout => {
            let (current, next) = (subject.folder.join(files::CURRENT), subject.folder.join("next"));
            symlink("v2", &next)?;
            fs::rename(&next, &current)?;
            ground.boxed.inside(&["systemctl", "restart", &subject.unit()])?;
        }
        Kind::CpuHog => *hog = Some(Hog::start(&subject.cgroup(), "while :; do :; done").context("no job")?),
    }
    Ok(())
}

/// Whether it is well, by the thing itself; `None` where that cannot be told yet.
fn is_well(subject: &Subject, hog: &mut Option<Hog>) -> Option<bool> {
    match subject.kind {
        Kind::DiskFilling => {
            let space = rustix::fs::statvfs(subject.disk()).ok()?;
            Some(space.f_bavail as f64 > 0.2 * space.f_blocks as f64)
        }
        Kind::ReverseShell | Kind::PortScan => Some(!ground::intruder_runs(subject)),
        Kind::CpuHog => {
            let hog = hog.as_mut()?;
            let cores = hog.cores()?;
            Some(cores < HOG_CORES && hog.is_limited())
        }
        _ => Some(ground::answer(subject, "/") == Some(200)),
    }
}
