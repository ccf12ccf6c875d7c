//! Loads the object with what this kernel needs to be told, and attaches what it accepts.

use std::os::fd::AsFd;

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Map, MapData},
    programs::{BtfTracePoint, ProgramError, ProgramFd, RawTracePoint},
};
use skep_common::plain;

use super::{
    error::ProbeError,
    kernel::{GROUPS, Kernel, PROGRAMS, Program},
    log::{self, ProbeLog},
    object::Object,
    options::ProbeOptions,
    programs::{Attached, Standing},
    report::ProbeReport,
    sys,
};
use crate::error::chain;

/// The object in the kernel, not yet attached.
pub(super) struct Loaded {
    ebpf: Ebpf,
    /// What it was told.
    pub(super) kernel: Kernel,
    /// The programs that have something to do.
    programs: Vec<Program>,
}

/// A program the kernel did not take.
struct Rejected {
    program: Program,
    reason: String,
}

/// Loads every program that has something to do. When the kernel refuses one, the probes that need it are left out and
/// the rest is loaded anew, because what the programs do depends on which of them are there.
///
/// Errors: [`ProbeError::Load`], [`ProbeError::Nothing`].
pub(super) fn load(options: &ProbeOptions, mut kernel: Kernel, report: &mut ProbeReport) -> Result<Loaded, ProbeError> {
    loop {
        if kernel.able == 0 {
            return Err(ProbeError::Nothing { report: report.clone() });
        }
        let mut ebpf = create(options, &kernel)?;
        // After the object is there: the loader has a copy of its own until then, and one is 13 MB.
        let btf = Btf::from_sys_fs().map_err(|source| ProbeError::LoaderBtf { source: Box::new(source) })?;
        match load_programs(&mut ebpf, &kernel, &btf) {
            Ok(programs) => return Ok(Loaded { ebpf, kernel, programs }),
            Err(rejected) => kernel = leave_out(kernel, &rejected, report),
        }
    }
}

impl Loaded {
    /// Takes the maps out of the object, and the messages of the programs if they were asked for.
    pub(super) fn unpack(mut self, options: &ProbeOptions) -> (Unattached, ProbeLog) {
        let log = ProbeLog::take(&mut self.ebpf, options);
        let names: Vec<String> = self.ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        let maps = names.into_iter().filter_map(|name| Some((name.clone(), data(self.ebpf.take_map(&name)?)?)));
        let standing = Standing { maps: maps.collect(), programs: Vec::new() };
        (Unattached { standing, loaded: self }, log)
    }
}

/// Maps, and programs that do not run yet.
pub(super) struct Unattached {
    pub(super) standing: Standing,
    loaded: Loaded,
}

impl Unattached {
    /// Attaches the programs, in the order of [`PROGRAMS`].
    ///
    /// Errors: [`ProbeError::Nothing`] when the kernel refuses one it has accepted: nobody knows what to leave out then.
    pub(super) fn attach(mut self, report: &mut ProbeReport) -> Result<Standing, ProbeError> {
        let typed = self.loaded.kernel.is_typed();
        for program in &self.loaded.programs {
            let name = (!typed).then_some(program.hook);
            let attached = fd(&self.loaded.ebpf, program, typed).map_err(|error| chain(&error)).and_then(|fd| {
                let link = sys::attach(fd.as_fd(), name).map_err(|error| error.to_string())?;
                let program_fd = fd.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
                Ok(Attached::new(program.hook, program_fd, Some(link)))
            });
            match attached {
                Ok(attached) => self.standing.programs.push(attached),
                Err(error) => {
                    report.add(program.hook, false, format!("cannot be attached: {error}"));
                    return Err(ProbeError::Nothing { report: report.clone() });
                }
            }
        }
        Ok(self.standing)
    }
}

/// Names in `report` the groups that work.
pub(super) fn report_groups(able: u32, report: &mut ProbeReport) {
    for (bit, name, gives) in GROUPS {
        if able & bit != 0 {
            report.add(name, true, gives);
        }
    }
}

