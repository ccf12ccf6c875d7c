//! Alerts for a file of events, a JSON line each: `replay EVENTS [--pack DIR] [--rules DIR]`.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use skep_rules::detector::Detector;
use skep_rules::load::Loaded;
use skep_rules::replay::{Line, Replay};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let events = arguments.next().ok_or("which file of events?")?;
    let mut loaded = Loaded::pack();
    while let Some(option) = arguments.next() {
        let folder = arguments.next().ok_or("a folder is missing")?;
        match option.as_str() {
            "--pack" => loaded = Loaded::default(),
            "--rules" => {}
            other => return Err(format!("unknown option {other}").into()),
        }
        loaded.folder(Path::new(&folder));
    }
    let mut detector = Detector::new(&mut loaded)?;
    for complaint in loaded.refused.iter().chain(&loaded.warnings) {
        eprintln!("{}: {}: {}", complaint.source, complaint.rule, complaint.reason);
    }
    eprintln!("{} rules, {} asked", loaded.rules.len(), detector.active());
    let mut replay = Replay::default();
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in BufReader::new(std::fs::File::open(events)?).lines() {
        let line: Line = serde_json::from_str(&line?)?;
        for alert in replay.step(&mut detector, &line) {
            let techniques = if alert.rule.techniques.is_empty() { vec![String::new()] } else { alert.rule.techniques.clone() };
            for technique in techniques {
                let severity = if alert.level.as_str() == "info" { "informational" } else { alert.level.as_str() };
                let found = serde_json::json!({
                    "id": line.id, "severity": severity, "technique": technique,
                    "rule": &*alert.rule.name, "author": alert.rule.author, "facts": alert.facts,
                });
                writeln!(out, "{found}")?;
            }
        }
    }
    Ok(())
}
