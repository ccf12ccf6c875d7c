//! A line on standard error while something takes long, for people only.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over sooner needs no line.
const AFTER: Duration = Duration::from_secs(1);

/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(100);

/// How far something is.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    watched: bool,
    shown: bool,
}

impl Progress {
    /// Something whose end is not known.
    pub fn of_rows() -> Self {
        Self::new(
            ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            "{spinner} {elapsed} {human_pos} rows {msg}",
        )
    }

    /// Something with so many rows.
    pub fn of_total(rows: u64, what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::hidden()).with_message(what.to_owned());
        Self::new(bar, "{msg} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left")
    }

    fn new(bar: ProgressBar, template: &str) -> Self {
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { bar, began: Instant::now(), watched: io::stderr().is_terminal(), shown: false }
    }

    /// So many rows more.
    pub fn add(&self, rows: usize) {
        self.bar.inc(rows as u64);
    }

    /// Waits for `work`, drawing the line; `each` is called at every tick.
    ///
    /// # Errors
    /// What `each` says.
    pub async fn during<T, E>(
        &mut self,
        work: impl Future<Output = T>,
        mut each: impl FnMut() -> Result<(), E>,
    ) -> Result<T, E> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(TICK) => {
                    self.draw();
                    each()?;
                }
            }
        }
    }

    /// From here on others write to the terminal: the line goes and stays away.
    pub fn give_way(&mut self) {
        self.watched = false;
        self.bar.finish_and_clear();
    }

    fn draw(&mut self) {
        if self.watched && !self.shown && self.began.elapsed() >= AFTER {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown = true;
        }
        if self.shown && self.watched {
            self.bar.tick();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ticks_come_while_work_goes_on_and_can_end_it() {
        let mut progress = Progress::of_rows();
        let mut ticks = 0;
        let work = tokio::time::sleep(TICK * 3);
        let done: Result<(), ()> = progress
            .during(work, || {
                ticks += 1;
                Ok(())
            })
            .await;
        assert!(done.is_ok() && ticks >= 2, "{ticks} ticks");
        let never = std::future::pending::<()>();
        assert_eq!(progress.during(never, || Err("closed")).await, Err("closed"));
    }
}
