//! Help texts are stored and compared. `SKEP_BLESS=1 cargo test -p skep --test help` writes them anew; review the diff.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::PathBuf;
use std::process::Command;

const PAGES: [&str; 41] = [
    "",
    "up",
    "top",
    "query",
    "tables",
    "events",
    "nodes",
    "findings",
    "incidents",
    "incidents list",
    "incidents show",
    "incidents ack",
    "incidents close",
    "explain",
    "rules",
    "rules list",
    "rules lint",
    "rules test",
    "actions",
    "actions list",
    "actions show",
    "actions approve",
    "actions reject",
    "actions undo",
    "actions extend",
    "actions order",
    "policy",
    "policy show",
    "policy lint",
    "policy test",
    "audit",
    "audit verify",
    "audit list",
    "audit export",
    "checks",
    "doctor",
    "export",
    "flush",
    "forecast",
    "health",
    "completions",
];

fn help(page: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(page.split_whitespace())
        .arg("--help")
        .env_remove("COLUMNS")
        .env_remove("SKEP_DATA")
        .output()
        .unwrap();
    assert!(output.status.success(), "skep {page} --help: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn stored(page: &str) -> PathBuf {
    let name = if page.is_empty() { "skep".to_owned() } else { format!("skep-{}", page.replace(' ', "-")) };
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/help").join(name).with_extension("txt")
}

#[test]
fn help_texts_are_as_stored() {
    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let mut differ = Vec::new();
    for page in PAGES {
        let text = help(page);
        if bless {
            std::fs::write(stored(page), &text).unwrap();
        } else if std::fs::read_to_string(stored(page)).unwrap_or_default() != text {
            differ.push(page);
        }
    }
    assert!(differ.is_empty(), "help of {differ:?} differs: run `SKEP_BLESS=1 cargo test -p skep --test help`");
}

#[test]
fn every_page_has_examples_and_fits_a_hundred_columns() {
    for page in PAGES {
        let text = help(page);
        assert!(page.is_empty() || text.contains("Examples:\n"), "skep {page} --help has no examples");
        let long = text.lines().find(|line| line.chars().count() > 120);
        assert!(long.is_none(), "skep {page} --help: {long:?}");
    }
}
