//! Runs a test command with its output on ours, and counts what it reports.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

/// Tests that ran.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Commands that ended badly, for whatever reason: a build that fails reports no test at all.
    pub(crate) broken: u64,
    /// What to look at: who failed, or passed only when run again, as the runner's summary says it.
    pub(crate) named: Vec<String>,
    /// The runner counts: the results in what it shows of a test's own output are in its summary too.
    by_nextest: bool,
    in_summary: bool,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.broken += other.broken;
        self.named.extend(other.named);
    }

    /// Whether everything that should have run did, and passed.
    pub(crate) fn is_green(&self) -> bool {
        self.failed == 0 && self.broken == 0 && self.passed > 0
    }

    fn read(&mut self, line: &str) {
        let line = line.trim();
        self.by_nextest |= line.starts_with("Nextest run ID");
        self.in_summary |= line.starts_with("Summary [");
        let ends = ["FAIL", "FLAKY", "TIMEOUT", "SIG", "LEAK-FAIL", "TRY"];
        if self.in_summary && ends.iter().any(|end| line.starts_with(end)) {
            self.named.push(line.to_owned());
        }
        let counts = match line.strip_prefix("test result:") {
            Some(rest) if !self.by_nextest => rest,
            None if line.starts_with("Summary [") => line.split_once("run:").map_or("", |(_, rest)| rest),
            _ => return,
        };
        let words: Vec<&str> = counts.split([' ', ',', ';', '.']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let (Ok(number), [_, what]) = (pair[0].parse::<u64>(), pair) else { continue };
            match *what {
                "passed" => self.passed += number,
                "failed" | "timed" => self.failed += number,
                "ignored" | "skipped" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Runs to the end; whether it went well is in the tally.
pub(crate) fn run(command: &mut Command) -> Result<Tally> {
    run_onto(command, std::io::stdout(), std::io::stderr())
}

fn run_onto(command: &mut Command, stdout: impl Write, stderr: impl Write + Send + 'static) -> Result<Tally> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot run the tests")?;
    let err = child.stderr.take().map(|from| thread::spawn(move || copy(from, stderr)));
    let out = child.stdout.take().map(|from| copy(from, stdout));
    let mut tally = out.unwrap_or_default();
    if let Some(Ok(more)) = err.map(thread::JoinHandle::join) {
        tally.add(more);
    }
    if !child.wait().context("cannot wait for the tests")?.success() {
        tally.broken += 1;
    }
    Ok(tally)
}

/// Line by line, as it comes.
fn copy(from: impl Read, mut to: impl Write) -> Tally {
    let mut tally = Tally::default();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        // Nobody reads our output any more: the tests still have to end.
        to.write_all(&line).ok();
        tally.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(line));
        tally
    }

    #[test]
    fn both_runners_are_understood() {
        let cargo = read(&[
            "test result: ok. 79 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.87s",
            "test result: FAILED. 9 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.55s",
        ]);
        assert_eq!(cargo, Tally { passed: 88, failed: 1, ignored: 1, ..Tally::default() });
        let nextest =
            read(&["     Summary [   1.482s] 103 tests run: 100 passed (2 slow), 2 failed, 1 timed out, 4 skipped"]);
        let expected = Tally { passed: 100, failed: 3, ignored: 4, in_summary: true, ..Tally::default() };
        assert_eq!(nextest, expected);
    }

    #[test]
    fn those_to_look_at_are_named_once() {
        let nextest = read(&[
            "  TRY 1 FAIL [   0.151s] (334/933) skep-agent::uplink turned_away",
            "     Summary [   1.482s] 3 tests run: 2 passed (1 flaky), 1 failed, 0 skipped",
            "   FLAKY 2/2 [   0.151s] (334/933) skep-agent::uplink turned_away",
            "  TRY 2 FAIL [   0.044s] (335/933) skep-agent::uplink late",
            "error: test run failed",
        ]);
        let named = [
            "FLAKY 2/2 [   0.151s] (334/933) skep-agent::uplink turned_away",
            "TRY 2 FAIL [   0.044s] (335/933) skep-agent::uplink late",
        ];
        assert_eq!(nextest.named, named);
        assert_eq!((nextest.passed, nextest.failed), (2, 1));
    }

    /// A test that passed when run again is no failure, although what it said the first time is shown.
    #[test]
    fn what_a_test_says_of_itself_is_not_counted_beside_the_runner() {
        let nextest = read(&[
            " Nextest run ID 0b0e2a52 with nextest profile: default",
            "  TRY 1 FAIL [   0.151s] (334/933) skep-agent::uplink turned_away",
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.15s",
            "     Summary [   1.482s] 2 tests run: 2 passed (1 flaky), 0 skipped",
            "   FLAKY 2/2 [   0.151s] (334/933) skep-agent::uplink turned_away",
        ]);
        assert_eq!((nextest.passed, nextest.failed), (2, 0));
        assert!(nextest.is_green());
    }

    #[test]
    fn nothing_run_is_not_green() {
        assert!(!Tally::default().is_green());
        assert!(Tally { passed: 1, ..Tally::default() }.is_green());
        assert!(!Tally { passed: 1, broken: 1, ..Tally::default() }.is_green());
    }

    #[test]
    fn a_commands_output_is_counted_on_both_streams() {
        let script =
            "echo 'test result: ok. 2 passed; 0 failed'; echo 'test result: ok. 3 passed; 0 failed' >&2; exit 1";
        // Not onto our own output: whoever counts that would count these too.
        let tally = run_onto(Command::new("sh").args(["-c", script]), std::io::sink(), std::io::sink()).unwrap();
        assert_eq!(tally, Tally { passed: 5, broken: 1, ..Tally::default() });
    }
}
