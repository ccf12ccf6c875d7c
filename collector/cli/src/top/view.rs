//! What is shown of the newest snapshot, and how keys change it. Pure: no terminal, no clock.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Pane;
use super::panes;
use super::sheet::Sheet;
use super::snapshot::Snapshot;

/// What a key asked for beyond a change of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Quit,
}

/// How the connection to the data is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Link {
    /// Not asked yet.
    #[default]
    Opening,
    /// A running collector answers.
    Live,
    /// Files answer.
    Files,
    /// Nobody answers; why.
    Broken(String),
}

/// The state of the screen.
#[derive(Debug, Clone)]
pub(super) struct View {
    pane: Pane,
    /// Column and direction, by pane.
    sorts: [(usize, bool); Pane::ALL.len()],
    filter: String,
    typing: bool,
    paused: bool,
    help: bool,
    selected: usize,
    link: Link,
    newest: Option<Snapshot>,
    shown: Option<Snapshot>,
    sheet: Sheet,
}

impl View {
    pub(super) fn new(pane: Pane, filter: String) -> Self {
        let mut view = Self {
            pane,
            sorts: Pane::ALL.map(panes::first_sort),
            filter,
            typing: false,
            paused: false,
            help: false,
            selected: 0,
            link: Link::Opening,
            newest: None,
            shown: None,
            sheet: Sheet::default(),
        };
        view.refresh();
        view
    }

    /// Sorts the pane by the column with this heading, numbers downwards. False when there is none.
    pub(super) fn sort_by(&mut self, title: &str) -> bool {
        let wanted = title.to_lowercase().replace(['_', '-', '/'], " ");
        let columns = panes::columns(self.pane);
        let matches = |title: &str| title.to_lowercase().replace('/', " ");
        let exact = columns.iter().position(|column| matches(column.title) == wanted);
        let part = || columns.iter().position(|column| matches(column.title).contains(&wanted));
        let Some(at) = exact.or_else(part) else { return false };
        self.sorts[self.pane.index()] = (at, columns.get(at).is_some_and(|column| column.number));
        self.refresh();
        true
    }

    /// Takes a new snapshot; while paused it waits.
    pub(super) fn show(&mut self, snapshot: Snapshot) {
        if self.paused {
            self.newest = Some(snapshot);
        } else {
            self.shown = Some(snapshot);
            self.refresh();
        }
    }

    pub(super) fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn pane(&self) -> Pane {
        self.pane
    }

    pub(super) fn sort(&self) -> (usize, bool) {
        self.sorts[self.pane.index()]
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    pub(super) fn typing(&self) -> bool {
        self.typing
    }

    pub(super) fn paused(&self) -> bool {
        self.paused
    }

    pub(super) fn help(&self) -> bool {
        self.help
    }

    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.shown.as_ref()
    }

    /// Rows as sorted and filtered.
    pub(super) fn sheet(&self) -> &Sheet {
        &self.sheet
    }

