//! Scores every row of every file and asks the folder's own scorer what that is worth.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use skep_series::novelty::{Stream, Tuning};
use skep_series::replay;

use crate::series;

/// Where series are and scores go.
pub(crate) struct Folders {
    pub(crate) nab: Option<PathBuf>,
    pub(crate) cmd: Option<PathBuf>,
    pub(crate) out: PathBuf,
}

impl Folders {
    /// What the scorers say.
    pub(crate) fn measure(&self, tuning: &Tuning) -> Result<Value> {
        let threshold = tuning.alarm_score().to_string();
        let mut found = serde_json::Map::new();
        if let Some(nab) = &self.nab {
            let out = self.out.join("nab");
            score_all(nab, &out, tuning)?;
            let said = ask(Command::new("python3")
                .arg(nab.join("score_nab.py"))
                .arg("--nab")
                .arg(nab)
                .arg(&out)
                .args(["--threshold", &threshold, "--json"]))?;
            found.insert("nab".to_owned(), serde_json::from_str(&said).context("score_nab.py printed no JSON")?);
        }
        if let Some(cmd) = &self.cmd {
            let out = self.out.join("cmd");
            score_all(cmd, &out, tuning)?;
            let said = ask(Command::new("python3")
                .arg(cmd.join("score_cmd.py"))
                .arg("--data")
                .arg(cmd)
                .arg(&out)
                .args(["--threshold", &threshold]))?;
            found.insert("cmd".to_owned(), spoken(&said));
        }
        Ok(Value::Object(found))
    }
}

/// The shipped scorer without one of its parts, or with another hold.
pub(crate) fn ablations() -> Vec<(String, Tuning)> {
    let shipped = Tuning::SHIPPED;
    let mut all: Vec<(String, Tuning)> = Stream::ALL
        .iter()
        .enumerate()
        .map(|(at, stream)| {
            let mut tuning = shipped;
            tuning.streams[at] = false;
            (format!("without_{}", stream.as_str()), tuning)
        })
        .collect();
    let mut add = |name: &str, tuning: Tuning| all.push((name.to_owned(), tuning));
    add("without_effect", Tuning { effect: false, ..shipped });
    add("without_rate", Tuning { rate: false, ..shipped });
    add("without_budget", Tuning { budget: false, ..shipped });
    add("without_hold", Tuning { hold_s: 0.0, ..shipped });
    add("hold_1h", Tuning { hold_s: 3600.0, ..shipped });
    add("hold_24h", Tuning { hold_s: 86_400.0, ..shipped });
    for decades in [2.3, 2.4, 2.6, 2.7] {
        add(&format!("alarm_{decades}"), Tuning { alarm_decades: decades, ..shipped });
    }
    all
}

fn score_all(folder: &Path, out: &Path, tuning: &Tuning) -> Result<()> {
    for file in series::files(folder)? {
        let text = series::text(folder, &file)?;
        let scored = replay::score(&text, tuning).with_context(|| format!("in {}", file.display()))?;
        let path = out.join(&file);
        std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        std::fs::write(&path, scored.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn ask(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run python3")?;
    if !output.status.success() {
        bail!("the scorer failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `threshold 0.2 {'F1': 0.44, 'P': 0.5}` as an object.
fn spoken(said: &str) -> Value {
    let fields = said.split(['{', '}']).nth(1).unwrap_or_default().split(',').filter_map(|field| {
        let (name, value) = field.split_once(':')?;
        let value: f64 = value.trim().parse().ok()?;
        Some((name.trim().trim_matches('\'').to_owned(), json!(value)))
    });
    Value::Object(fields.collect())
}
