//! What a command asks for, in words: the columns `verb` and `parameters` of `actions`, the same everywhere.
//!
//! Parameters are `name=value`, separated by blanks; a blank or a percent sign within a value is `%20` or `%25`.
//! [`parameters`] writes them and [`read`] is its inverse, for rows read back and for what people type.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use thiserror::Error;

use crate::v1::command::Action;
use crate::v1::{self, Command, ContainerVerb, ObjectVerb, Scope, Signal, UnitVerb};

/// Everything that can be asked for and is no word on another action.
pub const VERBS: [&str; 23] = [
    "throttle",
    "limit_memory",
    "limit_io",
    "freeze",
    "kill",
    "restart_unit",
    "reload_unit",
    "stop_unit",
    "start_unit",
    "block",
    "isolate",
    "clean",
    "run",
    "restart_container",
    "pause_container",
    "unpause_container",
    "evict_pod",
    "delete_pod",
    "restart_rollout",
    "scale",
    "undo_rollout",
    "cordon",
    "uncordon",
];

/// Those that an executor carries out on its host; the others are for a cluster.
pub const HOST_VERBS: &[&str] = VERBS.split_at(16).0;

/// Those that the collector carries out on its cluster.
pub const CLUSTER_VERBS: &[&str] = VERBS.split_at(16).1;

/// What orders and rows call the cluster where nodes have their names.
pub const CLUSTER: &str = "kubernetes";

const SCOPES: [(&str, Scope); 3] = [("process", Scope::Process), ("tree", Scope::Tree), ("workload", Scope::Workload)];

const UNIT_VERBS: [(&str, UnitVerb); 4] = [
    ("restart_unit", UnitVerb::Restart),
    ("reload_unit", UnitVerb::Reload),
    ("stop_unit", UnitVerb::Stop),
    ("start_unit", UnitVerb::Start),
];

const CONTAINER_VERBS: [(&str, ContainerVerb); 3] = [
    ("restart_container", ContainerVerb::Restart),
    ("pause_container", ContainerVerb::Pause),
    ("unpause_container", ContainerVerb::Unpause),
];

const OBJECT_VERBS: [(&str, ObjectVerb); 7] = [
    ("evict_pod", ObjectVerb::Evict),
    ("delete_pod", ObjectVerb::Delete),
    ("restart_rollout", ObjectVerb::Restart),
    ("scale", ObjectVerb::Scale),
    ("undo_rollout", ObjectVerb::UndoRollout),
    ("cordon", ObjectVerb::Cordon),
    ("uncordon", ObjectVerb::Uncordon),
];

/// What a rollout can be of; that of a pod is that of what controls it.
const ROLLOUTS: [(&str, &str); 4] =
    [("deployment", "deployment"), ("statefulset", "statefulset"), ("daemonset", "daemonset"), ("pod", "pod")];

const SIGNALS: [(&str, Signal); 5] = [
    ("cpu_cores", Signal::CpuCores),
    ("memory_bytes", Signal::MemoryBytes),
    ("io_bytes_per_s", Signal::IoBytesPerS),
    ("unit_down", Signal::UnitDown),
    ("disk_used_ratio", Signal::DiskUsedRatio),
];

/// What the column `verb` says where nothing else is known.
pub const UNKNOWN: &str = "unknown";

/// Why a verb and parameters are no command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// No such verb.
    #[error("{verb:?} is none of {}", VERBS.join(", "))]
    Verb {
        /// As given.
        verb: String,
    },
    /// Not `name=value`.
    #[error("{word:?} is not of the form name=value")]
    Word {
        /// As given.
        word: String,
    },
    /// One that must be there.
    #[error("{verb} needs {name}=")]
    Missing {
        /// The verb.
        verb: String,
        /// The parameter.
        name: &'static str,
    },
    /// A value that does not fit.
    #[error("{name}={value} is not what {name} can be")]
    Value {
        /// The parameter.
        name: &'static str,
        /// As given.
        value: String,
    },
    /// The verb does not have it.
    #[error("{verb} has no parameter {name}")]
    Stray {
        /// The verb.
        verb: String,
        /// The parameter.
        name: String,
    },
}

