//! Which rung, and why not the others.

use std::fmt;

use serde::{Deserialize, Serialize};
use skep_wire::order;

use crate::outcome::Outcomes;
use crate::policy::{Choose, Rule, Weights};

/// A time to recover that costs its full weight.
const LONG_S: f64 = 120.0;

/// One rung, looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Its place in the ladder, from 1.
    pub rung: usize,
    /// What it does.
    pub verb: String,
    /// The share that recovers by it.
    pub recovery: f64,
    /// How sure that is, as a standard deviation.
    pub recovery_sd: f64,
    /// On how many that rests.
    pub of: u32,
    /// The time that takes; its verification window where nothing is known.
    pub recover_s: f64,
    /// What may go wrong.
    pub risk: f64,
    /// What is given up.
    pub cost: f64,
    /// Whether it can be undone.
    pub reversible: bool,
    /// All of it, weighed.
    pub score: f64,
    /// Why it is out of the question.
    pub out: Option<String>,
}

/// Which rung, and why not the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Whether outcomes chose, or the order did.
    pub by_outcome: bool,
    /// All rungs.
    pub alternatives: Vec<Alternative>,
    /// The chosen one, as a place in `alternatives`.
    pub chosen: Option<usize>,
}

/// Chooses; `out` says why a rung is out of the question. Of equal scores the gentler rung goes first.
pub fn choose(
    rule: &Rule,
    class: &str,
    finding_rule: &str,
    weights: &Weights,
    outcomes: &Outcomes,
    out: impl Fn(usize) -> Option<String>,
) -> Choice {
    let rungs = rule.ladder.iter().enumerate();
    let alternatives: Vec<Alternative> = rungs
        .map(|(at, rung)| {
            let verb = rung.recipe.verb();
            let tally = outcomes.of(finding_rule, verb, class);
            let recover_s = tally.mean_recover_s().unwrap_or(rung.verify_s as f64);
            let reversible = order::is_leased(verb);
            let score = weights.recovery * tally.mean()
                - weights.time * (recover_s / LONG_S).min(1.0)
                - weights.risk * rung.risk
                - weights.cost * rung.cost
                + weights.reversibility * f64::from(u8::from(reversible));
            Alternative {
                rung: at + 1,
                verb: verb.to_owned(),
                recovery: tally.mean(),
                recovery_sd: tally.deviation(),
                of: tally.of(),
                recover_s,
                risk: rung.risk,
                cost: rung.cost,
                reversible,
                score,
                out: out(at),
            }
        })
        .collect();
    let by_outcome = rule.choose == Choose::Outcome;
    let mut fit = alternatives.iter().enumerate().filter(|(_, alternative)| alternative.out.is_none());
    let chosen = if by_outcome {
        // The first of equals: `max_by` would take the last.
        fit.reduce(|best, other| if other.1.score > best.1.score { other } else { best }).map(|(at, _)| at)
    } else {
        fit.next().map(|(at, _)| at)
    };
    Choice { by_outcome, alternatives, chosen }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {}:", if self.by_outcome { "outcome" } else { "order" })?;
        for (at, alternative) in self.alternatives.iter().enumerate() {
            let mark = if self.chosen == Some(at) { " taken" } else { "" };
            let Alternative { rung, verb, score, recovery, recovery_sd, of, recover_s, risk, cost, .. } = alternative;
            write!(f, "{} {rung} {verb}{mark}", if at == 0 { "" } else { ";" })?;
            if let Some(why) = &alternative.out {
                write!(f, " ({why})")?;
                continue;
            }
            let undo = if alternative.reversible { "undoable" } else { "not undoable" };
            write!(
                f,
                " {score:.2} (recovers {recovery:.2}±{recovery_sd:.2} of {of} in {recover_s:.0} s, risk {risk:.1}, cost \
                 {cost:.1}, {undo})"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    const LADDER: &str = "[[rule]]\nname = \"r\"\nfinding = \"x\"\nchoose = \"outcome\"\n[[rule.rung]]\naction = \"throttle\"\n\
                          cpu_share = 0.5\n[[rule.rung]]\naction = \"restart_unit\"\n[[rule.rung]]\naction = \"stop_unit\"\n";

    fn chosen(outcomes: &Outcomes, out: impl Fn(usize) -> Option<String>) -> Choice {
        let policy = Policy::parse(LADDER).unwrap();
        choose(&policy.rules[0], "unit", "x", &policy.weights, outcomes, out)
    }

    #[test]
    fn the_gentlest_goes_first_until_outcomes_say_otherwise() {
        let mut outcomes = Outcomes::default();
        assert_eq!(chosen(&outcomes, |_| None).chosen, Some(0));
        for _ in 0..10 {
            outcomes.failed("x", "throttle", "unit");
            outcomes.recovered("x", "restart_unit", "unit", 5.0);
        }
        let choice = chosen(&outcomes, |_| None);
        assert_eq!(choice.chosen, Some(1));
        let said = choice.to_string();
        assert!(said.starts_with("by outcome: 1 throttle ") && said.contains("; 2 restart_unit taken "), "{said}");
        assert!(said.contains("recovers 0.92±0.08 of 10 in 5 s"), "{said}");
        let without = chosen(&outcomes, |at| (at == 1).then(|| "5 restarts in 3600 s".to_owned()));
        assert_eq!(without.chosen, Some(0));
        assert!(without.to_string().contains("2 restart_unit (5 restarts in 3600 s)"));
        assert_eq!(chosen(&outcomes, |_| Some(String::new())).chosen, None);
    }
}
