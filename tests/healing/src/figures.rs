//! What came of all faults, in figures.

use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::record::Happened;
use crate::round::Taken;
use crate::settings::Subject;

/// As soon as this a service that hangs is to be back and known to be.
const SOON_S: f64 = 30.0;

/// Figures by kind and over all that can be repaired. `hurt` are kinds of services that were restarted and should not
/// have been.
pub(crate) fn of(planned: &[(Kind, usize)], taken: &[Taken], rows: &[Happened], hurt: &[Kind]) -> Map<String, Value> {
    let mut wrong: Vec<Kind> = wrong(taken, rows);
    wrong.extend(hurt);
    let mut figures = Map::new();
    let repairable = |kind: &Kind| *kind != Kind::LostCause;
    let kinds: Vec<Kind> = planned.iter().map(|(kind, _)| *kind).filter(repairable).collect();
    if !kinds.is_empty() {
        let injected = planned.iter().filter(|(kind, _)| repairable(kind)).map(|(_, rounds)| rounds).sum();
        let all: Vec<&Taken> = taken.iter().filter(|one| repairable(&one.subject.kind)).collect();
        figures.insert("all".to_owned(), summary(injected, &all, wrong.len()));
    }
    for &(kind, injected) in planned {
        let of_kind: Vec<&Taken> = taken.iter().filter(|one| one.subject.kind == kind).collect();
        let wrong = wrong.iter().filter(|of| **of == kind).count();
        let value = match kind {
            Kind::LostCause => lost(injected, &of_kind, rows, wrong),
            _ => summary(injected, &of_kind, wrong),
        };
        figures.insert(kind.name().to_owned(), value);
    }
    figures
}

/// Whether it is well, and skep saw to it and knows.
fn recovered(one: &Taken) -> bool {
    one.broke && one.well_us.is_some() && one.seen.found_us.is_some() && one.seen.recovered_us.is_some()
}

fn summary(injected: usize, taken: &[&Taken], wrong: usize) -> Value {
    let seconds = |of: fn(&Taken) -> Option<i64>| -> Vec<f64> {
        taken.iter().filter_map(|one| Some((of(one)? - one.injected_us) as f64 / 1e6)).collect()
    };
    let verified = seconds(|one| one.seen.recovered_us.filter(|_| recovered(one)));
    json!({
        "injected": injected,
        "detected": taken.iter().filter(|one| one.seen.found_us.is_some()).count(),
        "recovered": verified.len(),
        "wrong_targets": wrong,
        "detection": quantiles(seconds(|one| one.seen.found_us)),
        "recovery": quantiles(seconds(|one| one.well_us.filter(|_| recovered(one)))),
        "verified_within_30_s": verified.iter().filter(|seconds| **seconds < SOON_S).count(),
        "verified": quantiles(verified),
    })
}

/// Of what cannot be repaired: how often that was tried, and whether people were called.
fn lost(injected: usize, taken: &[&Taken], rows: &[Happened], wrong: usize) -> Value {
    let restarts = |one: &&Taken| {
        let of = |row: &&Happened| row.name == "restart_unit applied" && row.whom == one.subject.workload();
        rows.iter().filter(of).count()
    };
    let escalated: Vec<f64> =
        taken.iter().filter_map(|one| Some((one.seen.escalated_us? - one.injected_us) as f64 / 1e6)).collect();
    json!({
        "injected": injected,
        "detected": taken.iter().filter(|one| one.seen.found_us.is_some()).count(),
        "escalated": escalated.len(),
        "restarts_most": taken.iter().map(restarts).max(),
        "wrong_targets": wrong,
        "escalation": quantiles(escalated),
    })
}

/// Median and the 99th of a hundred, in seconds.
fn quantiles(mut seconds: Vec<f64>) -> Value {
    seconds.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * seconds.len() as f64).ceil() as usize;
        seconds.get(rank.saturating_sub(1)).map(|seconds| (seconds * 100.0).round() / 100.0)
    };
    json!({ "p50_s": at(0.5), "p99_s": at(0.99), "max_s": at(1.0) })
}

/// Actions on what was not broken then; the kind is that of what was hit, or of what the finding is about.
fn wrong(taken: &[Taken], rows: &[Happened]) -> Vec<Kind> {
    let mut known: Vec<&str> = Vec::new();
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|row| row.what == "action") {
        if known.contains(&row.id.as_str()) {
            continue;
        }
        known.push(&row.id);
        let about = taken.iter().find(|one| one.subject.workload() == row.whom);
        let right = about.is_some_and(|one| row.time_us >= one.injected_us && is_aimed_at(row, &one.subject));
        if !right {
            eprintln!("wrong target: {} on {} ({})", row.name, row.whom, row.detail);
            let of = |kind: &Kind| row.whom.contains(&format!("heal-{}", kind.name()));
            wrong.push(Kind::ALL.into_iter().find(of).unwrap_or(Kind::LostCause));
        }
    }
    wrong
}

/// Whether its parameters name this one, where they name one.
fn is_aimed_at(row: &Happened, subject: &Subject) -> bool {
    let given = |name: &str| row.detail.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    given("unit").is_none_or(|unit| unit == subject.unit())
        && given("folder").is_none_or(|folder| subject.folder.to_str().is_some_and(|own| folder.starts_with(own)))
        && given("name").is_none_or(|name| name.ends_with(&format!("-{}", subject.port())))
}

/// For people: a line a kind.
pub(crate) fn table(figures: &Map<String, Value>) -> String {
    let mut text = format!(
        "{:<14} {:>8} {:>8} {:>9} {:>9} {:>5} {:>18} {:>18} {:>18}\n",
        "fault",
        "injected",
        "detected",
        "recovered",
        "escalated",
        "wrong",
        "detection p50/p99",
        "recovery p50/p99",
        "verified p50/p99"
    );
    for (name, of) in figures {
        let number = |key: &str| of[key].as_u64().map_or("-".to_owned(), |number| number.to_string());
        let pair = |key: &str| {
            let at = |share: &str| of[key][share].as_f64().map_or("-".to_owned(), |seconds| format!("{seconds:.1}"));
            format!("{}/{} s", at("p50_s"), at("p99_s"))
        };
        text.push_str(&format!(
            "{name:<14} {:>8} {:>8} {:>9} {:>9} {:>5} {:>18} {:>18} {:>18}\n",
            number("injected"),
            number("detected"),
            number("recovered"),
            number("escalated"),
            number("wrong_targets"),
            pair("detection"),
            pair("recovery"),
            pair("verified"),
        ));
    }
    text
}
