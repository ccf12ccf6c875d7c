//! What is remembered of processes: who started whom, who feeds whom, and how fast somebody looks around.
//!
//! Keyed by node and process id; bounded whatever the number of nodes and processes. What is forgotten costs a fact, never
//! an error.

use std::sync::Arc;

use crate::aging::Aging;
use crate::event::{Connection, Exec};
use crate::facts::{Facts, Field};
use crate::names::plain_name;

/// Processes remembered, over all nodes.
const MAX_PROCESSES: usize = 50_000;

/// Pipes whose writer is remembered.
const MAX_PIPES: usize = 10_000;

/// Parents whose children are counted.
const MAX_PARENTS: usize = 10_000;

/// Ancestors told of.
const MAX_ANCESTORS: usize = 8;

/// Longest command line kept of a parent.
const MAX_LINE_BYTES: usize = 512;

/// A burst is over after this.
const BURST_US: i64 = 60_000_000;

/// Different looks around that make a burst.
const BURST: usize = 5;

/// Different ports or addresses that make a scan.
const SCAN: usize = 10;

/// How many of its parent's execs ago the other end of a pipe may have started, where inodes are not known.
const SIBLINGS: usize = 4;

type Key = (u64, i64);

#[derive(Debug, Clone)]
struct Process {
    exe: Arc<str>,
    command_line: Arc<str>,
    ppid: i64,
}

#[derive(Debug, Default)]
struct Children {
    /// The youngest siblings: process id, and the classes of those that write somewhere.
    last: Vec<(i64, Vec<&'static str>)>,
    looks: Distinct,
}

#[derive(Debug, Default)]
struct Distinct {
    since_us: i64,
    hashes: Vec<u64>,
}

impl Distinct {
    /// Counts different values within [`BURST_US`]; whether this one makes it `most`.
    fn reaches(&mut self, value: u64, now_us: i64, most: usize) -> bool {
        if now_us - self.since_us > BURST_US || now_us < self.since_us {
            self.since_us = now_us;
            self.hashes.clear();
        }
        if self.hashes.len() >= most || self.hashes.contains(&value) {
            return false;
        }
        self.hashes.push(value);
        self.hashes.len() == most
    }
}

/// See the module.
#[derive(Debug)]
pub struct Table {
    processes: Aging<Key, Process>,
    pipes: Aging<(u64, i64), Vec<&'static str>>,
    /// Who waits at a pipe for code; of the two ends of one, either may begin first.
    readers: Aging<(u64, i64), &'static str>,
    children: Aging<Key, Children>,
    dialers: Aging<Key, Distinct>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            processes: Aging::new(MAX_PROCESSES),
            pipes: Aging::new(MAX_PIPES),
            readers: Aging::new(MAX_PIPES),
            children: Aging::new(MAX_PARENTS),
            dialers: Aging::new(MAX_PARENTS),
        }
    }
}

/// What the table knows about the family of an exec that was recorded without.
#[derive(Debug, Default)]
pub struct Family {
    /// The parent's command line.
    pub parent_command_line: Option<Arc<str>>,
    /// Executables from the parent outwards.
    pub ancestors: Vec<Arc<str>>,
}

impl Table {
    /// Who is above an exec. A remembered process is believed to be the parent only if it is the program the event names.
    pub fn family(&self, exec: &Exec<'_>) -> Family {
        let node = hash(exec.node);
        let mut family = Family::default();
        let mut at = exec.ppid;
        // Of one that was recorded with its ancestors, only the parent's command line is asked for.
        let most = if exec.ancestors.is_empty() { MAX_ANCESTORS } else { 1 };
        while family.ancestors.len() < most && at != 0 {
            let Some(process) = self.processes.peek(&(node, at)) else { break };
            if family.ancestors.is_empty() {
                let other = !exec.parent.is_empty() && plain_name(exec.parent) != plain_name(&process.exe);
                let line = exec.parent_command_line;
                if other || !line.is_empty() && !line.starts_with(&*process.command_line) {
                    break;
                }
                family.parent_command_line = Some(Arc::clone(&process.command_line));
            }
            family.ancestors.push(Arc::clone(&process.exe));
            if process.ppid == at {
                break;
            }
            at = process.ppid;
        }
        family
    }

