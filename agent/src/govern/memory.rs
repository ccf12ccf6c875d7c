//! Keeps to the memory budget. Pure.
//!
//! Kernel maps are as large as they were made; what can shrink is the table of processes. Every other part that grows
//! has its own bound.

/// Fewer processes than this are not worth watching.
const FEWEST: usize = 1024;

/// Looks before another change shows its effect.
const SETTLE: u32 = 30;

/// Looks with room before the table may grow again.
const CALM: u32 = 300;

/// Share of the budget below which there is room.
const ROOMY: f64 = 0.7;

/// Decides how many processes are known at once.
#[derive(Debug)]
pub struct Memory {
    budget: u64,
    /// As in the settings.
    full: usize,
    now: usize,
    /// Looks since the last change.
    since: u32,
    calm: u32,
}

impl Memory {
    /// Starts with `full` processes.
    pub fn new(budget: u64, full: usize) -> Self {
        Self { budget, full, now: full, since: SETTLE, calm: 0 }
    }

    /// Bytes that may be held.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Processes known at once.
    pub fn processes(&self) -> usize {
        self.now
    }

    /// Whether it is fewer than the settings say.
    pub fn is_shrunk(&self) -> bool {
        self.now < self.full
    }

    /// Takes what is held now; says when another number of processes is to be known.
    pub fn evaluate(&mut self, held: u64) -> Option<usize> {
        self.since = self.since.saturating_add(1);
        self.calm = if (held as f64) < ROOMY * self.budget as f64 { self.calm + 1 } else { 0 };
        let next = if held > self.budget && self.since >= SETTLE {
            (self.now / 2).max(FEWEST.min(self.full))
        } else if self.calm >= CALM {
            self.now.saturating_mul(2).min(self.full)
        } else {
            return None;
        };
        (self.since, self.calm) = (0, 0);
        (std::mem::replace(&mut self.now, next) != next).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_halved_while_too_much_is_held_and_doubled_when_there_is_room() {
        let mut memory = Memory::new(100, 65_536);
        assert_eq!(memory.evaluate(100), None);
        assert_eq!(memory.evaluate(101), Some(32_768));
        let halved: Vec<_> = (0..300).filter_map(|_| memory.evaluate(101)).collect();
        assert_eq!(halved, [16_384, 8192, 4096, 2048, 1024]);
        assert!(memory.is_shrunk());
        let doubled: Vec<_> = (0..1800).filter_map(|_| memory.evaluate(69)).collect();
        assert_eq!(doubled, [2048, 4096, 8192, 16_384, 32_768, 65_536]);
        assert!(!memory.is_shrunk());
        assert_eq!((0..1000).find_map(|_| memory.evaluate(10)), None);
    }

    #[test]
    fn between_room_and_budget_nothing_changes() {
        let mut memory = Memory::new(100, 4096);
        memory.evaluate(200);
        assert_eq!((0..1000).find_map(|_| memory.evaluate(80)), None);
    }
}
