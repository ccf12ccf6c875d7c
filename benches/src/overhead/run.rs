//! Rounds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aya_obj::btf::Btf;
use serde_json::{Map, Value, json};

use super::arguments::OverheadArguments;
use super::configuration::{self, Configuration};
use super::measure::{MEASURED_CPU, hurry, pin, samples};
use super::workload::{WORKLOADS, Work, Workload};
use super::{peer, report, stranger};

/// What the kernel may need to take down what was detached.
const SETTLE: Duration = Duration::from_millis(30);

/// Samples of each round, by configuration.
pub(crate) type Rounds = BTreeMap<String, Vec<Vec<f64>>>;

/// Figures by workload; progress goes to stderr.
pub(crate) fn run(arguments: &OverheadArguments) -> Result<Map<String, Value>> {
    let cpus = std::thread::available_parallelism()?.get();
    ensure!(cpus > MEASURED_CPU, "this needs two CPUs, there is {cpus}");
    for name in &arguments.workload {
        ensure!(WORKLOADS.iter().any(|workload| workload.name == *name), "no workload {name:?}; there are {}", names());
    }
    if !arguments.no_bpftrace {
        peer::prepare()?;
    }
    let types = Btf::from_sys_fs()?;
    hurry()?;
    pin(MEASURED_CPU)?;
    let wanted = |workload: &&Workload| {
        arguments.workload.is_empty() || arguments.workload.iter().any(|name| *name == workload.name)
    };
    let mut figures = Map::new();
    for workload in WORKLOADS.iter().filter(wanted) {
        let rounds = measure(workload, arguments, &types)?;
        figures.insert(workload.name.to_owned(), report::of_workload(workload, &rounds));
    }
    let mut all = Map::new();
    all.insert("kernel".to_owned(), json!(rustix::system::uname().release().to_string_lossy()));
    all.insert("cpus".to_owned(), json!(cpus));
    all.insert("rounds".to_owned(), json!(arguments.rounds));
    all.insert("workloads".to_owned(), Value::Object(figures));
    Ok(all)
}

fn measure(workload: &Workload, arguments: &OverheadArguments, types: &Btf) -> Result<Rounds> {
    let configurations = configuration::of_workload(workload, arguments)?;
    let mut work = (workload.start)(arguments)?;
    let mut rounds = Rounds::new();
    for round in 0..arguments.rounds as usize {
        stranger::none_watches()?;
        let start = Instant::now();
        for index in 0..configurations.len() {
            let configuration = &configurations[(index + round) % configurations.len()];
            let samples = measure_one(workload, work.as_mut(), configuration, types)?;
            rounds.entry(configuration.name.clone()).or_default().push(samples);
        }
        let spent = start.elapsed().as_secs_f64();
        eprintln!("{}: round {} of {} took {spent:.1} s", workload.name, round + 1, arguments.rounds);
    }
    Ok(rounds)
}

fn measure_one(
    workload: &Workload,
    work: &mut dyn Work,
    configuration: &Configuration,
    types: &Btf,
) -> Result<Vec<f64>> {
    let attached = configuration.attach(types)?;
    let start = Instant::now();
    let mut readings = samples(workload, work, workload.samples)?;
    while start.elapsed() < configuration.at_least() {
        readings.extend(samples(workload, work, workload.samples)?);
    }
    attached.detach()?;
    std::thread::sleep(SETTLE);
    Ok(readings)
}

fn names() -> String {
    WORKLOADS.map(|workload| workload.name).join(", ")
}
