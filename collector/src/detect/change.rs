//! What changed: services that were started again, that run another program than before or another release of it.
//!
//! Known of each service is which programs it ran, and which file that was. What came first is learned, for a while from a
//! node's first row; a program's own file, once seen, is known at once. No finding comes of it: it is told in incidents.

use std::collections::HashMap;

use skep_rules::aging::Aging;
use skep_wire::chunk::Row;

/// A service's programs are only learned for so long after its first.
const LEARNING_US: i64 = 10 * 60 * 1_000_000;

/// Starts of one service within this are one.
const AGAIN_US: i64 = 60 * 1_000_000;

/// Services that are known at the least, and twice as many at the most: those that ran something longest ago go.
const SERVICES: usize = 10_000;

/// Programs of one service that are known. Who runs more has no programs of its own.
const MAX_PROGRAMS: usize = 100;

/// What runs services' main programs.
const STARTERS: [&str; 2] = ["/systemd", "/systemd-executor"];

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Whose.
    pub workload: String,
    /// One line for people.
    pub what: String,
    /// When.
    pub time_us: i64,
}

#[derive(Debug)]
struct Service {
    since_us: i64,
    told_us: i64,
    /// Program to the inode of its file; 0 where that is not known.
    programs: HashMap<String, i64>,
    container: Option<String>,
}

/// What services ran so far.
#[derive(Debug)]
pub struct Changes {
    services: Aging<(String, String), Service>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { services: Aging::new(SERVICES) }
    }
}

impl Changes {
    /// Takes a row of `processes`.
    pub fn row(&mut self, node: &str, row: &Row<'_>) -> Option<Changed> {
        let event = row.text("event").filter(|event| matches!(*event, "exec" | "running"))?;
        let workload = row.text("workload").filter(|workload| is_service(workload))?;
        let (exe, time_us) = (row.text("exe").filter(|exe| !is_starter(exe))?, row.int("time")?);
        let name = (node.to_owned(), workload.to_owned());
        if self.services.get(&name).is_none() {
            let (programs, container) = (HashMap::new(), None);
            self.services.put(name.clone(), Service { since_us: time_us, told_us: i64::MIN, programs, container });
        }
        let service = self.services.get(&name)?;
        let what = service.exec(row, workload, exe, time_us)?;
        // What was there already did not begin now.
        let again = time_us.saturating_sub(service.told_us) < AGAIN_US;
        if event == "running" || again {
            return None;
        }
        service.told_us = time_us;
        Some(Changed { workload: workload.to_owned(), what, time_us })
    }
}

impl Service {
    /// Learns that it runs a program; what is new about that.
    fn exec(&mut self, row: &Row<'_>, workload: &str, exe: &str, time_us: i64) -> Option<String> {
        let inode = row.int("exe_inode").unwrap_or(0);
        let container = row.text("container_id");
        let before = container.and_then(|id| self.container.replace(id.to_owned()));
        let is_young = time_us - self.since_us < LEARNING_US;
        if let Some(known) = self.programs.get_mut(exe) {
            let other = *known != 0 && inode != 0 && *known != inode;
            *known = inode;
            if other {
                return Some(format!("{workload} runs another {exe} than before: it was replaced"));
            }
            let is_main = row.text("parent_exe").or_else(|| row.text("parent_comm")).is_some_and(is_starter);
            let moved = before.is_some_and(|before| Some(before.as_str()) != container);
            return match moved {
                true => Some(format!("{workload} has a new container, which runs {exe}")),
                false => is_main.then(|| format!("{workload} was started again: {exe}")),
            };
        }
        if self.programs.len() >= MAX_PROGRAMS {
            return None;
        }
        self.programs.insert(exe.to_owned(), inode);
        (!is_young).then(|| format!("{workload} runs {exe} for the first time"))
    }
}

/// Logins, and what is no workload, run what people like.
fn is_service(workload: &str) -> bool {
    ["unit:", "pod:", "container:", "cgroup:"].iter().any(|kind| workload.starts_with(kind))
        && !workload.contains("session-")
}

