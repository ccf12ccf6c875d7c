//! How well and how fast rules judge: `cargo xtask bench detect --json [--corpus DIR] [--out DIR] [--rules DIR] [--pack DIR]`.
//!
//! With `--corpus`, the folder of a labelled corpus (`attack_strict.jsonl`, `benign.jsonl.gz`), alerts are written to `--out`
//! as its scorer wants them, and the figures of the scorer are made here too. Without, only speed is measured, on command
//! lines of everyday work.

use std::path::PathBuf;

use skep_rules::detector::Detector;
use skep_rules::load::Loaded;

mod quality;

mod speed;

type Failure = Box<dyn std::error::Error>;

#[derive(Debug, Default)]
struct Arguments {
    json: bool,
    corpus: Option<PathBuf>,
    out: Option<PathBuf>,
    rules: Option<PathBuf>,
    pack: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, Failure> {
    let mut found = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let place = match argument.as_str() {
            "--json" => {
                found.json = true;
                continue;
            }
            "--corpus" => &mut found.corpus,
            "--out" => &mut found.out,
            "--rules" => &mut found.rules,
            "--pack" => &mut found.pack,
            other => return Err(format!("unknown option {other}").into()),
        };
        *place = Some(given.next().ok_or_else(|| format!("{argument} needs a folder"))?.into());
    }
    Ok(found)
}

fn loaded(arguments: &Arguments) -> Loaded {
    let mut loaded = if arguments.pack.is_some() { Loaded::default() } else { Loaded::pack() };
    for folder in arguments.pack.iter().chain(&arguments.rules) {
        loaded.folder(folder);
    }
    loaded
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    let mut figures = serde_json::Map::new();
    let begun = std::time::Instant::now();
    let mut loaded = loaded(&arguments);
    let detector = Detector::new(&mut loaded)?;
    figures.insert("load_ms".to_owned(), (begun.elapsed().as_secs_f64() * 1e3).into());
    figures.insert("rules".to_owned(), loaded.rules.len().into());
    figures.insert("rules_asked".to_owned(), detector.active().into());
    for refused in &loaded.refused {
        eprintln!("refused {} {}: {}", refused.source, refused.rule, refused.reason);
    }
    drop(detector);
    if let Some(corpus) = &arguments.corpus {
        quality::measure(&mut loaded, corpus, arguments.out.as_deref(), &mut figures)?;
        speed::replayed(&mut loaded, quality::read(&corpus.join("benign.jsonl.gz"))?, &mut figures)?;
    }
    speed::measure(&mut loaded, &mut figures)?;
    if arguments.json {
        println!("{}", serde_json::Value::Object(figures));
    } else {
        figures.iter().for_each(|(name, value)| println!("{name:<40} {value}"));
    }
    Ok(())
}
