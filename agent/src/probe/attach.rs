//! Loads the object with what this kernel needs to be told, and attaches what it accepts.

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{BtfTracePoint, ProgramError},
};
use skep_common::plain;

use super::{
    error::ProbeError,
    kernel::{GROUPS, Kernel, PROGRAMS, Program},
    log,
    object::OBJECT,
    options::ProbeOptions,
    report::ProbeReport,
};
use crate::error::chain;

/// The object in the kernel, not yet attached.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// What it was told.
    pub(super) kernel: Kernel,
    /// The programs that have something to do.
    pub(super) programs: Vec<Program>,
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
    let btf = Btf::from_sys_fs().map_err(|source| ProbeError::LoaderBtf { source: Box::new(source) })?;
    loop {
        if kernel.able == 0 {
            return Err(ProbeError::Nothing { report: report.clone() });
        }
        let mut ebpf = create(options, &kernel, &btf)?;
        match load_programs(&mut ebpf, &kernel, &btf) {
            Ok(programs) => return Ok(Loaded { ebpf, kernel, programs }),
            Err(rejected) => kernel = leave_out(kernel, &rejected, report),
        }
    }
}

/// Attaches the programs, in the order of [`PROGRAMS`].
///
/// Errors: [`ProbeError::Nothing`] when the kernel refuses one it has accepted: nobody knows what to leave out then.
pub(super) fn attach(loaded: &mut Loaded, report: &mut ProbeReport) -> Result<(), ProbeError> {
    for program in &loaded.programs {
        let attached = tracepoint(&mut loaded.ebpf, program).and_then(|program| program.attach().map(drop));
        if let Err(error) = attached {
            report.add(program.name, false, format!("cannot be attached: {}", chain(&error)));
            return Err(ProbeError::Nothing { report: report.clone() });
        }
    }
    for (bit, name, gives) in GROUPS {
        if loaded.kernel.able & bit != 0 {
            report.add(name, true, gives);
        }
    }
    Ok(())
}

fn create(options: &ProbeOptions, kernel: &Kernel, btf: &Btf) -> Result<Ebpf, ProbeError> {
    let log_level = log::level(options.log);
    let cpus = aya::util::nr_cpus().map_or(1, |cpus| cpus as u32);
    EbpfLoader::new()
        .btf(Some(btf))
        .override_global("OFFSETS", plain::bytes(&kernel.offsets), true)
        .override_global("FACTS", plain::bytes(&kernel.facts), true)
        .override_global("AYA_LOG_LEVEL", &log_level, false)
        .map_max_entries("EVENTS", options.ring_bytes)
        .map_max_entries("SYSCALLS_EVEN", options.syscall_entries)
        .map_max_entries("SYSCALLS_ODD", options.syscall_entries)
        .map_max_entries("CPU_EVEN", options.cpu_entries)
        .map_max_entries("CPU_ODD", options.cpu_entries)
        .map_max_entries("DELAYS_EVEN", options.delay_entries)
        .map_max_entries("DELAYS_ODD", options.delay_entries)
        .map_max_entries("TASKS", options.task_entries)
        .map_max_entries("CONNECTIONS", options.connection_entries)
        .map_max_entries("RUNNING", cpus)
        .map_max_entries("TAILS", cpus)
        .load(OBJECT)
        .map_err(|source| ProbeError::Load { source: Box::new(source) })
}

fn load_programs(ebpf: &mut Ebpf, kernel: &Kernel, btf: &Btf) -> Result<Vec<Program>, Rejected> {
    let mut programs = Vec::new();
    for program in PROGRAMS.iter().filter(|program| kernel.wants(program)) {
        tracepoint(ebpf, program)
            .and_then(|tracepoint| tracepoint.load(program.name, btf))
            .map_err(|error| Rejected { program: *program, reason: why(&error) })?;
        programs.push(*program);
    }
    Ok(programs)
}

fn tracepoint<'a>(ebpf: &'a mut Ebpf, program: &Program) -> Result<&'a mut BtfTracePoint, ProgramError> {
    ebpf.program_mut(program.name).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// Names in `report` what goes with a program the kernel refused.
fn leave_out(mut kernel: Kernel, rejected: &Rejected, report: &mut ProbeReport) -> Kernel {
    let Rejected { program, reason } = rejected;
    if program.needed_by & kernel.able == 0 {
        report.add("tcp_accept_owner", false, format!("{}: {reason}", program.name));
        kernel.facts.accept = 0;
        return kernel;
    }
    for (bit, name, _) in GROUPS {
        if program.needed_by & kernel.able & bit != 0 {
            report.add(name, false, format!("{}: {reason}", program.name));
            kernel = kernel.without(bit);
        }
    }
    kernel
}

/// One line: what the loader says, and the verifier's last word where there is one.
fn why(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    let log = verifier_log.to_string();
    tracing::debug!(verifier = %log, "a program was refused");
    let last = log.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("processed"));
    match last {
        Some(line) => format!("the kernel refused the program ({io_error}): {}", line.trim()),
        None => format!("the kernel refused the program ({io_error})"),
    }
}