    /// A key was pressed; `page` is how many rows the screen shows.
    pub(super) fn key(&mut self, key: KeyEvent, page: usize) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if matches!(key.code, KeyCode::Char('c' | 'q')) { Wish::Quit } else { Wish::Nothing };
        }
        if self.typing {
            self.type_key(key.code);
            return Wish::Nothing;
        }
        if self.help {
            // Any key closes it; quitting from there is what q means too.
            self.help = false;
            return if key.code == KeyCode::Char('q') { Wish::Quit } else { Wish::Nothing };
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Esc if !self.filter.is_empty() => self.set_filter(String::new()),
            KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char(digit @ '1'..='6') => self.go(digit as usize - '1' as usize),
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => self.go((self.pane.index() + 1) % Pane::ALL.len()),
            KeyCode::BackTab | KeyCode::Left => {
                self.go((self.pane.index() + Pane::ALL.len() - 1) % Pane::ALL.len());
            }
            KeyCode::Char('s' | '>') => self.turn_sort(1),
            KeyCode::Char('S' | '<') => self.turn_sort(panes::columns(self.pane).len() - 1),
            KeyCode::Char('r') => {
                let at = self.pane.index();
                self.sorts[at].1 = !self.sorts[at].1;
                self.refresh();
            }
            KeyCode::Char('/' | 'f') => self.typing = true,
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected.saturating_sub(1)),
            KeyCode::PageDown => self.select(self.selected.saturating_add(page.max(1))),
            KeyCode::PageUp => self.select(self.selected.saturating_sub(page.max(1))),
            KeyCode::Home | KeyCode::Char('g') => self.select(0),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            _ => {}
        }
        Wish::Nothing
    }

    fn type_key(&mut self, code: KeyCode) {
        let mut filter = self.filter.clone();
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                filter.clear();
            }
            KeyCode::Backspace => {
                filter.pop();
            }
            KeyCode::Char(c) => filter.push(c),
            _ => {}
        }
        self.set_filter(filter);
    }

    fn set_filter(&mut self, filter: String) {
        self.filter = filter;
        self.selected = 0;
        self.refresh();
    }

    fn go(&mut self, pane: usize) {
        self.pane = Pane::at(pane);
        self.selected = 0;
        self.refresh();
    }

    fn turn_sort(&mut self, by: usize) {
        let columns = panes::columns(self.pane);
        let at = (self.sort().0 + by) % columns.len();
        self.sorts[self.pane.index()] = (at, columns.get(at).is_some_and(|column| column.number));
        self.refresh();
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        if !self.paused
            && let Some(newest) = self.newest.take()
        {
            self.show(newest);
        }
    }

    fn select(&mut self, row: usize) {
        self.selected = row.min(self.sheet.rows.len().saturating_sub(1));
    }

    fn refresh(&mut self) {
        let mut sheet = match &self.shown {
            Some(snapshot) => panes::sheet(self.pane, snapshot),
            None => Sheet { columns: panes::columns(self.pane), rows: Vec::new() },
        };
        sheet.filter(&self.filter);
        let (column, descending) = self.sort();
        sheet.sort(column, descending);
        self.sheet = sheet;
        self.select(self.selected);
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::ProcessRow;
    use super::*;

    fn press(view: &mut View, keys: &[KeyCode]) -> Wish {
        keys.iter().map(|code| view.key(KeyEvent::new(*code, KeyModifiers::NONE), 10)).last().unwrap_or(Wish::Nothing)
    }

    fn snapshot(names: &[(&str, f64)]) -> Snapshot {
        let process = |(comm, cores): &(&str, f64)| ProcessRow {
            comm: (*comm).to_owned(),
            cores: *cores,
            ..ProcessRow::default()
        };
        Snapshot { processes: names.iter().map(process).collect(), ..Snapshot::default() }
    }

    fn commands(view: &View) -> Vec<&str> {
        view.sheet().rows.iter().map(|row| row[1].text.as_str()).collect()
    }

    #[test]
    fn processes_are_sorted_by_cpu_until_asked_otherwise() {
        let mut view = View::new(Pane::Processes, String::new());
        view.show(snapshot(&[("b", 0.1), ("a", 0.9), ("c", 0.5)]));
        assert_eq!(commands(&view), ["a", "c", "b"]);
        press(&mut view, &[KeyCode::Char('r')]);
        assert_eq!(commands(&view), ["b", "c", "a"]);
        assert!(view.sort_by("command"));
        assert_eq!(commands(&view), ["a", "b", "c"]);
        assert!(view.sort_by("delay_p99") && !view.sort_by("colour"));
    }

    #[test]
    fn a_filter_is_typed_and_escape_clears_it_before_it_quits() {
        let mut view = View::new(Pane::Processes, String::new());
        view.show(snapshot(&[("nginx", 0.1), ("q", 0.9)]));
        press(&mut view, &[KeyCode::Char('/'), KeyCode::Char('n'), KeyCode::Char('q'), KeyCode::Backspace]);
        assert_eq!(commands(&view), ["nginx"]);
        assert!(view.typing());
        assert_eq!(press(&mut view, &[KeyCode::Enter]), Wish::Nothing);
        assert!(!view.typing());
        assert_eq!(press(&mut view, &[KeyCode::Esc]), Wish::Nothing);
        assert_eq!(commands(&view).len(), 2);
        assert_eq!(press(&mut view, &[KeyCode::Esc]), Wish::Quit);
    }

    #[test]
    fn a_pause_keeps_the_rows_and_shows_the_newest_afterwards() {
        let mut view = View::new(Pane::Processes, String::new());
        view.show(snapshot(&[("old", 0.1)]));
        press(&mut view, &[KeyCode::Char('p')]);
        view.show(snapshot(&[("new", 0.1)]));
        assert_eq!(commands(&view), ["old"]);
        press(&mut view, &[KeyCode::Char(' ')]);
        assert_eq!(commands(&view), ["new"]);
    }

    #[test]
    fn the_selection_stays_inside() {
        let mut view = View::new(Pane::Processes, String::new());
        view.show(snapshot(&[("a", 0.3), ("b", 0.2), ("c", 0.1)]));
        press(&mut view, &[KeyCode::End]);
        assert_eq!(view.selected(), 2);
        view.show(snapshot(&[("a", 0.3)]));
        assert_eq!(view.selected(), 0);
        press(&mut view, &[KeyCode::PageDown, KeyCode::Up, KeyCode::Up]);
        assert_eq!(view.selected(), 0);
    }

    #[test]
    fn panes_turn_both_ways_and_help_closes_on_any_key() {
        let mut view = View::new(Pane::Processes, String::new());
        press(&mut view, &[KeyCode::BackTab]);
        assert_eq!(view.pane(), Pane::Health);
        press(&mut view, &[KeyCode::Tab, KeyCode::Char('3')]);
        assert_eq!(view.pane(), Pane::Syscalls);
        press(&mut view, &[KeyCode::Char('?')]);
        assert!(view.help());
        assert_eq!(press(&mut view, &[KeyCode::Esc]), Wish::Nothing);
        assert!(!view.help());
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.key(control, 10), Wish::Quit);
    }
}
