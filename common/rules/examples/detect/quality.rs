//! Alerts for a labelled corpus, and what its scorer says of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde_json::{Map, Value};
use skep_rules::detector::{Alert, Detector};
use skep_rules::load::Loaded;
use skep_rules::replay::{Line, Replay};
use skep_rules::rule::Level;

use crate::Failure;

/// One event with its labels and its alerts.
struct Judged {
    labels: Value,
    alerts: Vec<Alert>,
}

pub(crate) fn measure(
    loaded: &mut Loaded,
    corpus: &Path,
    out: Option<&Path>,
    figures: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let attack = judge(loaded, &corpus.join("attack_strict.jsonl"), out.map(|out| out.join("attack-alerts.jsonl")))?;
    let benign = judge(loaded, &corpus.join("benign.jsonl.gz"), out.map(|out| out.join("benign-alerts.jsonl")))?;
    recall(&attack, figures);
    false_alarms(&benign, figures);
    Ok(())
}

fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<String>> + use<>, Failure> {
    let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let packed = path.extension().is_some_and(|end| end == "gz");
    let reader: Box<dyn Read> = if packed { Box::new(flate2::read::GzDecoder::new(file)) } else { Box::new(file) };
    Ok(BufReader::new(reader).lines())
}

/// The events of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>, Failure> {
    lines(path)?.map(|text| Ok(serde_json::from_str(&text?)?)).collect()
}

fn judge(loaded: &mut Loaded, path: &Path, out: Option<std::path::PathBuf>) -> Result<Vec<Judged>, Failure> {
    let mut detector = Detector::new(loaded)?;
    let mut replay = Replay::default();
    let mut out = out.map(File::create).transpose()?.map(BufWriter::new);
    let mut judged = Vec::new();
    for text in lines(path)? {
        let labels: Value = serde_json::from_str(&text?)?;
        // The detector sees what a line says of the event and none of its labels.
        let line: Line = serde_json::from_value(labels.clone())?;
        let alerts = replay.step(&mut detector, &line);
        if let Some(out) = &mut out {
            for found in alerts.iter().flat_map(|alert| alert.lines(line.id.as_deref().unwrap_or_default())) {
                writeln!(out, "{found}")?;
            }
        }
        judged.push(Judged { labels, alerts });
    }
    Ok(judged)
}

fn parent_technique(technique: &str) -> &str {
    technique.split('.').next().unwrap_or(technique)
}

fn recall(judged: &[Judged], figures: &mut Map<String, Value>) {
    let mut tests: BTreeMap<(String, String), (bool, bool)> = BTreeMap::new();
    for event in judged.iter().filter(|event| event.labels["tier"] == "A") {
        let text = |name: &str| event.labels[name].as_str().unwrap_or_default().to_owned();
        let technique = text("technique");
        let loud: Vec<&Alert> = event.alerts.iter().filter(|alert| alert.level >= Level::Medium).collect();
        let named = loud.iter().flat_map(|alert| &alert.rule.techniques);
        let right = named.map(|name| parent_technique(name)).any(|name| name == parent_technique(&technique));
        let test = tests.entry((technique.clone(), text("test"))).or_default();
        test.0 |= !loud.is_empty();
        test.1 |= right;
    }
    let mut of_technique: HashMap<&str, (f64, f64)> = HashMap::new();
    for ((technique, _), (found, _)) in &tests {
        let sums = of_technique.entry(technique).or_default();
        sums.0 += f64::from(u8::from(*found));
        sums.1 += 1.0;
    }
    let found = tests.values().filter(|test| test.0).count();
    let right = tests.values().filter(|test| test.0 && test.1).count();
    let macro_recall = of_technique.values().map(|(found, all)| found / all).sum::<f64>() / of_technique.len() as f64;
    figures.insert("tests".to_owned(), tests.len().into());
    figures.insert("test_recall_ratio".to_owned(), (found as f64 / tests.len() as f64).into());
    figures.insert("technique_macro_recall_ratio".to_owned(), macro_recall.into());
    figures.insert("technique_right_ratio".to_owned(), (right as f64 / found.max(1) as f64).into());
}

fn false_alarms(judged: &[Judged], figures: &mut Map<String, Value>) {
    let count = |event: &Judged| event.labels["count"].as_u64().unwrap_or(1);
    let all: u64 = judged.iter().map(count).sum();
    for (name, least) in [("medium", Level::Medium), ("high", Level::High)] {
        let loud = judged.iter().filter(|event| event.alerts.iter().any(|alert| alert.level >= least));
        let alarms: u64 = loud.map(count).sum();
        figures.insert(format!("false_{name}_in_10k"), (alarms as f64 * 1e4 / all as f64).into());
    }
    let distinct: BTreeSet<(String, String, String)> = judged
        .iter()
        .flat_map(|event| {
            let text = |name: &str| event.labels[name].as_str().unwrap_or_default().to_owned();
            let loud = event.alerts.iter().filter(|alert| alert.level >= Level::Medium);
            loud.map(move |alert| (alert.rule.name.to_string(), text("image"), text("parent_image")))
        })
        .collect();
    figures.insert("false_distinct_in_10k".to_owned(), (distinct.len() as f64 * 1e4 / all as f64).into());
}
