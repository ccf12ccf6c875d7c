//! The tasks that tell people.

use std::sync::Arc;

use skep_alerts::deliver;
use skep_alerts::desk::Desk;
use skep_alerts::settings::Settings;
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::AppError;
use crate::alert::task::{self, Word};
use crate::alert::{Alerting, Rules};
use crate::buffer::Store;
use crate::folder::Folder;
use crate::query::Engine;

/// Who is told of what, and who asks the rules; where there is no channel, nobody.
pub(super) fn start(
    settings: &Settings,
    folder: &Folder,
    (engine, store): (&Arc<Engine>, &Arc<Store>),
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<(Option<mpsc::Sender<Word>>, JoinHandle<()>), AppError> {
    if settings.channels.is_empty() {
        return Ok((None, tokio::spawn(std::future::pending())));
    }
    let (outbox, courier) = deliver::open(&folder.alerts(), settings.queue, settings.channels.clone())?;
    let (words, heard) = mpsc::channel(task::QUEUE);
    let desk = Desk::new(settings.routes.clone(), settings.silences.clone(), settings.refreshed());
    let mut alerting = Alerting { desk, outbox, words: heard, state: folder.told(), clock: clock.clone() };
    alerting.take_up();
    let rules = Rules {
        rules: settings.rules.clone(),
        engine: Arc::clone(engine),
        store: Arc::clone(store),
        words: words.clone(),
        stop: shutdown.token(),
        clock: clock.clone(),
    };
    // Both end with the stop; what the courier leaves is on disk.
    tokio::spawn(rules.run());
    tokio::spawn(courier.run(shutdown.token()));
    Ok((Some(words), tokio::spawn(alerting.run())))
}
