//! Asking all rules at once.
//!
//! The rest of the program knows [`Engine`]; that rsigma does the matching is known here, in `view.rs` and in `load.rs`.

use std::collections::HashSet;

use aho_corasick::BuildError;
use rsigma_eval::{CompiledRule, CorrelationConfig, CorrelationEngine, EvaluationResult, Event};
use rsigma_parser::{FilterRule, FilterRuleTarget, SigmaCollection, SigmaRule};

use crate::demand::Demand;
use crate::event::{Connection, Exec};
use crate::facts::Facts;
use crate::load::{Complaint, Loaded, NUMBER};
use crate::outline::{Outline, Texts};
use crate::rule::{About, Rule};
use crate::view::{AuditView, ConnectionView, LineView, ProcessView};

/// Groups of correlations remembered.
const MAX_GROUPS: usize = 20_000;

/// Events remembered of one group.
const MAX_GROUP_EVENTS: usize = 1_000;

/// A correlation that fired for a group is silent so long for it.
const SUPPRESS_SECONDS: u64 = 3_600;

/// What matches events against rules.
pub trait Engine: std::fmt::Debug + Send + Sync {
    /// Numbers of the rules an exec matches, each once.
    fn exec(&mut self, exec: &Exec<'_>, facts: &Facts<'_>) -> Vec<usize>;

    /// Numbers of the rules a connection matches, each once.
    fn connection(&mut self, connection: &Connection<'_>, facts: &Facts<'_>) -> Vec<usize>;

    /// How many rules are asked.
    fn active(&self) -> usize;
}

/// rsigma behind [`Engine`].
#[derive(Debug)]
pub struct Sigma {
    execs: Vec<Asked>,
    demand: Demand,
    connections: Vec<Asked>,
    correlations: Correlations,
}

/// A rule as it is asked.
#[derive(Debug)]
struct Asked {
    number: usize,
    about: About,
    rule: CompiledRule,
}

/// What looks at several events, and what is only there for that.
#[derive(Default)]
struct Correlations {
    engine: Option<CorrelationEngine>,
    /// Rules that correlations refer to.
    bases: HashSet<usize>,
    /// Those of them that only feed correlations.
    quiet: HashSet<usize>,
}

impl std::fmt::Debug for Correlations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Correlations").field("quiet", &self.quiet).finish_non_exhaustive()
    }
}

impl Sigma {
    /// Compiles what was loaded. What does not fit together is added to the refused.
    ///
    /// # Errors
    /// When there are more rules than can be looked up at once.
    pub fn new(loaded: &mut Loaded) -> Result<Self, BuildError> {
        let filters: Vec<FilterRule> = loaded.filters.iter().map(|filter| resolved(filter, &loaded.rules)).collect();
        // In this order, which is that of the alerts of one event.
        let execs: Vec<Asked> = [About::Process, About::Audit, About::Keyword]
            .into_iter()
            .flat_map(|about| compiled(loaded, about, &filters))
            .collect();
        let mut texts = Texts::default();
        let outlines = execs.iter().map(|asked| Outline::of(asked.about, &asked.rule, &mut texts)).collect();
        let demand = Demand::new(outlines, &texts)?;
        let connections = compiled(loaded, About::Connection, &filters);
        Ok(Self { execs, demand, connections, correlations: Correlations::new(loaded) })
    }
}

/// The rules about one kind of event, with the filters that apply.
fn compiled(loaded: &mut Loaded, about: About, filters: &[FilterRule]) -> Vec<Asked> {
    let rules = loaded.sigma.iter().filter(|(number, _)| loaded.rules[*number].about == about);
    let rules: Vec<SigmaRule> = rules.map(|(_, rule)| rule.clone()).collect();
    let mut engine = rsigma_eval::Engine::new();
    // Each rule was compiled once while it was read, so that none fails here.
    for (index, error) in engine.add_rules(&rules) {
        loaded.refused.push(complaint(&rules[index].title, &error.to_string()));
    }
    for filter in filters {
        if let Err(error) = engine.apply_filter(filter) {
            loaded.refused.push(complaint(&filter.title, &error.to_string()));
        }
    }
    let asked = |rule: &CompiledRule| {
        let number = rule.custom_attributes.get(NUMBER).and_then(as_number)?;
        Some(Asked { number, about, rule: rule.clone() })
    };
    engine.rules().iter().filter_map(asked).collect()
}

