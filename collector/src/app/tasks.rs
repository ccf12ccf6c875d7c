//! The tasks that run as long as the collector does.

use std::time::Duration;

use skep_seglog::LogError;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use super::AppError;

/// How long the WAL's thread has to say that it was the cause when a task ends.
const CAUSE_WITHIN: Duration = Duration::from_secs(1);

/// Their ends.
#[derive(Debug)]
pub(super) struct Tasks {
    /// The WAL's thread.
    pub wal_ended: oneshot::Receiver<Result<(), LogError>>,
    /// The listener.
    pub serving: JoinHandle<Result<(), tonic::transport::Error>>,
    /// The responder.
    pub responding: JoinHandle<()>,
    /// Who tells people.
    pub alerting: JoinHandle<()>,
    /// The flusher.
    pub flushing: JoinHandle<()>,
    /// The refresher.
    pub refreshing: JoinHandle<()>,
    /// The keeper's thread; an error when it panicked.
    pub keeper_ended: oneshot::Receiver<()>,
}

impl Tasks {
    /// Waits until one of them ends, which none does by itself; says which and why. A handle that has said its end must
    /// not be asked again: see [`wait`].
    pub(super) async fn first_end(&mut self) -> AppError {
        let task = tokio::select! {
            biased;
            ended = &mut self.wal_ended => return wal_error(ended),
            served = &mut self.serving => match served {
                Ok(Err(error)) => return AppError::Serve(error),
                Ok(Ok(())) => task("server", None),
                Err(error) => task("server", Some(&error)),
            },
            ended = &mut self.responding => task("responder", ended.err().as_ref()),
            ended = &mut self.alerting => task("alerting", ended.err().as_ref()),
            ended = &mut self.flushing => task("flusher", ended.err().as_ref()),
            ended = &mut self.refreshing => task("refresher", ended.err().as_ref()),
            ended = &mut self.keeper_ended => match ended {
                Ok(()) => task("keeper", None),
                Err(_) => AppError::Task { task: "keeper", reason: "its thread panicked".to_owned() },
            },
        };
        // Without the WAL the others end too.
        match tokio::time::timeout(CAUSE_WITHIN, &mut self.wal_ended).await {
            Ok(ended) => wal_error(ended),
            Err(_) => task,
        }
    }
}

/// What a task that may have said its end already ends with; `None` if it has, does not in time, or panicked.
pub(super) async fn wait<T>(task: JoinHandle<T>, within: Duration) -> Option<T> {
    if task.is_finished() {
        return None;
    }
    tokio::time::timeout(within, task).await.ok()?.ok()
}

fn wal_error(ended: Result<Result<(), LogError>, oneshot::error::RecvError>) -> AppError {
    AppError::Wal(ended.ok().and_then(Result::err).unwrap_or(LogError::ReadOnly))
}

fn task(task: &'static str, error: Option<&JoinError>) -> AppError {
    AppError::Task { task, reason: error.map_or_else(|| "it had nothing more to do".to_owned(), JoinError::to_string) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> (oneshot::Sender<Result<(), LogError>>, Tasks) {
        let (sender, wal_ended) = oneshot::channel();
        let (keeper, keeper_ended) = oneshot::channel();
        std::mem::forget(keeper);
        let tasks = Tasks {
            wal_ended,
            serving: tokio::spawn(std::future::pending()),
            responding: tokio::spawn(std::future::pending()),
            alerting: tokio::spawn(std::future::pending()),
            flushing: tokio::spawn(std::future::pending()),
            refreshing: tokio::spawn(std::future::pending()),
            keeper_ended,
        };
        (sender, tasks)
    }

    #[tokio::test]
    async fn a_task_that_dies_is_named() {
        let (_wal, mut tasks) = tasks();
        tasks.responding = tokio::spawn(async { panic!("a bug") });
        let said = tasks.first_end().await.to_string();
        assert!(said.contains("responder") && said.contains("panicked"), "{said}");
        assert_eq!(wait(tasks.responding, Duration::from_secs(9)).await, None);
        tasks.flushing.abort();
    }

    #[tokio::test]
    async fn a_task_that_ends_without_a_word_is_named() {
        let (_wal, mut tasks) = tasks();
        tasks.flushing = tokio::spawn(async {});
        assert!(matches!(tasks.first_end().await, AppError::Task { task: "flusher", .. }));
        let (_wal, mut tasks) = self::tasks();
        tasks.serving = tokio::spawn(async { Ok(()) });
        assert!(matches!(tasks.first_end().await, AppError::Task { task: "server", .. }));
    }

    #[tokio::test]
    async fn a_keeper_that_panicked_is_named() {
        let (_wal, mut tasks) = tasks();
        let (keeper, keeper_ended) = oneshot::channel();
        tasks.keeper_ended = keeper_ended;
        drop(keeper);
        let said = tasks.first_end().await.to_string();
        assert!(said.contains("keeper") && said.contains("panicked"), "{said}");
    }

    #[tokio::test]
    async fn what_the_wal_made_end_is_put_down_to_the_wal() {
        let (wal, mut tasks) = tasks();
        tasks.responding = tokio::spawn(async move {
            tokio::task::yield_now().await;
            wal.send(Err(LogError::ReadOnly)).unwrap();
        });
        assert!(matches!(tasks.first_end().await, AppError::Wal(LogError::ReadOnly)));
    }
}
