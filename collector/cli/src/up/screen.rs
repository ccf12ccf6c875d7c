//! What `skep up` shows: a block that is drawn over itself on a terminal, a line a window elsewhere.

use std::io::{IsTerminal, Write};

use super::log::Notice;
use super::numbers::Numbers;
use crate::output::{Layout, Paint, Style, count, cut, escape, share, time_us};

/// Standard output, drawn by one owner.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    quiet: bool,
    style: Style,
    block: Vec<String>,
    cpus: usize,
}

impl Screen {
    pub(super) fn new(quiet: bool) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self { terminal: std::io::stdout().is_terminal(), quiet, style: Style::stdout(), block: Vec::new(), cpus }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, text: &str) {
        if !self.quiet {
            self.above(text);
        }
    }

    /// A line that stays, also when quiet.
    pub(super) fn always(&mut self, text: &str) {
        self.above(text);
    }

    /// A warning; also when quiet.
    pub(super) fn notice(&mut self, notice: &Notice) {
        let (paint, word) = if notice.bad { (Paint::Bad, "problem:") } else { (Paint::Warn, "note:") };
        self.above(&format!("{} {}", self.style.paint(paint, word), escape(&notice.text)));
    }

    /// The numbers of a window.
    pub(super) fn numbers(&mut self, numbers: &Numbers) {
        if self.quiet {
            return;
        }
        if self.terminal {
            let width = Layout::stdout().width.unwrap_or(80);
            let block = self.block_of(numbers, width);
            self.erase();
            self.draw(block);
        } else {
            self.put(&format!("{}\n", self.line_of(numbers)));
        }
    }

    /// Leaves what is drawn where it is.
    pub(super) fn close(&mut self) {
        self.block.clear();
    }

    fn above(&mut self, text: &str) {
        let block = std::mem::take(&mut self.block);
        self.erase_lines(block.len());
        self.put(&format!("{text}\n"));
        self.draw(block);
    }

    fn draw(&mut self, block: Vec<String>) {
        if !block.is_empty() {
            self.put(&format!("{}\n", block.join("\n")));
        }
        self.block = block;
    }

    fn erase(&mut self) {
        let lines = std::mem::take(&mut self.block).len();
        self.erase_lines(lines);
    }

    fn erase_lines(&mut self, lines: usize) {
        if lines > 0 {
            self.put(&format!("\x1b[{lines}A\x1b[J"));
        }
    }

    /// Nobody to tell when it fails: the programs go on without a reader.
    fn put(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }

    /// Lines no wider than `width`: a line that wraps would be drawn over in part.
    fn block_of(&self, numbers: &Numbers, width: usize) -> Vec<String> {
        const NAMES: usize = 14;
        let line = |name: &str, text: &str, paint: Option<Paint>| {
            let text = cut(text, width.saturating_sub(NAMES).max(1));
            let text = paint.map_or(text.clone(), |paint| self.style.paint(paint, &text));
            format!("{}{text}", self.style.paint(Paint::Faint, &format!("{name:<NAMES$}")))
        };
        let good_if = |good: bool| Some(if good { Paint::Good } else { Paint::Warn });
        let busiest: Vec<String> =
            numbers.busiest.iter().map(|(comm, cores)| format!("{} {cores:.2}", escape(comm))).collect();
        let cpu = format!("{:.2} of {} cores; {}", numbers.cores, self.cpus, busiest.join(", "));
        let coverage = format!("{}, {} lost", share(numbers.coverage()), count(numbers.lost.unsigned_abs()));
        vec![
            line("window", &format!("{} ({:.0}s)", clock(numbers.start_us), numbers.window_s), Some(Paint::Strong)),
            line("processes", &count(numbers.processes.unsigned_abs()), None),
            line("cpu", &cpu, None),
            line("system calls", &format!("{}/s", count(numbers.syscalls_per_s.round() as u64)), None),
            line("events", &format!("{} forks, execs and exits", count(numbers.events.unsigned_abs())), None),
            line("connections", &format!("{} opened", count(numbers.connections.unsigned_abs())), None),
            line("findings", &count(numbers.findings.unsigned_abs()), good_if(numbers.findings == 0)),
            line("coverage", &coverage, good_if(numbers.lost == 0)),
            line("skep itself", &format!("{:.1}% of one core", numbers.own_cores * 100.0), None),
        ]
    }

    fn line_of(&self, numbers: &Numbers) -> String {
        format!(
            "{} {:.0}s: {} processes, {:.2}/{} cores, {} syscalls/s, {} events, {} connections, {} findings, \
             coverage {} ({} lost), own cpu {:.1}%",
            clock(numbers.start_us),
            numbers.window_s,
            count(numbers.processes.unsigned_abs()),
            numbers.cores,
            self.cpus,
            count(numbers.syscalls_per_s.round() as u64),
            count(numbers.events.unsigned_abs()),
            count(numbers.connections.unsigned_abs()),
            count(numbers.findings.unsigned_abs()),
            share(numbers.coverage()),
            count(numbers.lost.unsigned_abs()),
            numbers.own_cores * 100.0,
        )
    }
}

/// `23:53:40Z`.
fn clock(us: i64) -> String {
    let whole = time_us(us - us.rem_euclid(1_000_000));
    whole.split_once(' ').map_or(whole.clone(), |(_, clock)| clock.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_one_line_without_a_terminal() {
        let screen = Screen { terminal: false, quiet: false, style: Style::PLAIN, block: Vec::new(), cpus: 2 };
        let numbers = Numbers {
            start_us: 1_700_000_000_000_000,
            window_s: 10.0,
            processes: 142,
            cores: 1.234,
            own_cores: 0.008,
            syscalls_per_s: 84_210.4,
            events: 37,
            connections: 5,
            findings: 1,
            attempted: 1_000,
            lost: 5,
            busiest: vec![("x".to_owned(), 1.0)],
        };
        assert_eq!(
            screen.line_of(&numbers),
            "22:13:20Z 10s: 142 processes, 1.23/2 cores, 84,210 syscalls/s, 37 events, 5 connections, 1 findings, \
             coverage 99.50% (5 lost), own cpu 0.8%"
        );
        let block = screen.block_of(&numbers, 30);
        assert_eq!(block.len(), 9);
        assert!(block.iter().all(|line| line.chars().count() <= 30), "{block:?}");
    }
}