fn is_starter(exe: &str) -> bool {
    exe == "systemd" || STARTERS.iter().any(|starter| exe.ends_with(starter))
}

#[cfg(test)]
mod tests {
    use skep_wire::chunk::{self, Builder};
    use skep_wire::tables::PROCESSES;

    use super::*;

    const MINUTE: i64 = 60_000_000;

    struct Ran<'a> {
        minute: i64,
        workload: &'a str,
        exe: &'a str,
        inode: i64,
        parent: &'a str,
        container: Option<&'a str>,
    }

    const NGINX: Ran<'static> = Ran {
        minute: 0,
        workload: "unit:web.service",
        exe: "/usr/sbin/nginx",
        inode: 7,
        parent: "/usr/lib/systemd/systemd",
        container: None,
    };

    fn run(changes: &mut Changes, ran: &Ran<'_>, event: &str) -> Option<String> {
        let mut row = Builder::new(&PROCESSES);
        row.int("time", ran.minute * MINUTE).text("event", event).int("pid", 5).int("start_ns", 1).text("comm", "x");
        row.text("workload", ran.workload)
            .text("attribution", "exact")
            .text("exe", ran.exe)
            .int("exe_inode", ran.inode);
        row.int("parent_pid", 1).text("parent_exe", ran.parent).maybe_text("container_id", ran.container);
        row.bool("argv_truncated", false).end_row().unwrap();
        let chunk = row.finish().unwrap();
        chunk::rows(&chunk).find_map(|row| changes.row("n", &row)).map(|changed| changed.what)
    }

    #[test]
    fn a_restart_a_new_release_and_a_new_program_are_told() {
        let mut changes = Changes::default();
        assert_eq!(run(&mut changes, &NGINX, "running"), None);
        let at = |minute| Ran { minute, ..NGINX };
        let again = run(&mut changes, &at(5), "exec");
        assert_eq!(again.as_deref(), Some("unit:web.service was started again: /usr/sbin/nginx"));
        assert_eq!(run(&mut changes, &at(5), "exec"), None, "within a minute it is the same start");
        assert_eq!(run(&mut changes, &Ran { parent: "/usr/sbin/nginx", ..at(8) }, "exec"), None, "its own child");
        let replaced = run(&mut changes, &Ran { inode: 8, ..at(10) }, "exec").unwrap();
        assert!(replaced.contains("another /usr/sbin/nginx than before"), "{replaced}");
        let first = run(&mut changes, &Ran { exe: "/bin/sh", ..at(12) }, "exec");
        assert_eq!(first.as_deref(), Some("unit:web.service runs /bin/sh for the first time"));
        assert_eq!(run(&mut changes, &Ran { exe: "/usr/lib/systemd/systemd-executor", ..at(15) }, "exec"), None);
    }

    #[test]
    fn what_comes_first_is_learned_and_logins_are_let_be() {
        let mut changes = Changes::default();
        assert_eq!(run(&mut changes, &NGINX, "exec"), None);
        assert_eq!(run(&mut changes, &Ran { exe: "/bin/sh", minute: 3, ..NGINX }, "exec"), None);
        let login = Ran { workload: "session:4", ..NGINX };
        assert_eq!(run(&mut changes, &login, "exec"), None);
        assert_eq!(run(&mut changes, &Ran { minute: 60, exe: "/bin/vi", ..login }, "exec"), None);
    }

    #[test]
    fn a_pod_with_another_container_was_deployed() {
        let mut changes = Changes::default();
        let pod = Ran { workload: "pod:shop/web", parent: "runc", container: Some("one"), ..NGINX };
        assert_eq!(run(&mut changes, &pod, "exec"), None);
        let next = Ran { minute: 2, container: Some("two"), ..pod };
        let told = run(&mut changes, &next, "exec");
        assert_eq!(told.as_deref(), Some("pod:shop/web has a new container, which runs /usr/sbin/nginx"));
    }
}