/// The verb of an action.
pub fn verb(action: Option<&Action>) -> &'static str {
    match action {
        Some(Action::Throttle(_)) => "throttle",
        Some(Action::Undo(_)) => "undo",
        Some(Action::Extend(_)) => "extend",
        Some(Action::LimitMemory(_)) => "limit_memory",
        Some(Action::LimitIo(_)) => "limit_io",
        Some(Action::Freeze(_)) => "freeze",
        Some(Action::Kill(_)) => "kill",
        Some(Action::ChangeUnit(change)) => name_of(&UNIT_VERBS, change.verb()).unwrap_or(UNKNOWN),
        Some(Action::Block(_)) => "block",
        Some(Action::Isolate(_)) => "isolate",
        Some(Action::Clean(_)) => "clean",
        Some(Action::Run(_)) => "run",
        Some(Action::ChangeContainer(change)) => name_of(&CONTAINER_VERBS, change.verb()).unwrap_or(UNKNOWN),
        Some(Action::ChangeObject(change)) => name_of(&OBJECT_VERBS, change.verb()).unwrap_or(UNKNOWN),
        None => UNKNOWN,
    }
}

/// Whether an action of this verb stands until its lease ends; the others cannot be undone.
pub fn is_leased(verb: &str) -> bool {
    matches!(
        verb,
        "throttle"
            | "limit_memory"
            | "limit_io"
            | "freeze"
            | "stop_unit"
            | "block"
            | "isolate"
            | "pause_container"
            | "scale"
            | "undo_rollout"
            | "cordon"
    )
}

/// Whether it is carried out on the cluster, by the collector.
pub fn is_for_cluster(verb: &str) -> bool {
    CLUSTER_VERBS.contains(&verb)
}

/// Whether it starts something anew, which must not become a habit.
pub fn is_restart(verb: &str) -> bool {
    matches!(verb, "restart_unit" | "restart_container" | "restart_rollout")
}

/// The workload a command names by itself: a unit, a container or an object of a cluster.
pub fn named(command: &Command) -> Option<String> {
    let target = command.target.as_ref()?;
    if let Some(unit) = &target.unit {
        return Some(format!("unit:{}", unit.name));
    }
    if let Some(container) = &target.container {
        return Some(format!("container:{}", container.id));
    }
    let v1::ObjectTarget { namespace, kind, name, .. } = target.object.as_ref()?;
    Some(if namespace.is_empty() { format!("{kind}:{name}") } else { format!("{kind}:{namespace}/{name}") })
}

/// Whether it is aimed at a cgroup.
pub fn aims_at_cgroup(command: &Command) -> bool {
    match &command.action {
        Some(Action::Throttle(_) | Action::LimitMemory(_) | Action::LimitIo(_) | Action::Freeze(_)) => true,
        Some(Action::Kill(kill)) => kill.scope() == Scope::Workload,
        _ => false,
    }
}