fn create(options: &ProbeOptions, kernel: &Kernel) -> Result<Ebpf, ProbeError> {
    let log_level = log::level(options.log);
    let watched = kernel.watched();
    let object = Object::of(&kernel.offsets, &kernel.facts);
    EbpfLoader::new()
        // It reads the kernel's types by itself, to relocate what our object does not have.
        .btf(None)
        .override_global("WATCHED", plain::bytes(&watched), true)
        .override_global("AYA_LOG_LEVEL", &log_level, false)
        .map_max_entries("EVENTS", options.ring_bytes)
        .map_max_entries("CALLS_EVEN", options.call_entries)
        .map_max_entries("CALLS_ODD", options.call_entries)
        .map_max_entries("WAITS_EVEN", options.wait_entries)
        .map_max_entries("WAITS_ODD", options.wait_entries)
        .map_max_entries("USAGE_EVEN", options.usage_entries)
        .map_max_entries("USAGE_ODD", options.usage_entries)
        .map_max_entries("TRAFFIC_EVEN", options.traffic_entries)
        .map_max_entries("TRAFFIC_ODD", options.traffic_entries)
        .map_max_entries("THREADS", options.thread_places)
        .map_max_entries("CROWDED", options.crowded_entries)
        .map_max_entries("CONNECTIONS", options.connection_entries)
        .map_max_entries("BLOCK_EVEN", options.block_entries)
        .map_max_entries("BLOCK_ODD", options.block_entries)
        .map_max_entries("INFLIGHT", options.request_entries)
        .map_max_entries("CPUS", cpus())
        .load(object.bytes())
        .map_err(|source| ProbeError::Load { source: Box::new(source) })
}

/// CPUs this host can have.
pub(super) fn cpus() -> u32 {
    aya::util::nr_cpus().map_or(1, |cpus| cpus as u32)
}

fn load_programs(ebpf: &mut Ebpf, kernel: &Kernel, btf: &Btf) -> Result<Vec<Program>, Rejected> {
    let mut programs = Vec::new();
    for program in PROGRAMS.iter().filter(|program| kernel.wants(program)) {
        load_program(ebpf, program, kernel.is_typed(), btf)
            .map_err(|error| Rejected { program: *program, reason: why(&error) })?;
        programs.push(*program);
    }
    Ok(programs)
}

fn load_program(ebpf: &mut Ebpf, program: &Program, typed: bool, btf: &Btf) -> Result<(), ProgramError> {
    let found = ebpf.program_mut(&name(program, typed)).ok_or(ProgramError::NotLoaded)?;
    if typed {
        let found: &mut BtfTracePoint = found.try_into()?;
        return found.load(program.hook, btf);
    }
    let found: &mut RawTracePoint = found.try_into()?;
    found.load()
}

fn fd<'a>(ebpf: &'a Ebpf, program: &Program, typed: bool) -> Result<&'a ProgramFd, ProgramError> {
    ebpf.program(&name(program, typed)).ok_or(ProgramError::NotLoaded)?.fd()
}

/// What the object calls the program.
fn name(program: &Program, typed: bool) -> String {
    if typed { program.hook.to_owned() } else { format!("raw_{}", program.hook) }
}

fn data(map: Map) -> Option<MapData> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::RingBuf(data) => {
            Some(data)
        }
        _ => None,
    }
}

/// Names in `report` what goes with a program the kernel refused.
fn leave_out(kernel: Kernel, rejected: &Rejected, report: &mut ProbeReport) -> Kernel {
    let Rejected { program, reason } = rejected;
    if program.needed_by & kernel.able == 0 {
        report.add("tcp_accept_owner", false, format!("{}: {reason}", program.hook));
        return kernel.without_finder(program.hook);
    }
    let first = program.first & kernel.able;
    let gone = if first != 0 { first } else { program.needed_by & kernel.able };
    for (bit, name, _) in GROUPS {
        if gone & bit != 0 {
            report.add(name, false, format!("{}: {reason}", program.hook));
        }
    }
    kernel.without(gone)
}

/// What the verifier says at its end that is no reason.
const FIGURES: [&str; 4] = ["processed", "verification time", "stack depth", "mark_precise"];

/// One line: what the loader says, and the verifier's last word where there is one.
fn why(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    let log = verifier_log.to_string();
    tracing::debug!(verifier = %log, "a program was refused");
    let says = |line: &&str| !line.trim().is_empty() && !FIGURES.iter().any(|figure| line.starts_with(figure));
    let locked = match sys::lockdown().as_deref() {
        Some("confidentiality") => {
            "; the kernel is in lockdown (confidentiality), in which no probe may copy its memory"
        }
        _ => "",
    };
    match log.lines().rev().find(says) {
        Some(line) => format!("the kernel refused the program ({io_error}): {}{locked}", line.trim()),
        None => format!("the kernel refused the program ({io_error}){locked}"),
    }
}
