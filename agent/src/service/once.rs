//! Every check once, for an operator who sets them up.

use skep_checks::check::Check;
use skep_checks::figure::rounded;
use skep_checks::outcome::Outcome;
use skep_checks::schedule;
use skep_runtime::clock::Clock;

use crate::doctor::quote;

/// Runs those of these names, or all where there are none.
///
/// # Errors
/// A name that no check has.
pub async fn run(mut checks: Vec<Check>, names: &[String]) -> Result<Vec<Outcome>, String> {
    if let Some(unknown) = names.iter().find(|name| checks.iter().all(|check| check.name != **name)) {
        let known: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
        return Err(format!("no check {unknown:?} in the settings; there are: {}", known.join(", ")));
    }
    checks.retain(|check| names.is_empty() || names.contains(&check.name));
    Ok(schedule::once(checks, &Clock::system()).await)
}

/// For people: a line a check, its figures below.
pub fn human(outcomes: &[Outcome]) -> String {
    if outcomes.is_empty() {
        return "there are no checks in the settings\n".to_owned();
    }
    let mut text = String::new();
    for outcome in outcomes {
        let word = if outcome.error.is_none() { "ok  " } else { "FAIL" };
        let (check, ms) = (&outcome.check, outcome.latency.as_secs_f64() * 1e3);
        let error = outcome.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        text.push_str(&format!("{word} {} ({} {}, {ms:.1} ms){error}\n", check.name, check.way.kind(), check.target));
        for figure in &outcome.figures {
            text.push_str(&format!("       {} {}\n", figure.name, rounded(figure.value)));
        }
    }
    text
}

/// For programs: an array of objects.
pub fn json(outcomes: &[Outcome]) -> String {
    let object = |outcome: &Outcome| {
        let figures = outcome.figures.iter().map(|figure| format!("{}:{}", quote(figure.name), figure.value));
        format!(
            "{{\"check\":{},\"kind\":{},\"target\":{},\"ok\":{},\"latency_ns\":{},\"error\":{},\"figures\":{{{}}}}}",
            quote(&outcome.check.name),
            quote(outcome.check.way.kind()),
            quote(&outcome.check.target),
            outcome.error.is_none(),
            outcome.latency.as_nanos(),
            outcome.error.as_ref().map_or_else(|| "null".to_owned(), |error| quote(error)),
            figures.collect::<Vec<_>>().join(",")
        )
    };
    format!("[{}]\n", outcomes.iter().map(object).collect::<Vec<_>>().join(",\n "))
}