    /// Remembers an exec and adds what only memory tells.
    pub fn exec(&mut self, exec: &Exec<'_>, facts: &mut Facts<'_>) {
        let node = hash(exec.node);
        self.pipe(node, exec, facts);
        let classes = feeding(facts);
        if exec.stdout_inode != 0 && !classes.is_empty() {
            if let Some(reader) = self.readers.remove(&(node, exec.stdout_inode)) {
                classes.iter().for_each(|class| facts.add(Field::PipeTo, format!("{class}_to_{reader}")));
            }
            self.pipes.put((node, exec.stdout_inode), classes.clone());
        }
        if let Some(reader) = waiting(exec, facts) {
            self.readers.put((node, exec.stdin_inode), reader);
        }
        self.siblings(node, exec, classes, facts);
        if exec.pid != 0 {
            let mut end = exec.command_line.len().min(MAX_LINE_BYTES);
            while !exec.command_line.is_char_boundary(end) {
                end -= 1;
            }
            let process =
                Process { exe: exec.path().into(), command_line: exec.command_line[..end].into(), ppid: exec.ppid };
            self.processes.put((node, exec.pid), process);
        }
    }

    /// A process has ended.
    pub fn exit(&mut self, node: &str, pid: i64) {
        let node = hash(node);
        self.children.remove(&(node, pid));
        self.dialers.remove(&(node, pid));
        // Its children may still ask for it: it goes with its generation.
    }

    /// Adds what only memory tells of a connection.
    pub fn connection(&mut self, connection: &Connection<'_>, facts: &mut Facts<'_>) {
        if connection.pid == 0 || !connection.outgoing {
            return;
        }
        let key = (hash(connection.node), connection.pid);
        let other_end = hash(&format!("{} {}", connection.remote_address, connection.remote_port));
        if self.dialers.get(&key).is_none() {
            self.dialers.put(key, Distinct::default());
        }
        if let Some(dialed) = self.dialers.get(&key)
            && dialed.reaches(other_end, connection.time_us, SCAN)
        {
            facts.add(Field::Repeat, "scan");
        }
    }

    fn pipe(&mut self, node: u64, exec: &Exec<'_>, facts: &mut Facts<'_>) {
        if exec.stdin_inode == 0 {
            return;
        }
        if let Some(classes) = self.pipes.peek(&(node, exec.stdin_inode)) {
            classes.iter().for_each(|class| facts.add(Field::PipeFrom, *class));
        }
    }

    /// Neighbours in a pipeline where inodes are not known, and bursts.
    fn siblings(&mut self, node: u64, exec: &Exec<'_>, classes: Vec<&'static str>, facts: &mut Facts<'_>) {
        if exec.ppid == 0 {
            return;
        }
        let key = (node, exec.ppid);
        if self.children.get(&key).is_none() {
            self.children.put(key, Children::default());
        }
        let Some(children) = self.children.get(&key) else { return };
        let guess = exec.stdin_inode == 0 && (!exec.streams_known || exec.has("stdin_pipe"));
        if guess {
            // The nearest sibling that writes somewhere; with process ids in order, else somebody else's.
            let near = children.last.iter().rev().find(|(pid, classes)| *pid < exec.pid && !classes.is_empty());
            if let Some((pid, classes)) = near
                && exec.pid - pid <= SIBLINGS as i64
            {
                classes.iter().for_each(|class| facts.add(Field::PipeFrom, *class));
            }
        }
        children.last.push((exec.pid, classes));
        if children.last.len() > SIBLINGS {
            children.last.remove(0);
        }
        let looks = facts.has(Field::Class, "host_discovery") || facts.has(Field::Class, "network_discovery");
        if looks && children.looks.reaches(hash(exec.command_line), exec.time_us, BURST) {
            facts.add(Field::BurstDiscovery, "true");
        }
    }
}

