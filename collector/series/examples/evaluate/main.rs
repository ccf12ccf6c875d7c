//! How good the scores and the forecasts are on labelled series, and what they cost.
//!
//! `cargo xtask bench series --nab DIR --cmd DIR --json`: the folders hold `data/GROUP/FILE.csv` and the scorers
//! `score_nab.py` and `score_cmd.py`. One pass over every file, no look-ahead, the same settings everywhere.

mod forecasts;
mod quality;
mod series;
mod speed;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Parser;
use serde_json::{Value, json};
use skep_series::novelty::Tuning;

/// What is asked for.
#[derive(Debug, Parser)]
#[command(about = "Quality of scores and forecasts on labelled series, and their cost")]
struct Arguments {
    /// Folder of the Numenta Anomaly Benchmark, or of a part of it, with `score_nab.py`.
    #[arg(long)]
    nab: Option<PathBuf>,
    /// Folder of the cloud monitoring data set, or of a part of it, with `score_cmd.py`.
    #[arg(long)]
    cmd: Option<PathBuf>,
    /// Where the scored files go; a temporary folder without it.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Also without each part of the scorer, to see what it is worth.
    #[arg(long)]
    ablate: bool,
    /// One object with all figures.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.nab.is_none() && arguments.cmd.is_none() {
        bail!("name a folder of labelled series: --nab DIR, --cmd DIR");
    }
    let scratch = arguments.out.clone().unwrap_or_else(|| std::env::temp_dir().join("skep-series"));
    let mut report = serde_json::Map::new();
    report.insert("alarm_score".to_owned(), json!(Tuning::SHIPPED.alarm_score()));
    let folders = quality::Folders { nab: arguments.nab.clone(), cmd: arguments.cmd.clone(), out: scratch };
    report.insert("shipped".to_owned(), folders.measure(&Tuning::SHIPPED)?);
    if arguments.ablate {
        for (name, tuning) in quality::ablations() {
            eprintln!("{name}");
            report.insert(name, folders.measure(&tuning)?);
        }
    }
    if let Some(nab) = &arguments.nab {
        report.insert("forecasts".to_owned(), forecasts::measure(nab)?);
    }
    report.insert("speed".to_owned(), speed::measure());
    let report = Value::Object(report);
    if arguments.json {
        println!("{report}");
    } else {
        println!("{report:#}");
    }
    Ok(())
}