/// The parameters of a command.
pub fn parameters(command: &Command) -> String {
    let mut words = Words::default();
    match &command.action {
        Some(Action::Throttle(throttle)) => words.put("cpu_millicores", throttle.cpu_millicores),
        Some(Action::LimitMemory(limit)) => words.put("high_bytes", limit.high_bytes),
        Some(Action::LimitIo(limit)) => {
            words.put("read_bytes_per_s", limit.read_bytes_per_s);
            words.put("write_bytes_per_s", limit.write_bytes_per_s);
        }
        Some(Action::Kill(kill)) => {
            words.put("scope", name_of(&SCOPES, kill.scope()).unwrap_or(UNKNOWN));
            words.put("grace_s", kill.grace_s);
        }
        Some(Action::Block(block)) if block.port != 0 => {
            words.put("port", block.port);
            words.put("protocol", &block.protocol);
        }
        Some(Action::Block(block)) => words.put("address", &block.address),
        Some(Action::Clean(clean)) => {
            words.put("folder", &clean.folder);
            words.put("older_than_s", clean.older_than_s);
        }
        Some(Action::Run(run)) => words.put("name", &run.name),
        Some(Action::Undo(undo)) => words.put("action", &undo.action_id),
        Some(Action::Extend(extend)) => words.put("action", &extend.action_id),
        Some(Action::ChangeObject(change)) if change.verb() == ObjectVerb::Scale => {
            words.put("replicas", change.replicas);
        }
        Some(Action::ChangeObject(change)) if change.revision != 0 => words.put("revision", change.revision),
        Some(
            Action::Freeze(_)
            | Action::ChangeUnit(_)
            | Action::Isolate(_)
            | Action::ChangeContainer(_)
            | Action::ChangeObject(_),
        )
        | None => {}
    }
    let target = command.target.clone().unwrap_or_default();
    if let Some(process) = &target.process {
        words.put("pid", process.pid);
        words.put("start_ns", process.start_ns);
    }
    if let Some(unit) = &target.unit {
        words.put("unit", &unit.name);
        if !unit.invocation_id.is_empty() {
            words.put("invocation_id", &unit.invocation_id);
        }
    }
    if let Some(container) = &target.container {
        words.put("container", &container.id);
        words.put_some("started", &container.started);
    }
    if let Some(object) = &target.object {
        words.put_some("namespace", &object.namespace);
        if matches!(verb(command.action.as_ref()), "restart_rollout" | "scale" | "undo_rollout") {
            words.put("kind", &object.kind);
        }
        words.put("name", &object.name);
        words.put_some("uid", &object.uid);
    }
    if command.lease_s != 0 {
        words.put("lease_s", command.lease_s);
    }
    if let Some(trigger) = &command.trigger {
        words.put("when", name_of(&SIGNALS, trigger.signal()).unwrap_or(UNKNOWN));
        words.put("at_least", trigger.at_least);
    }
    words.0
}

/// A command's action, target (but for its cgroup), lease and trigger from its verb and parameters.
///
/// # Errors
/// [`ReadError`]; the text is for whoever wrote them.
pub fn read(verb: &str, parameters: &str) -> Result<Command, ReadError> {
    let mut given = Given::parse(verb, parameters)?;
    let action = match verb {
        "throttle" => Action::Throttle(v1::Throttle { cpu_millicores: given.must("cpu_millicores")? }),
        "limit_memory" => Action::LimitMemory(v1::LimitMemory { high_bytes: given.must("high_bytes")? }),
        "limit_io" => Action::LimitIo(v1::LimitIo {
            read_bytes_per_s: given.may("read_bytes_per_s")?.unwrap_or(0),
            write_bytes_per_s: given.may("write_bytes_per_s")?.unwrap_or(0),
        }),
        "freeze" => Action::Freeze(v1::Freeze {}),
        "kill" => {
            let scope = given.choice("scope", &SCOPES)?.unwrap_or(Scope::Process);
            Action::Kill(v1::Kill { scope: scope.into(), grace_s: given.may("grace_s")?.unwrap_or(10) })
        }
        "block" => block(&mut given)?,
        "isolate" => Action::Isolate(v1::Isolate {}),
        "clean" => {
            Action::Clean(v1::Clean { folder: given.must("folder")?, older_than_s: given.must("older_than_s")? })
        }
        "run" => Action::Run(v1::Run { name: given.must("name")? }),
        "undo" => Action::Undo(v1::Undo { action_id: given.must("action")? }),
        "extend" => Action::Extend(v1::Extend { action_id: given.must("action")? }),
        other => named_verb(other, &mut given)?,
    };
    let target = target(&action, &mut given)?;
    let lease_s = given.may("lease_s")?.unwrap_or(0);
    let trigger = trigger(&mut given)?;
    given.finish()?;
    Ok(Command { action: Some(action), target, lease_s, trigger, ..Command::default() })
}

/// Verbs that are all there is to say, but for their target.
fn named_verb(verb: &str, given: &mut Given) -> Result<Action, ReadError> {
    if let Some(verb) = value_of(&UNIT_VERBS, verb) {
        return Ok(Action::ChangeUnit(v1::ChangeUnit { verb: verb.into() }));
    }
    if let Some(verb) = value_of(&CONTAINER_VERBS, verb) {
        return Ok(Action::ChangeContainer(v1::ChangeContainer { verb: verb.into() }));
    }
    let Some(verb) = value_of(&OBJECT_VERBS, verb) else { return Err(ReadError::Verb { verb: verb.to_owned() }) };
    let mut change = v1::ChangeObject { verb: verb.into(), ..Default::default() };
    match verb {
        ObjectVerb::Scale => change.replicas = given.must("replicas")?,
        ObjectVerb::UndoRollout => change.revision = given.may("revision")?.unwrap_or(0),
        _ => {}
    }
    Ok(Action::ChangeObject(change))
}

