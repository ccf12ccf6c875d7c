//! Jittered exponential waits.

use std::time::Duration;

/// Waits that double from `first` to `longest`, each shortened by up to half at random, so that a fleet that lost its
/// collector at one moment does not come back at one moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first`; a `longest` shorter than that counts as `first`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), next: first }
    }

    /// How long to wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.longest);
        whole.mul_f64(1.0 - random_unit() / 2.0)
    }

    /// The try succeeded: the next wait is a first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Uniform in 0..1; without a source of randomness, 0: the wait is then whole, which is safe.
fn random_unit() -> f64 {
    getrandom::u32().map_or(0.0, |bits| f64::from(bits) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_keep_at_least_half() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for whole in [100, 200, 350, 350] {
            let wait = backoff.next_wait();
            assert!(wait <= Duration::from_millis(whole), "{wait:?} of {whole}");
            assert!(wait > Duration::from_millis(whole / 2 - 1), "{wait:?} of {whole}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }

    #[test]
    fn waits_differ() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next_wait()).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
