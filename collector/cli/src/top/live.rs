//! The terminal: taken, drawn on, given back.

use std::io::IsTerminal;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::interval;

use super::draw::{draw, page};
use super::feed::{self, News};
use super::view::{View, Wish};
use crate::command::CommandError;
use crate::exit::Failure;
use crate::output::OutputError;
use crate::place::Place;

/// How long the keyboard thread waits before it looks whether it is still wanted.
const KEYBOARD_WAIT: Duration = Duration::from_millis(100);

/// Ages on the screen grow without news.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// Runs until a key or signal ends it.
///
/// # Errors
/// [`CommandError::Usage`] without a terminal; [`OutputError::Stdout`].
pub(super) async fn run(place: Place, mut view: View) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(CommandError::usage("`skep top` needs a terminal; `skep top --once` prints to anything"));
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(OutputError::Stdout)?;
    let (send_news, news) = watch::channel(News::default());
    let feed = tokio::spawn(feed::run(place, send_news));
    let mut terminal = ratatui::try_init().map_err(OutputError::Stdout)?;
    let keys = keyboard();
    let result = tokio::select! {
        result = interact(&mut terminal, &mut view, news, keys) => result,
        _ = terminate.recv() => Ok(()),
    };
    ratatui::restore();
    feed.abort();
    Ok(result?)
}

async fn interact(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    mut news: watch::Receiver<News>,
    mut keys: mpsc::Receiver<Event>,
) -> Result<(), OutputError> {
    let mut redraw = interval(REDRAW_EVERY);
    loop {
        terminal.draw(|frame| draw(frame, view)).map_err(OutputError::Stdout)?;
        tokio::select! {
            event = keys.recv() => match event {
                // Releases are reported by some terminals; a resize only needs the next draw.
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    let rows = terminal.size().map_err(OutputError::Stdout)?.height;
                    if view.key(key, page(rows)) == Wish::Quit {
                        return Ok(());
                    }
                }
                Some(_) => {}
                None => return Ok(()),
            },
            changed = news.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let fresh = news.borrow_and_update().clone();
                view.set_link(fresh.link);
                if let Some(snapshot) = fresh.snapshot {
                    view.show(snapshot);
                }
            }
            _ = redraw.tick() => {}
        }
    }
}

/// A thread, because a read of the terminal blocks; it ends when nobody listens.
fn keyboard() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEYBOARD_WAIT) {
                Ok(true) => match event::read() {
                    Ok(event) => {
                        if sender.blocking_send(event).is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                },
                Ok(false) => {}
                Err(_) => return,
            }
        }
    });
    receiver
}
