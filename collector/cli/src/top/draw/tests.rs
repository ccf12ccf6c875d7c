use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::top::snapshot::{ProcessRow, Snapshot, Window};

fn screen(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    (0..height).map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned()).collect()
}

fn busy() -> View {
    let mut view = View::new(Pane::Processes, String::new());
    let processes = (0..100)
        .map(|at| ProcessRow {
            pid: 1_000 + at,
            comm: format!("worker-{at}"),
            workload: "unit:app.service".to_owned(),
            node: "host1".to_owned(),
            cores: at as f64 / 100.0,
            delay_p99_ns: Some(1.5e6),
            ..ProcessRow::default()
        })
        .collect();
    let window = Window { length_s: 10.0, cores: 1.5, attempted: 100, lost: 1, ..Window::default() };
    view.set_link(Link::Live);
    view.show(Snapshot { processes, window: Some(window), ..Snapshot::default() });
    view
}

#[test]
fn eighty_by_twenty_four_shows_the_busiest_first() {
    let lines = screen(&busy(), 80, 24);
    assert!(lines[0].starts_with("skep live"), "{}", lines[0]);
    assert!(lines[1].contains("99%") || lines[1].contains("99.00% seen, 1 lost"), "{}", lines[1]);
    assert!(lines[2].starts_with("1 Processes  2 Workloads"), "{}", lines[2]);
    assert!(lines[3].contains("CORES▼") && lines[3].contains("DELAY P99"), "{}", lines[3]);
    assert!(lines[4].contains("worker-99") && lines[4].contains("0.99") && lines[4].contains("1.5ms"), "{}", lines[4]);
    assert!(lines[23].starts_with("q quit") && lines[23].ends_with("1/100"), "{}", lines[23]);
    assert!(!lines[3].contains("NODE"), "{}", lines[3]);
}

#[test]
fn a_wide_screen_shows_every_column() {
    let lines = screen(&busy(), 160, 50);
    for column in ["SWITCH/S", "WAITING", "NODE"] {
        assert!(lines[3].contains(column), "{column}: {}", lines[3]);
    }
}

#[test]
fn no_size_is_too_small() {
    for (width, height) in [(1, 1), (10, 3), (20, 6), (40, 10)] {
        let mut view = busy();
        screen(&view, width, height);
        view.key(ratatui::crossterm::event::KeyEvent::from(ratatui::crossterm::event::KeyCode::Char('?')), 1);
        screen(&view, width, height);
    }
}

#[test]
fn before_the_first_window_it_says_what_it_waits_for() {
    let mut view = View::new(Pane::Processes, String::new());
    assert!(screen(&view, 80, 24).join("\n").contains("connecting"));
    view.set_link(Link::Live);
    view.show(Snapshot::default());
    assert!(screen(&view, 80, 24).join("\n").contains("waiting for the first window"));
}

#[test]
fn a_lost_collector_is_said_and_the_rows_stay() {
    let mut view = busy();
    view.set_link(Link::Broken("collector https://h:1 is not reachable".to_owned()));
    let lines = screen(&view, 100, 24);
    assert!(lines[0].contains("trying again: collector https://h:1 is not reachable"), "{}", lines[0]);
    assert!(lines[4].contains("worker-99"), "{}", lines[4]);
}
