//! How often a node may begin a new stream: how far each has come is remembered for good. Pure.

use std::time::{Duration, Instant};

/// So many at once: an agent begins one when it is installed, and when its disk fails.
const AT_ONCE: f64 = 64.0;

/// And one more each time this has passed.
const ANOTHER_AFTER: Duration = Duration::from_secs(60);

/// The new streams of one node.
#[derive(Debug)]
pub(super) struct Fresh {
    left: f64,
    at: Instant,
    /// The last one, which may be begun again: it may have brought nothing yet.
    last: String,
}

impl Fresh {
    /// Of a node that begins its first stream now.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, at: now, last: String::new() }
    }

    /// Whether it may begin this one now.
    pub(super) fn may_begin(&mut self, stream: &str, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64() / ANOTHER_AFTER.as_secs_f64();
        (self.left, self.at) = ((self.left + passed).min(AT_ONCE), now);
        if self.last == stream {
            return true;
        }
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        stream.clone_into(&mut self.last);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_begins_streams_without_end_waits_for_each() {
        let start = Instant::now();
        let mut fresh = Fresh::new(start);
        let begun = (0..100).filter(|n| fresh.may_begin(&format!("s{n}"), start)).count();
        assert_eq!(begun, 64);
        assert!(fresh.may_begin("s63", start), "the last one again");
        assert!(!fresh.may_begin("s0", start));
        let later = start + ANOTHER_AFTER;
        assert!(fresh.may_begin("next", later) && !fresh.may_begin("and next", later));
        let day = later + Duration::from_secs(86_400);
        assert_eq!((0..100).filter(|n| fresh.may_begin(&format!("t{n}"), day)).count(), 64);
    }
}
