//! Rows of `security`.

use skep_wire::chunk::{Builder, ChunkError};

use super::capability;
use super::rows::Who;
use crate::probe::reading::{Security, SecurityEvent};
use crate::probe::syscall_name;

/// Requests of ptrace the probes tell of, include/uapi/linux/ptrace.h.
const REQUESTS: [(u64, &str); 8] = [
    (4, "POKETEXT"),
    (5, "POKEDATA"),
    (6, "POKEUSER"),
    (13, "SETREGS"),
    (15, "SETFPREGS"),
    (16, "ATTACH"),
    (0x4205, "SETREGSET"),
    (0x4206, "SEIZE"),
];

/// Commands of bpf the probes tell of, include/uapi/linux/bpf.h.
const COMMANDS: [(u64, &str); 5] =
    [(0, "MAP_CREATE"), (5, "PROG_LOAD"), (8, "PROG_ATTACH"), (17, "RAW_TRACEPOINT_OPEN"), (28, "LINK_CREATE")];

/// A row of `security`.
///
/// # Errors
/// [`ChunkError`]: too many rows.
pub fn row(row: &mut Builder, time_us: i64, who: &Who<'_>, seen: &Security) -> Result<(), ChunkError> {
    row.int("time", time_us).text("event", name(&seen.event));
    who.write(row);
    row.int("parent_pid", i64::from(seen.subject.parent.pid));
    if let SecurityEvent::Ptrace { target, .. } = seen.event {
        row.int("target_pid", i64::from(target));
    }
    row.maybe_int("result", seen.result).text_list("detail", &detail(&seen.event)).end_row()
}

fn name(event: &SecurityEvent) -> &'static str {
    match event {
        SecurityEvent::OomKill { .. } => "oom_kill",
        SecurityEvent::ModuleLoad { .. } => "module_load",
        SecurityEvent::Credentials { .. } => "credentials",
        SecurityEvent::Ptrace { .. } => "ptrace",
        SecurityEvent::Bpf { .. } => "bpf",
        SecurityEvent::IoUringSetup { .. } => "io_uring_setup",
    }
}

fn detail(event: &SecurityEvent) -> Vec<String> {
    match event {
        SecurityEvent::OomKill { wanted_by, comm } => {
            vec![format!("wanted_by_pid={wanted_by}"), named("wanted_by", comm)]
        }
        SecurityEvent::ModuleLoad { name, taints } => vec![named("name", name), format!("taints={taints:#x}")],
        SecurityEvent::Credentials { nr, ids, capabilities } => changes(*nr, ids, *capabilities),
        SecurityEvent::Ptrace { request, .. } => vec![format!("request={}", of(&REQUESTS, *request))],
        SecurityEvent::Bpf { command, kind, name } => {
            let mut detail = vec![format!("command={}", of(&COMMANDS, *command)), format!("type={kind}")];
            if !name.is_empty() {
                detail.push(named("name", name));
            }
            detail
        }
        SecurityEvent::IoUringSetup { entries, flags } => {
            vec![format!("entries={entries}"), format!("flags={flags:#x}")]
        }
    }
}

/// What a call changed, as `uid=0->1000`.
fn changes(nr: u32, ids: &[(u32, u32); 4], (before, after): (u64, u64)) -> Vec<String> {
    let call = syscall_name(nr).map_or_else(|| nr.to_string(), str::to_owned);
    let mut detail = vec![format!("syscall={call}")];
    for (name, (before, after)) in ["uid", "euid", "gid", "egid"].iter().zip(ids) {
        if before != after {
            detail.push(format!("{name}={before}->{after}"));
        }
    }
    for (name, set) in [("gained", after & !before), ("dropped", before & !after)] {
        if set != 0 {
            detail.push(format!("{name}={}", capability::names(set).join(",")));
        }
    }
    detail
}

fn of(names: &[(u64, &str)], value: u64) -> String {
    names.iter().find(|(number, _)| *number == value).map_or_else(|| value.to_string(), |(_, name)| (*name).to_owned())
}

fn named(key: &str, text: &[u8]) -> String {
    format!("{key}={}", String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        let event = SecurityEvent::Credentials {
            nr: u32::try_from(libc::SYS_setresuid).unwrap(),
            ids: [(0, 0), (0, 1_000), (0, 0), (0, 0)],
            capabilities: (1 << 7 | 1 << 21, 1 << 7),
        };
        assert_eq!(detail(&event), ["syscall=setresuid", "euid=0->1000", "dropped=sys_admin"]);
    }

    #[test]
    fn numbers_nobody_named_stay_numbers() {
        let event = SecurityEvent::Bpf { command: 99, kind: 3, name: Vec::new() };
        assert_eq!(detail(&event), ["command=99", "type=3"]);
        assert_eq!(detail(&SecurityEvent::Ptrace { target: 1, request: 16 }), ["request=ATTACH"]);
    }
}