/// Classes of a program whose output may be run by who reads it; empty for all others.
fn feeding(facts: &Facts<'_>) -> Vec<&'static str> {
    const FEEDING: &[&str] = &["fetcher", "decoder", "netcat", "archiver", "encryptor", "viewer", "dialer"];
    let classes = facts.get(Field::Class).iter();
    let mut found: Vec<&'static str> =
        classes.filter_map(|class| FEEDING.iter().find(|own| *own == class)).copied().collect();
    let has = |argument: &str| facts.has(Field::Arg, argument);
    if found.contains(&"decoder") && (has("-d") || has("--decode") || has("-D") || has("-r") || has("--decrypt")) {
        found.push("decoding");
    }
    if found.contains(&"fetcher") {
        let wget = facts.has(Field::Tool, "wget");
        let to_file = has("-o") || has("-O") && !wget || has("--output");
        let to_stdout = || has("-") || has("-O-") || has("-qO-") || has("-q0-") || has("/dev/stdout");
        if to_file || wget && !to_stdout() {
            found.retain(|class| *class != "fetcher");
        }
    }
    if has("s_client") {
        found.push("dialer");
    }
    if facts.has(Field::Class, "shell") {
        found.push("shell");
    }
    found
}

/// What an exec is that will run whatever comes through its pipe, which nobody was seen to fill yet.
fn waiting(exec: &Exec<'_>, facts: &Facts<'_>) -> Option<&'static str> {
    if exec.stdin_inode == 0 || !facts.get(Field::PipeFrom).is_empty() {
        return None;
    }
    let shell = facts.has(Field::Class, "shell") && facts.has(Field::Script, "stdin");
    let code = || facts.has(Field::Class, "interpreter") && exec.argv.iter().skip(1).all(|argument| *argument == "-");
    if shell { Some("shell") } else { code().then_some("interpreter") }
}