fn block(given: &mut Given) -> Result<Action, ReadError> {
    if let Some(port) = given.may::<u16>("port")? {
        let protocol = given.may("protocol")?.unwrap_or_else(|| "tcp".to_owned());
        return Ok(Action::Block(v1::Block { address: String::new(), port: port.into(), protocol }));
    }
    Ok(Action::Block(v1::Block { address: given.must("address")?, port: 0, protocol: String::new() }))
}

fn target(action: &Action, given: &mut Given) -> Result<Option<v1::Target>, ReadError> {
    let mut target = v1::Target::default();
    match action {
        Action::Kill(kill) if kill.scope() != Scope::Workload => {
            let process = v1::ProcessTarget { pid: given.must("pid")?, start_ns: given.must("start_ns")? };
            target.process = Some(process);
        }
        Action::ChangeUnit(_) => {
            let invocation_id = given.may("invocation_id")?.unwrap_or_default();
            target.unit = Some(v1::UnitTarget { name: given.must("unit")?, invocation_id });
        }
        Action::ChangeContainer(_) => {
            let started = given.may("started")?.unwrap_or_default();
            target.container = Some(v1::ContainerTarget { id: given.must("container")?, started });
        }
        Action::ChangeObject(change) => target.object = Some(object(change.verb(), given)?),
        _ => return Ok(None),
    }
    Ok(Some(target))
}

fn object(verb: ObjectVerb, given: &mut Given) -> Result<v1::ObjectTarget, ReadError> {
    let kind = match verb {
        ObjectVerb::Cordon | ObjectVerb::Uncordon => "node",
        ObjectVerb::Evict | ObjectVerb::Delete => "pod",
        _ => given.choice("kind", &ROLLOUTS)?.unwrap_or("deployment"),
    };
    let namespace = if kind == "node" { String::new() } else { given.must("namespace")? };
    let uid = given.may("uid")?.unwrap_or_default();
    Ok(v1::ObjectTarget { namespace, kind: kind.to_owned(), name: given.must("name")?, uid })
}

fn trigger(given: &mut Given) -> Result<Option<v1::Trigger>, ReadError> {
    let Some(signal) = given.choice("when", &SIGNALS)? else { return Ok(None) };
    let at_least: f64 = given.may("at_least")?.unwrap_or(1.0);
    // Nothing is below what is no number: whatever is read would be reason enough.
    if !at_least.is_finite() {
        return Err(ReadError::Value { name: "at_least", value: at_least.to_string() });
    }
    Ok(Some(v1::Trigger { signal: signal.into(), at_least }))
}

fn name_of<T: PartialEq>(names: &'static [(&'static str, T)], value: T) -> Option<&'static str> {
    names.iter().find(|(_, other)| *other == value).map(|(name, _)| *name)
}

fn value_of<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    names.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
}

/// Parameters being written.
#[derive(Default)]
struct Words(String);

impl Words {
    fn put(&mut self, name: &str, value: impl Display) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        let value = value.to_string().replace('%', "%25").replace(' ', "%20");
        self.0.push_str(&format!("{name}={value}"));
    }

    fn put_some(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.put(name, value);
        }
    }
}

/// Parameters as given.
struct Given {
    verb: String,
    values: BTreeMap<String, String>,
}

impl Given {
    fn parse(verb: &str, parameters: &str) -> Result<Self, ReadError> {
        let mut values = BTreeMap::new();
        for word in parameters.split_whitespace() {
            let (name, value) = word.split_once('=').ok_or_else(|| ReadError::Word { word: word.to_owned() })?;
            values.insert(name.to_owned(), value.replace("%20", " ").replace("%25", "%"));
        }
        Ok(Self { verb: verb.to_owned(), values })
    }

    fn may<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>, ReadError> {
        let Some(value) = self.values.remove(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| ReadError::Value { name, value })
    }

