//! Events in, alerts out: facts, memory, rules, and what trust takes off.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use crate::analyse::{self, Sharing};
use crate::baseline::Baseline;
use crate::engine::{Engine, Sigma};
use crate::event::{Connection, Exec};
use crate::facts::{Facts, Field};
use crate::keep::KeepError;
use crate::load::Loaded;
use crate::rule::{Level, Rule};
use crate::table::Table;
use crate::words::{Words, WordsError};

/// Most of a command line, and of one argument, that rules see: the beginning and the end of a longer one.
pub const MAX_LINE_BYTES: usize = 16 << 10;

/// A rule that an event matched.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Which.
    pub rule: Arc<Rule>,
    /// How bad here: below a trusted program one step less than the rule says, below one whose work it is to change or to
    /// look through the system two.
    pub level: Level,
    /// Why it is less, where it is.
    pub trusted: Option<String>,
    /// `skep.*` facts that were known of the event, as `name=value`.
    pub facts: Vec<String>,
}

impl Alert {
    /// The alert as JSON, a line for each technique, in the form scorers of the development corpus read.
    pub fn lines(&self, id: &str) -> Vec<String> {
        let line = |technique: &str| {
            let severity = if self.level == Level::Info { "informational" } else { self.level.as_str() };
            let said = Said { id, severity, technique, rule: &self.rule.name, author: &self.rule.author };
            serde_json::to_string(&said).unwrap_or_default()
        };
        match self.rule.techniques.as_slice() {
            [] => vec![line("")],
            techniques => techniques.iter().map(|technique| line(technique)).collect(),
        }
    }
}

/// The fields of a line, in their order.
#[derive(Debug, Serialize)]
struct Said<'a> {
    id: &'a str,
    severity: &'static str,
    technique: &'a str,
    rule: &'a str,
    author: &'a str,
}

/// Rules, vocabulary and memory.
#[derive(Debug)]
pub struct Detector {
    words: Words,
    sharing: Sharing,
    engine: Box<dyn Engine>,
    rules: Vec<Arc<Rule>>,
    table: Table,
    baseline: Baseline,
}