/// A number for a text, the same in one run.
pub(crate) fn hash(text: &str) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::default().hash_one(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse;
    use crate::words::Words;

    fn step(table: &mut Table, words: &Words, exec: &Exec<'_>) -> Vec<String> {
        let shared = analyse::Sharing::default().of(words, exec);
        let mut facts = Facts::default();
        analyse::exec(words, exec, &shared, &mut facts);
        table.exec(exec, &mut facts);
        facts.get(Field::PipeFrom).iter().map(|class| class.to_string()).collect()
    }

    fn exec<'a>(pid: i64, argv: &[&'a str], line: &'a str) -> Exec<'a> {
        Exec { pid, ppid: 7, exe: argv[0], argv: argv.to_vec(), command_line: line, ..Exec::default() }
    }

    #[test]
    fn ends_of_one_pipe_are_linked() {
        let (mut table, words) = (Table::default(), Words::parse(crate::pack::WORDS).unwrap());
        let curl = Exec { stdout_inode: 99, streams_known: true, ..exec(10, &["curl", "http://h"], "curl http://h") };
        let sh = Exec { stdin_inode: 99, streams_known: true, ..exec(500, &["sh"], "sh") };
        let other = Exec { stdin_inode: 98, streams_known: true, ..exec(501, &["sh"], "sh") };
        step(&mut table, &words, &curl);
        assert!(step(&mut table, &words, &sh).contains(&"fetcher".to_owned()));
        assert_eq!(step(&mut table, &words, &other), [""; 0]);
    }

    #[test]
    fn the_reader_of_a_pipe_may_be_there_first() {
        let (mut table, words) = (Table::default(), Words::parse(crate::pack::WORDS).unwrap());
        let to = |table: &mut Table, exec: &Exec<'_>| {
            let shared = analyse::Sharing::default().of(&words, exec);
            let mut facts = Facts::default();
            analyse::exec(&words, exec, &shared, &mut facts);
            table.exec(exec, &mut facts);
            facts.get(Field::PipeTo).iter().map(|what| what.to_string()).collect::<Vec<_>>()
        };
        let sh = Exec { stdin_inode: 99, streams_known: true, ..exec(500, &["sh"], "sh") };
        let curl = Exec { stdout_inode: 99, streams_known: true, ..exec(10, &["curl", "http://h"], "curl http://h") };
        assert_eq!(to(&mut table, &sh), [""; 0]);
        assert!(to(&mut table, &curl).contains(&"fetcher_to_shell".to_owned()));
        assert_eq!(to(&mut table, &curl), [""; 0], "told once");
        let script = Exec { stdin_inode: 98, streams_known: true, ..exec(501, &["sh", "x.sh"], "sh x.sh") };
        assert_eq!(to(&mut table, &script), [""; 0]);
        assert_eq!(to(&mut table, &Exec { stdout_inode: 98, ..curl }), [""; 0], "the pipe is data there");
    }

    #[test]
    fn neighbours_are_guessed_where_nothing_is_known_of_streams() {
        let (mut table, words) = (Table::default(), Words::parse(crate::pack::WORDS).unwrap());
        step(&mut table, &words, &exec(10, &["base64", "-d"], "base64 -d"));
        assert!(step(&mut table, &words, &exec(11, &["bash"], "bash")).contains(&"decoding".to_owned()));
        let known = Exec { streams_known: true, ..exec(12, &["bash"], "bash") };
        assert_eq!(step(&mut table, &words, &known), [""; 0]);
        step(&mut table, &words, &exec(20, &["wget", "http://h"], "wget http://h"));
        assert_eq!(step(&mut table, &words, &exec(21, &["sh"], "sh")), [""; 0]);
    }

    #[test]
    fn ancestors_are_believed_only_if_they_fit() {
        let mut table = Table::default();
        for (pid, ppid, exe) in [(5, 1, "/usr/sbin/sshd"), (6, 5, "/usr/bin/bash"), (7, 6, "/usr/bin/dash")] {
            let exec = Exec { pid, ppid, exe, command_line: exe, ..Exec::default() };
            table.exec(&exec, &mut Facts::default());
        }
        let child = Exec { pid: 8, ppid: 7, parent: "/usr/bin/dash", ..Exec::default() };
        let ancestors = table.family(&child).ancestors;
        assert_eq!(
            ancestors.iter().map(|path| &**path).collect::<Vec<_>>(),
            ["/usr/bin/dash", "/usr/bin/bash", "/usr/sbin/sshd"]
        );
        let stranger = Exec { parent: "/usr/bin/make", ..child };
        assert!(table.family(&stranger).ancestors.is_empty());
    }

    #[test]
    fn five_looks_in_a_minute_are_a_burst() {
        let (mut table, words) = (Table::default(), Words::parse(crate::pack::WORDS).unwrap());
        let mut burst = Vec::new();
        for (second, line) in ["id", "id", "whoami", "uname -a", "hostname", "ps aux", "df -h"].into_iter().enumerate()
        {
            let argv: Vec<&str> = line.split(' ').collect();
            let exec = Exec { time_us: second as i64 * 1_000_000, ..exec(10, &argv, line) };
            let shared = analyse::Sharing::default().of(&words, &exec);
            let mut facts = Facts::default();
            analyse::exec(&words, &exec, &shared, &mut facts);
            table.exec(&exec, &mut facts);
            burst.extend(facts.has(Field::BurstDiscovery, "true").then_some(line));
        }
        assert_eq!(burst, ["ps aux"]);
    }

    #[test]
    fn ten_ports_in_a_minute_are_a_scan() {
        let mut table = Table::default();
        let mut scans = 0;
        for port in 1..50 {
            let connection = Connection {
                pid: 4,
                outgoing: true,
                remote_address: "10.0.0.5",
                remote_port: port,
                ..Connection::default()
            };
            let mut facts = Facts::default();
            table.connection(&connection, &mut facts);
            scans += usize::from(facts.has(Field::Repeat, "scan"));
        }
        assert_eq!(scans, 1);
    }
}
