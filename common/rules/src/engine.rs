//! Asking all rules at once.
//!
//! The rest of the program knows [`Engine`]; that rsigma does the matching is known here, in `view.rs` and in `load.rs`.

use std::collections::HashSet;

use rsigma_eval::{CorrelationConfig, CorrelationEngine, EvaluationResult, Event};
use rsigma_parser::{FilterRule, FilterRuleTarget, SigmaCollection, SigmaRule};

use crate::event::{Connection, Exec};
use crate::facts::Facts;
use crate::load::{Complaint, Loaded, NUMBER};
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
#[derive(Default)]
pub struct Sigma {
    process: rsigma_eval::Engine,
    audit: rsigma_eval::Engine,
    keyword: rsigma_eval::Engine,
    connection: rsigma_eval::Engine,
    correlations: Option<CorrelationEngine>,
    /// Rules that only feed correlations.
    quiet: HashSet<usize>,
}

impl std::fmt::Debug for Sigma {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sigma").field("active", &self.active()).finish_non_exhaustive()
    }
}

impl Sigma {
    /// Compiles what was loaded. What does not fit together is added to the refused.
    pub fn new(loaded: &mut Loaded) -> Self {
        let mut sigma = Self::default();
        let filters: Vec<FilterRule> = loaded.filters.iter().map(|filter| resolved(filter, &loaded.rules)).collect();
        for about in [About::Process, About::Audit, About::Keyword, About::Connection] {
            let rules = loaded.sigma.iter().filter(|(number, _)| loaded.rules[*number].about == about);
            let rules: Vec<SigmaRule> = rules.map(|(_, rule)| rule.clone()).collect();
            let engine = match about {
                About::Process => &mut sigma.process,
                About::Audit => &mut sigma.audit,
                About::Keyword => &mut sigma.keyword,
                _ => &mut sigma.connection,
            };
            // Each rule was compiled once while it was read, so that none fails here.
            for (index, error) in engine.add_rules(&rules) {
                loaded.refused.push(complaint(&rules[index].title, &error.to_string()));
            }
            for filter in &filters {
                if let Err(error) = engine.apply_filter(filter) {
                    loaded.refused.push(complaint(&filter.title, &error.to_string()));
                }
            }
        }
        sigma.correlate(loaded);
        sigma
    }

    /// Takes up the correlations one by one, so that one that refers to nothing does not take the others with it.
    fn correlate(&mut self, loaded: &mut Loaded) {
        let referred: HashSet<&str> =
            loaded.correlations.iter().flat_map(|(_, rule)| rule.rules.iter().map(String::as_str)).collect();
        if referred.is_empty() {
            return;
        }
        let is_base = |rule: &SigmaRule| {
            [&rule.id, &rule.name].into_iter().flatten().any(|name| referred.contains(name.as_str()))
        };
        let bases: Vec<&(usize, SigmaRule)> = loaded.sigma.iter().filter(|(_, rule)| is_base(rule)).collect();
        let base_rules: Vec<SigmaRule> = bases.iter().map(|(_, rule)| rule.clone()).collect();
        let mut taken = SigmaCollection { rules: base_rules, ..SigmaCollection::new() };
        for (number, rule) in &loaded.correlations {
            let mut attempt = taken.clone();
            attempt.correlations.push(rule.clone());
            match engine_of(&attempt) {
                Ok(engine) => {
                    self.correlations = Some(engine);
                    taken = attempt;
                    if !rule.generate {
                        let quiet = bases.iter().filter(|(_, base)| {
                            [&base.id, &base.name].into_iter().flatten().any(|name| rule.rules.contains(name))
                        });
                        self.quiet.extend(quiet.map(|(number, _)| *number));
                    }
                }
                Err(reason) => {
                    let source = loaded.rules[*number].source.clone();
                    loaded.refused.push(Complaint { source, rule: rule.title.clone(), reason });
                }
            }
        }
    }

    /// Numbers of what matched, with the correlations it completed.
    fn collect(&mut self, event: &impl Event, matched: Vec<EvaluationResult>, time_us: i64, found: &mut Vec<usize>) {
        let numbers = matched.iter().filter_map(number).filter(|number| !self.quiet.contains(number));
        for number in numbers {
            if !found.contains(&number) {
                found.push(number);
            }
        }
        let Some(correlations) = self.correlations.as_mut().filter(|_| !matched.is_empty()) else { return };
        let fired = correlations.process_with_detections(event, matched, time_us / 1_000_000);
        found.extend(fired.iter().filter(|result| result.is_correlation()).filter_map(number));
    }
}

impl Engine for Sigma {
    fn exec(&mut self, exec: &Exec<'_>, facts: &Facts<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        let process = ProcessView { exec, facts };
        let matched = self.process.evaluate(&process);
        self.collect(&process, matched, exec.time_us, &mut found);
        if self.audit.rule_count() > 0 {
            let audit = AuditView(exec);
            let matched = self.audit.evaluate(&audit);
            self.collect(&audit, matched, exec.time_us, &mut found);
        }
        if self.keyword.rule_count() > 0 {
            let line = LineView(exec.command_line);
            let matched = self.keyword.evaluate(&line);
            self.collect(&line, matched, exec.time_us, &mut found);
        }
        found
    }

    fn connection(&mut self, connection: &Connection<'_>, facts: &Facts<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        let view = ConnectionView { connection, facts };
        let matched = self.connection.evaluate(&view);
        self.collect(&view, matched, connection.time_us, &mut found);
        found
    }

    fn active(&self) -> usize {
        let stateless = [&self.process, &self.audit, &self.keyword, &self.connection];
        let correlations = self.correlations.as_ref().map_or(0, CorrelationEngine::correlation_rule_count);
        stateless.iter().map(|engine| engine.rule_count()).sum::<usize>() + correlations
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

fn number(result: &EvaluationResult) -> Option<usize> {
    result.header.custom_attributes.get(NUMBER)?.as_u64().and_then(|number| usize::try_from(number).ok())
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