impl Correlations {
    /// Takes up the correlations one by one, so that one that refers to nothing does not take the others with it.
    fn new(loaded: &mut Loaded) -> Self {
        let mut own = Self::default();
        let referred: HashSet<&str> =
            loaded.correlations.iter().flat_map(|(_, rule)| rule.rules.iter().map(String::as_str)).collect();
        if referred.is_empty() {
            return own;
        }
        let is_base = |rule: &SigmaRule| {
            [&rule.id, &rule.name].into_iter().flatten().any(|name| referred.contains(name.as_str()))
        };
        let bases: Vec<&(usize, SigmaRule)> = loaded.sigma.iter().filter(|(_, rule)| is_base(rule)).collect();
        own.bases.extend(bases.iter().map(|(number, _)| *number));
        let base_rules: Vec<SigmaRule> = bases.iter().map(|(_, rule)| rule.clone()).collect();
        let mut taken = SigmaCollection { rules: base_rules, ..SigmaCollection::new() };
        for (number, rule) in &loaded.correlations {
            let mut attempt = taken.clone();
            attempt.correlations.push(rule.clone());
            match engine_of(&attempt) {
                Ok(engine) => {
                    own.engine = Some(engine);
                    taken = attempt;
                    if !rule.generate {
                        let quiet = bases.iter().filter(|(_, base)| {
                            [&base.id, &base.name].into_iter().flatten().any(|name| rule.rules.contains(name))
                        });
                        own.quiet.extend(quiet.map(|(number, _)| *number));
                    }
                }
                Err(reason) => {
                    let source = loaded.rules[*number].source.clone();
                    loaded.refused.push(Complaint { source, rule: rule.title.clone(), reason });
                }
            }
        }
        own
    }

    /// Adds what matched, with the correlations it completes.
    fn collect(&mut self, event: &impl Event, matched: Vec<Match>, time_us: i64, found: &mut Vec<usize>) {
        for (number, _) in &matched {
            if !self.quiet.contains(number) && !found.contains(number) {
                found.push(*number);
            }
        }
        let results: Vec<EvaluationResult> = matched.into_iter().filter_map(|(_, result)| result).collect();
        let Some(engine) = self.engine.as_mut().filter(|_| !results.is_empty()) else { return };
        let fired = engine.process_with_detections(event, results, time_us / 1_000_000);
        let fired = fired.iter().filter(|result| result.is_correlation());
        found.extend(fired.filter_map(|result| result.header.custom_attributes.get(NUMBER).and_then(as_number)));
    }
}

/// A rule that matched, and in which way where that was asked.
type Match = (usize, Option<EvaluationResult>);

/// Asks a rule in earnest.
fn ask(asked: &Asked, event: &impl Event) -> Option<Match> {
    Some((asked.number, Some(rsigma_eval::evaluate_rule(&asked.rule, event)?)))
}

impl Sigma {
    /// Which of the rules about this match the exec last looked at.
    fn matching(&self, about: About, event: &impl Event) -> Vec<Match> {
        if self.demand.rules().is_empty() {
            return Vec::new();
        }
        let rules = self.demand.rules().iter().filter_map(|place| Some((*place, self.execs.get(*place)?)));
        let rules = rules.filter(|(_, asked)| asked.about == about);
        let judge = |(place, asked): (usize, &Asked)| match self.demand.told(place, event) {
            Some(false) => None,
            Some(true) if !self.correlations.bases.contains(&asked.number) => Some((asked.number, None)),
            _ => ask(asked, event),
        };
        rules.filter_map(judge).collect()
    }
}

impl Engine for Sigma {
    fn exec(&mut self, exec: &Exec<'_>, facts: &Facts<'_>) -> Vec<usize> {
        self.demand.look(exec, facts);
        let (process, audit, line) = (ProcessView { exec, facts }, AuditView(exec), LineView(exec.command_line));
        let mut found = Vec::new();
        let matched = self.matching(About::Process, &process);
        self.correlations.collect(&process, matched, exec.time_us, &mut found);
        let matched = self.matching(About::Audit, &audit);
        self.correlations.collect(&audit, matched, exec.time_us, &mut found);
        let matched = self.matching(About::Keyword, &line);
        self.correlations.collect(&line, matched, exec.time_us, &mut found);
        found
    }

    fn connection(&mut self, connection: &Connection<'_>, facts: &Facts<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        let view = ConnectionView { connection, facts };
        let matched = self.connections.iter().filter_map(|asked| ask(asked, &view)).collect();
        self.correlations.collect(&view, matched, connection.time_us, &mut found);
        found
    }

    fn active(&self) -> usize {
        let correlations = self.correlations.engine.as_ref().map_or(0, CorrelationEngine::correlation_rule_count);
        self.execs.len() + self.connections.len() + correlations
    }
}

fn engine_of(collection: &SigmaCollection) -> Result<CorrelationEngine, String> {
    let config = CorrelationConfig {
        max_state_entries: MAX_GROUPS,
        max_group_entries: Some(MAX_GROUP_EVENTS),
        suppress: Some(SUPPRESS_SECONDS),
        ..CorrelationConfig::default()
    };
    let mut engine = CorrelationEngine::new(config);
    engine.add_collection(collection).map_err(|error| error.to_string())?;
    Ok(engine)
}

fn as_number(value: &serde_json::Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

/// The engine knows rules by id and title; a filter may also say their names.
fn resolved(filter: &FilterRule, rules: &[Rule]) -> FilterRule {
    let mut filter = filter.clone();
    if let FilterRuleTarget::Specific(named) = &mut filter.rules {
        for name in named {
            if let Some(rule) = rules.iter().find(|rule| *rule.name == **name) {
                *name = if rule.id.is_empty() { rule.title.clone() } else { rule.id.clone() };
            }
        }
    }
    filter
}

fn complaint(rule: &str, reason: &str) -> Complaint {
    Complaint { source: String::new(), rule: rule.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