    fn must<T: FromStr>(&mut self, name: &'static str) -> Result<T, ReadError> {
        self.may(name)?.ok_or_else(|| ReadError::Missing { verb: self.verb.clone(), name })
    }

    fn choice<T: Copy>(&mut self, name: &'static str, names: &[(&str, T)]) -> Result<Option<T>, ReadError> {
        let Some(value) = self.values.remove(name) else { return Ok(None) };
        let found = names.iter().find(|(name, _)| *name == value).map(|(_, found)| *found);
        found.map(Some).ok_or(ReadError::Value { name, value })
    }

    fn finish(self) -> Result<(), ReadError> {
        match self.values.into_keys().next() {
            Some(name) => Err(ReadError::Stray { verb: self.verb, name }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (verb_of, text) in [
            ("throttle", "cpu_millicores=250 lease_s=60"),
            ("limit_memory", "high_bytes=1048576 lease_s=60 when=memory_bytes at_least=2097152"),
            ("limit_io", "read_bytes_per_s=0 write_bytes_per_s=7 lease_s=1"),
            ("freeze", "lease_s=30"),
            ("kill", "scope=tree grace_s=5 pid=77 start_ns=123456789"),
            ("kill", "scope=workload grace_s=0"),
            (
                "restart_unit",
                "unit=nginx.service invocation_id=00000000000000000000000000000001 when=unit_down at_least=1",
            ),
            ("stop_unit", "unit=nginx.service lease_s=60"),
            ("block", "address=192.0.2.0/24 lease_s=60"),
            ("block", "port=8080 protocol=tcp lease_s=60"),
            ("isolate", "lease_s=60"),
            ("clean", "folder=/var/cache/my%20100%25%20app older_than_s=3600 when=disk_used_ratio at_least=0.9"),
            ("run", "name=flush"),
            ("restart_container", "container=web started=2026-01-02T03:04:05Z"),
            ("pause_container", "container=web lease_s=60"),
            ("evict_pod", "namespace=shop name=web-0 uid=7"),
            ("restart_rollout", "namespace=shop kind=pod name=web-0"),
            ("scale", "replicas=0 namespace=shop kind=statefulset name=db lease_s=60"),
            ("undo_rollout", "revision=3 namespace=shop kind=deployment name=web lease_s=60"),
            ("cordon", "name=worker-1 lease_s=60"),
            ("undo", "action=00"),
            ("extend", "action=00 lease_s=60"),
        ] {
            let command = read(verb_of, text).unwrap();
            assert_eq!((verb(command.action.as_ref()), parameters(&command).as_str()), (verb_of, text));
        }
        let clean = read("clean", "folder=/a%20b older_than_s=1").unwrap();
        assert!(matches!(clean.action, Some(Action::Clean(clean)) if clean.folder == "/a b"));
        assert_eq!((HOST_VERBS.last(), CLUSTER_VERBS.first()), (Some(&"unpause_container"), Some(&"evict_pod")));
        let scale = read("scale", "namespace=shop name=web replicas=2").unwrap();
        assert_eq!(named(&scale).as_deref(), Some("deployment:shop/web"));
        assert!(VERBS.iter().all(|verb| !matches!(read(verb, ""), Err(ReadError::Verb { .. }))));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (verb, text, why) in [
            ("reboot", "", "\"reboot\" is none of throttle, limit_memory"),
            ("throttle", "", "throttle needs cpu_millicores="),
            ("throttle", "cpu_millicores", "\"cpu_millicores\" is not of the form name=value"),
            ("throttle", "cpu_millicores=x", "cpu_millicores=x is not what cpu_millicores can be"),
            ("freeze", "hard=1", "freeze has no parameter hard"),
            ("kill", "scope=all", "scope=all is not what scope can be"),
            ("kill", "", "kill needs pid="),
            ("block", "port=70000", "port=70000 is not what port can be"),
            ("restart_unit", "", "restart_unit needs unit="),
            ("run", "name=x when=cpu_cores at_least=nan", "at_least=NaN is not what at_least can be"),
            ("scale", "namespace=a name=b", "scale needs replicas="),
            ("scale", "namespace=a name=b kind=job replicas=1", "kind=job is not what kind can be"),
            ("cordon", "namespace=a name=b", "cordon has no parameter namespace"),
        ] {
            let error = read(verb, text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
