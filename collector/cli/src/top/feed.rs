//! Asks again and again, and again after a failure.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::snapshot::{Snapshot, take};
use super::view::Link;
use crate::connect::Source;
use crate::place::Place;

/// A window is rarely shorter; asking more often shows nothing new.
const LIVE_EVERY: Duration = Duration::from_secs(1);

/// Files change when a collector comes back; then the live one answers.
const FILES_EVERY: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The newest look, and how the connection is.
#[derive(Debug, Clone, Default)]
pub(super) struct News {
    pub(super) link: Link,
    pub(super) snapshot: Option<Snapshot>,
}

/// Runs until nobody looks any more.
pub(super) async fn run(place: Place, news: watch::Sender<News>) {
    let mut source: Option<Source> = None;
    loop {
        let wait = match look(&place, &mut source).await {
            Ok(snapshot) => {
                let live = matches!(source, Some(Source::Live(_)));
                news.send_replace(News { link: if live { Link::Live } else { Link::Files }, snapshot: Some(snapshot) });
                if !live {
                    source = None;
                }
                if live { LIVE_EVERY } else { FILES_EVERY }
            }
            Err(reason) => {
                source = None;
                news.send_replace(News { link: Link::Broken(reason), snapshot: None });
                RETRY_EVERY
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = news.closed() => return,
        }
    }
}

async fn look(place: &Place, source: &mut Option<Source>) -> Result<Snapshot, String> {
    let opened = match source.take() {
        Some(source) => source,
        None => Source::open(place).await.map_err(|error| crate::exit::one_line(&error))?,
    };
    let snapshot = take(&opened).await.map_err(|failure| failure.line());
    *source = Some(opened);
    snapshot
}