impl Detector {
    /// Takes what was loaded; what does not fit together is added to its refused.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn new(loaded: &mut Loaded) -> Result<Self, WordsError> {
        let engine = Box::new(Sigma::new(loaded)?);
        let rules = loaded.rules.iter().cloned().map(Arc::new).collect();
        let words = Words::parse(crate::pack::WORDS)?;
        Ok(Self {
            words,
            sharing: Sharing::default(),
            engine,
            rules,
            table: Table::default(),
            baseline: Baseline::default(),
        })
    }

    /// Takes other rules and keeps what is remembered. Should they be more than can be asked, the old ones stay.
    pub fn reload(&mut self, loaded: &mut Loaded) {
        match Sigma::new(loaded) {
            Ok(engine) => self.engine = Box::new(engine),
            Err(error) => return loaded.refuse("all rules", "", error.to_string()),
        }
        self.rules = loaded.rules.iter().cloned().map(Arc::new).collect();
    }

    /// Asks another engine.
    #[cfg(test)]
    pub(crate) fn ask(&mut self, engine: Box<dyn Engine>) {
        self.engine = engine;
    }

    /// Forgets what is remembered of processes and workloads.
    pub fn forget(&mut self) {
        self.table = Table::default();
        self.baseline = Baseline::default();
    }

    /// What was learned of workloads, to survive a restart.
    pub fn learned(&self) -> Vec<u8> {
        self.baseline.to_bytes()
    }

    /// Takes it up again, in place of what is known.
    ///
    /// # Errors
    /// [`KeepError`]: nothing has changed.
    pub fn take_up(&mut self, learned: &[u8]) -> Result<(), KeepError> {
        self.baseline = Baseline::from_bytes(learned)?;
        Ok(())
    }

    /// All rules that were loaded.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// How many of them are asked.
    pub fn active(&self) -> usize {
        self.engine.active()
    }

    /// Judges an exec.
    pub fn exec(&mut self, exec: Exec<'_>) -> Vec<Alert> {
        let family = self.table.family(&exec);
        let line = bounded(exec.command_line);
        let cut: Vec<Cow<'_, str>>;
        let mut known = Exec { command_line: &line, ..exec };
        if known.argv.iter().any(|argument| argument.len() > MAX_LINE_BYTES) {
            cut = known.argv.iter().copied().map(bounded).collect();
            known.argv = cut.iter().map(Cow::as_ref).collect();
        }
        if known.parent_command_line.is_empty() {
            known.parent_command_line = family.parent_command_line.as_deref().unwrap_or_default();
        }
        if known.ancestors.is_empty() {
            known.ancestors = family.ancestors.iter().map(|path| &**path).collect();
        }
        let shared = self.sharing.of(&self.words, &known);
        let mut facts = Facts::default();
        analyse::exec(&self.words, &known, &shared, &mut facts);
        self.table.exec(&known, &mut facts);
        self.baseline.exec(&known, &mut facts);
        let matched = self.engine.exec(&known, &facts);
        self.alerts(&matched, &facts)
    }

    /// Remembers a process that is not judged: one that ran before, or whose judgement others have made.
    pub fn remember(&mut self, exec: &Exec<'_>) {
        let shared = self.sharing.of(&self.words, exec);
        let mut facts = Facts::default();
        analyse::exec(&self.words, exec, &shared, &mut facts);
        self.table.exec(exec, &mut facts);
        self.baseline.exec(exec, &mut facts);
    }

    /// A process ended.
    pub fn exit(&mut self, node: &str, pid: i64) {
        self.table.exit(node, pid);
    }

    /// Judges a connection.
    pub fn connection(&mut self, connection: &Connection<'_>) -> Vec<Alert> {
        let mut facts = analyse::connection(&self.words, connection);
        self.table.connection(connection, &mut facts);
        self.baseline.connection(connection, &mut facts);
        let matched = self.engine.connection(connection, &facts);
        self.alerts(&matched, &facts)
    }

    fn alerts(&self, matched: &[usize], facts: &Facts<'_>) -> Vec<Alert> {
        if matched.is_empty() {
            return Vec::new();
        }
        let told = told(facts);
        let trusted = facts.get(Field::Trusted).first().map(|kind| kind.to_string());
        let rules = matched.iter().filter_map(|number| self.rules.get(*number));
        rules
            .map(|rule| {
                let lowers = rule.level < Level::Critical;
                let trusted = trusted.clone().filter(|_| lowers);
                let level = match trusted.as_deref() {
                    None => rule.level,
                    // To change the system, or to look through it, is what these are for.
                    Some("package" | "provision" | "scanner" | "upkeep") => rule.level.lowered().lowered(),
                    Some(_) => rule.level.lowered(),
                };
                Alert { rule: Arc::clone(rule), level, trusted, facts: told.clone() }
            })
            .collect()
    }
}

/// Facts for people: those that are more than the arguments said in other words.
fn told(facts: &Facts<'_>) -> Vec<String> {
    const SAID: &[Field] = &[
        Field::Fileless,
        Field::ExeDeleted,
        Field::VolDir,
        Field::HiddenPath,
        Field::ScriptPlace,
        Field::Masquerade,
        Field::StdioInet,
        Field::PipeFrom,
        Field::PipeTo,
        Field::PrivGain,
        Field::EnvHijack,
        Field::FirstSeen,
        Field::FirstSeenShellParent,
        Field::BurstDiscovery,
        Field::DaemonAncestor,
        Field::Script,
        Field::Trusted,
        Field::Repeat,
    ];
    let name = |field: Field| Field::NAMES[field as usize].0;
    let values = SAID.iter().map(|field| (name(*field), facts.get(*field))).filter(|(_, values)| !values.is_empty());
    values.map(|(name, values)| format!("{name}={}", values.join(","))).collect()
}

/// Both ends of a line that is longer than what rules see.
fn bounded(line: &str) -> Cow<'_, str> {
    if line.len() <= MAX_LINE_BYTES {
        return Cow::Borrowed(line);
    }
    let (mut head, mut tail) = (MAX_LINE_BYTES / 4 * 3, line.len() - MAX_LINE_BYTES / 4);
    while !line.is_char_boundary(head) {
        head -= 1;
    }
    while !line.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{} {}", &line[..head], &line[tail..]).into()
}
