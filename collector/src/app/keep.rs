//! The thread of [`Keeper`].

use std::sync::mpsc;

use tokio::sync::oneshot;

use super::AppError;
use crate::maintain::Keeper;

/// Starts the thread. It ends when the sender is dropped; the receiver hears of it.
pub(super) fn spawn(keeper: Keeper) -> Result<(mpsc::Sender<()>, oneshot::Receiver<()>), AppError> {
    let (stop, stopped) = mpsc::channel();
    let (ended, keeper_ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("keeper".to_owned());
    thread
        .spawn(move || {
            if let Err(error) = keeper.run(&stopped) {
                tracing::error!(%error, "the history cannot be kept in order");
            }
            // The receiver is gone only when the process is about to be.
            let _gone = ended.send(()).is_err();
        })
        .map_err(AppError::Thread)?;
    Ok((stop, keeper_ended))
}
