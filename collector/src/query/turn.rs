//! How many statements run at once; the others wait their turn, so many of them and no more.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::error::QueryError;

/// Statements that may wait for each that may run.
const WAITING_FOR_EACH: usize = 8;

/// The turns of one engine.
#[derive(Debug)]
pub struct Turns {
    at_once: usize,
    /// Running and waiting ones.
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

/// A statement's turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _admitted: OwnedSemaphorePermit,
    _running: OwnedSemaphorePermit,
}

impl Turns {
    /// `at_once` statements, at least one.
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        let admitted = Arc::new(Semaphore::new(at_once * (1 + WAITING_FOR_EACH)));
        Self { at_once, admitted, running: Arc::new(Semaphore::new(at_once)) }
    }

    /// Waits for a turn, first come first served.
    ///
    /// # Errors
    /// [`QueryError::Busy`] when too many wait already, or when none came until `deadline`.
    pub async fn take(&self, deadline: Instant) -> Result<Turn, QueryError> {
        let busy = || QueryError::Busy { at_once: self.at_once };
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| busy())?;
        let running = timeout_at(deadline, Arc::clone(&self.running).acquire_owned()).await;
        let running = running.map_err(|_| busy())?.map_err(|_| busy())?;
        Ok(Turn { _admitted: admitted, _running: running })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn turns_are_taken_waited_for_and_refused() {
        let turns = Arc::new(Turns::new(1));
        let soon = || Instant::now() + Duration::from_millis(20);
        let first = turns.take(soon()).await.unwrap();
        assert!(matches!(turns.take(soon()).await, Err(QueryError::Busy { at_once: 1 })), "none came in time");
        let late = Instant::now() + Duration::from_secs(60);
        let waiting: Vec<_> = (0..WAITING_FOR_EACH)
            .map(|_| {
                let turns = Arc::clone(&turns);
                tokio::spawn(async move { turns.take(late).await.map(drop) })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let began = Instant::now();
        assert!(turns.take(late).await.is_err(), "too many wait");
        assert!(began.elapsed() < Duration::from_secs(1));
        drop(first);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
    }
}
