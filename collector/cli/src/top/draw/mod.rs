//! The screen from a [`View`]: header, tabs, table, footer. Drawing changes nothing.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::Pane;
use super::sheet::{Cell, Column, Mood};
use super::view::{Link, View};
use crate::command::span::now_us;
use crate::output::{count, cut, escape, share, since};

/// Lines that are not rows: two of header, tabs, headings, two of footer.
const FRAME_LINES: u16 = 6;

const HELP: &str = " 1-6, Tab, Left, Right   choose a pane
 s S  (or > <)           sort by the next, previous column
 r                       reverse the order
 /                       filter rows by text; Esc clears it
 p, Space                pause and go on
 Up Down PgUp PgDn       move; g G to the ends
 ? h                     this help
 q, Esc, Ctrl-C          quit

 CORES      time on a CPU, in cores
 DELAY P99  99 % of waits for a CPU were shorter
 WAITING    time runnable but not running
 IN CALL    time inside the call, all callers together
 coverage   share of what the kernel offered that arrived

 any key closes this";

/// Rows a screen of this height shows.
pub(super) fn page(height: u16) -> usize {
    usize::from(height.saturating_sub(FRAME_LINES))
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let [header, tabs, table, footer] =
        Layout::vertical([Constraint::Length(2), Constraint::Length(1), Constraint::Min(1), Constraint::Length(2)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(header_lines(view)), header);
    frame.render_widget(Paragraph::new(tab_line(view)), tabs);
    rows(frame, view, table);
    frame.render_widget(Paragraph::new(footer_lines(view, footer.width)), footer);
    if view.help() {
        help(frame);
    }
}

fn strong() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn faint() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn mood_style(mood: Mood) -> Style {
    match mood {
        Mood::Calm => Style::new(),
        Mood::Warn => Style::new().fg(Color::Yellow),
        Mood::Bad => Style::new().fg(Color::Red),
    }
}

fn header_lines(view: &View) -> Vec<Line<'static>> {
    let state = match view.link() {
        Link::Opening => Span::styled("connecting", faint()),
        Link::Live if view.paused() => Span::styled("paused", mood_style(Mood::Warn)),
        Link::Live => Span::styled("live", Style::new().fg(Color::Green)),
        Link::Files => Span::styled("no collector runs: newest on disk", mood_style(Mood::Warn)),
        Link::Broken(reason) => Span::styled(format!("trying again: {reason}"), mood_style(Mood::Bad)),
    };
    let mut first = vec![Span::styled("skep ", strong()), state];
    let Some(snapshot) = view.snapshot() else { return vec![Line::from(first)] };
    let Some(window) = snapshot.window else { return vec![Line::from(first)] };
    let nodes = match snapshot.nodes.as_slice() {
        [one] => one.node.clone(),
        several => format!("{} nodes", several.len()),
    };
    first.push(Span::styled(
        format!("  {nodes}, window of {:.0}s, {}", window.length_s, since(window.start_us, now_us())),
        faint(),
    ));
    let coverage = if window.attempted > 0 { 1.0 - window.lost as f64 / window.attempted as f64 } else { 1.0 };
    let seen = if window.lost == 0 { Style::new().fg(Color::Green) } else { mood_style(Mood::Warn) };
    let findings = snapshot.findings.len();
    let look = if findings == 0 { Style::new().fg(Color::Green) } else { mood_style(Mood::Warn) };
    let second = Line::from(vec![
        Span::raw(format!("{:.2} cores  {} calls/s  ", window.cores, count(window.syscalls_per_s.round() as u64))),
        Span::styled(format!("{} seen, {} lost", share(coverage), count(window.lost.unsigned_abs())), seen),
        Span::raw("  "),
        Span::styled(format!("{findings} finding{}", if findings == 1 { "" } else { "s" }), look),
    ]);
    vec![Line::from(first), second]
}

fn tab_line(view: &View) -> Line<'static> {
    let tabs = Pane::ALL.iter().enumerate().flat_map(|(at, pane)| {
        let style = if *pane == view.pane() { strong().add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Span::styled(format!("{} {}", at + 1, pane.title()), style), Span::raw("  ")]
    });
    Line::from(tabs.collect::<Vec<_>>())
}

