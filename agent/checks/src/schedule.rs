//! When each check runs.
//!
//! One future holds all of them; each waits for its next run, for one of [`AT_ONCE`] places, and for the answer. What came
//! of it goes to a bounded channel: a reader that is slow makes checks late and loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use skep_runtime::backoff::Backoff;
use skep_runtime::clock::Clock;
use skep_runtime::error;
use skep_runtime::shutdown::Token;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use crate::check::Check;
use crate::kind::{self, Memory};
use crate::outcome::Outcome;

/// Runs side by side.
pub const AT_ONCE: usize = 8;

/// All checks have run once after this long, or their interval if that is shorter.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// What failed is tried again no sooner than this,
const SHORTEST_RETRY: Duration = Duration::from_millis(200);

/// and for the first time after this part of its interval.
const RETRY_PART: u32 = 8;

/// Characters of an error that are told.
const ERROR_CHARACTERS: usize = 500;

/// Runs checks.
#[derive(Debug)]
pub struct Runner {
    /// All of this host.
    pub checks: Vec<Check>,
    /// What comes of them.
    pub outcomes: mpsc::Sender<Outcome>,
    /// When to stop.
    pub stop: Token,
    /// The clock.
    pub clock: Clock,
}

/// What checks know of each other.
#[derive(Debug)]
struct Board {
    places: Semaphore,
    posts: Vec<Post>,
}

/// One check as others see it.
#[derive(Debug)]
struct Post {
    name: String,
    is_down: AtomicBool,
    /// It should look now: one that depends on it failed.
    wake: Notify,
}

impl Board {
    fn new(checks: &[Check]) -> Self {
        let post =
            |check: &Check| Post { name: check.name.clone(), is_down: AtomicBool::default(), wake: Notify::new() };
        Self { places: Semaphore::new(AT_ONCE), posts: checks.iter().map(post).collect() }
    }
}

impl Runner {
    /// Runs until told to stop; what is under way then is broken off.
    pub async fn run(self) {
        let Self { checks, outcomes, mut stop, clock } = self;
        let board = Board::new(&checks);
        let places = checks.into_iter().enumerate().map(|(at, check)| Place::new(at, check, &board));
        let all = join_all(places.map(|place| place.run(&board, &outcomes, &clock)));
        tokio::select! {
            _ = all => {}
            () = stop.stopped() => {}
        }
    }
}

/// Runs each check once; outcomes in the order of the settings.
pub async fn once(checks: Vec<Check>, clock: &Clock) -> Vec<Outcome> {
    let board = Board::new(&checks);
    let places = checks.into_iter().enumerate().map(|(at, check)| Place::new(at, check, &board));
    let look = |mut place: Place| {
        let board = &board;
        async move {
            // The semaphore is never closed.
            let _turn = board.places.acquire().await;
            place.look(board, clock.wall_us()).await
        }
    };
    join_all(places.map(look)).await
}

/// One check and where it stands.
#[derive(Debug)]
struct Place {
    check: Arc<Check>,
    at: usize,
    /// What it depends on.
    others: Vec<usize>,
    memory: Memory,
    failures: u32,
    retry: Backoff,
}

impl Place {
    fn new(at: usize, check: Check, board: &Board) -> Self {
        let others = board.posts.iter().enumerate().filter(|(_, post)| check.depends_on.contains(&post.name));
        let retry = check.interval.div_f64(RETRY_PART.into()).max(SHORTEST_RETRY);
        Self {
            others: others.map(|(other, _)| other).collect(),
            retry: Backoff::new(retry, check.interval),
            check: Arc::new(check),
            at,
            memory: Memory::default(),
            failures: 0,
        }
    }

    /// Ends when nobody listens any more.
    async fn run(mut self, board: &Board, outcomes: &mpsc::Sender<Outcome>, clock: &Clock) {
        let mut wait = self.check.interval.min(FIRST_WITHIN).mul_f64(random_unit());
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = board.posts[self.at].wake.notified() => {}
            }
            // The semaphore is never closed.
            let Ok(place) = board.places.acquire().await else { return };
            let outcome = self.look(board, clock.wall_us()).await;
            drop(place);
            wait = self.wait();
            if outcomes.send(outcome).await.is_err() {
                return;
            }
        }
    }

    async fn look(&mut self, board: &Board, time_us: i64) -> Outcome {
        let mut figures = Vec::new();
        let begun = Instant::now();
        let asked =
            tokio::time::timeout(self.check.timeout, kind::ask(&self.check.way, &mut self.memory, &mut figures));
        let error = match asked.await {
            Ok(Ok(())) => self.check.limits.judge(&figures),
            Ok(Err(fault)) => Some(error::chain(&fault)),
            Err(_) => Some(format!("no answer within {}", humantime::format_duration(self.check.timeout))),
        };
        let latency = begun.elapsed();
        self.failures = if error.is_some() { self.failures.saturating_add(1) } else { 0 };
        board.posts[self.at].is_down.store(self.failures > self.check.retries, Ordering::Relaxed);
        if (1..=self.check.retries.saturating_add(1)).contains(&self.failures) {
            // Before this one counts as down it should be known whether it is their fault.
            self.others.iter().for_each(|other| board.posts[*other].wake.notify_one());
        }
        let down =
            self.others.iter().map(|other| &board.posts[*other]).find(|post| post.is_down.load(Ordering::Relaxed));
        Outcome {
            check: Arc::clone(&self.check),
            time_us,
            latency,
            error: error.map(|line| line.chars().take(ERROR_CHARACTERS).collect()),
            figures,
            failures: self.failures,
            blocked_by: down.filter(|_| self.failures > 0).map(|post| post.name.clone()),
        }
    }

    /// Soon, while it is not known whether it is down; else at its interval, give or take a tenth, so that checks of a fleet
    /// do not meet at one server.
    fn wait(&mut self) -> Duration {
        if (1..=self.check.retries).contains(&self.failures) {
            return self.retry.next_wait();
        }
        self.retry.reset();
        self.check.interval.mul_f64(0.9 + 0.2 * random_unit())
    }
}

/// Uniform in 0..1; without a source of randomness, 0.
fn random_unit() -> f64 {
    getrandom::u32().map_or(0.0, |bits| f64::from(bits) / (f64::from(u32::MAX) + 1.0))
}