/// The columns that fit: the least wanted go first.
fn visible(columns: &[Column], width: u16) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let needed = |shown: &[usize]| -> u16 {
        shown.iter().filter_map(|at| columns.get(*at)).map(|column| column.width + 1).sum()
    };
    while needed(&shown) > width.saturating_add(1) {
        let rank = |at: &usize| columns.get(*at).map_or(0, |column| column.optional);
        match shown.iter().copied().max_by_key(rank) {
            Some(at) if rank(&at) > 0 => shown.retain(|kept| *kept != at),
            _ => break,
        }
    }
    shown
}

fn rows(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let sheet = view.sheet();
    if sheet.rows.is_empty() {
        frame.render_widget(Paragraph::new(nothing(view)).style(faint()).wrap(Wrap { trim: true }), area);
        return;
    }
    let shown = visible(sheet.columns, area.width);
    let (sorted, descending) = view.sort();
    let cell = |cell: &Cell, column: &Column| {
        let alignment = if column.number { Alignment::Right } else { Alignment::Left };
        Text::from(cell.text.clone()).alignment(alignment).style(mood_style(cell.mood))
    };
    let heading = Row::new(shown.iter().filter_map(|at| {
        let column = sheet.columns.get(*at)?;
        let mark = match (*at == sorted, descending) {
            (true, true) => "▼",
            (true, false) => "▲",
            (false, _) => "",
        };
        let alignment = if column.number { Alignment::Right } else { Alignment::Left };
        let style = if *at == sorted { strong().fg(Color::Cyan) } else { strong() };
        Some(Text::from(format!("{}{mark}", column.title)).alignment(alignment).style(style))
    }));
    let body = sheet
        .rows
        .iter()
        .map(|row| Row::new(shown.iter().filter_map(|at| Some(cell(row.get(*at)?, sheet.columns.get(*at)?)))));
    let widths = shown
        .iter()
        .filter_map(|at| sheet.columns.get(*at))
        .map(|column| if column.grows { Constraint::Min(column.width) } else { Constraint::Length(column.width) });
    let table = Table::new(body, widths)
        .header(heading)
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(Some(view.selected()));
    frame.render_stateful_widget(table, area, &mut state);
}

/// Why there is no row.
fn nothing(view: &View) -> String {
    let waiting = matches!(view.pane(), Pane::Processes | Pane::Workloads | Pane::Syscalls)
        && view.snapshot().is_none_or(|snapshot| snapshot.window.is_none());
    match view.link() {
        Link::Opening => "\nconnecting".to_owned(),
        Link::Broken(_) if view.snapshot().is_none() => {
            "\nnothing to show yet: start `skep up`, or name a collector with --collector".to_owned()
        }
        _ if waiting => "\nwaiting for the first window".to_owned(),
        _ if !view.filter().is_empty() => format!("\nno row contains {:?}; Esc clears the filter", view.filter()),
        _ => match view.pane() {
            Pane::Connections => "\nno TCP connection in the last five minutes".to_owned(),
            Pane::Findings => "\nno findings in the last day".to_owned(),
            _ => "\nnothing".to_owned(),
        },
    }
}

fn footer_lines(view: &View, width: u16) -> Vec<Line<'static>> {
    let first = if view.typing() {
        Line::from(vec![Span::styled("filter: ", strong()), Span::raw(format!("{}█", view.filter()))])
    } else if !view.filter().is_empty() {
        Line::styled(format!("filter: {}", view.filter()), mood_style(Mood::Warn))
    } else {
        latest_finding(view, width)
    };
    let total = view.sheet().rows.len();
    let position = if total == 0 { String::new() } else { format!("  {}/{total}", view.selected() + 1) };
    let keys = "q quit  ? help  Tab pane  s sort  r reverse  / filter  p pause";
    let room = usize::from(width).saturating_sub(keys.len() + position.len());
    vec![first, Line::styled(format!("{keys}{}{position}", " ".repeat(room)), faint())]
}

fn latest_finding(view: &View, width: u16) -> Line<'static> {
    let Some(latest) = view.snapshot().and_then(|snapshot| snapshot.findings.first()) else { return Line::default() };
    let mood = if matches!(latest.severity.as_str(), "high" | "critical") { Mood::Bad } else { Mood::Warn };
    let text = format!("{}: {} ({})", latest.severity, escape(&latest.title), since(latest.time_us, now_us()));
    Line::styled(cut(&text, usize::from(width)), mood_style(mood))
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let width = 66.min(area.width);
    let height = (HELP.lines().count() as u16 + 2).min(area.height);
    let box_area = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, box_area);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys and columns ")), box_area);
}

#[cfg(test)]
mod tests;
