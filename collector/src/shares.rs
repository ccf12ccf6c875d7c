//! What each of many has of something that is limited: connections, calls, memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who has how much. Names of those that have nothing are not kept.
#[derive(Debug, Default)]
pub struct Shares(Mutex<HashMap<String, usize>>);

/// What was taken at once, given back when dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    name: String,
    units: usize,
}

impl Shares {
    /// So much more for this name, if it may: `may` is told what it has, and how many have something, this one included.
    pub fn take(self: &Arc<Self>, name: &str, units: usize, may: impl FnOnce(usize, usize) -> bool) -> Option<Share> {
        let mut all = self.lock();
        let own = all.get(name).copied().unwrap_or(0);
        let having = all.len() + usize::from(own == 0);
        if !may(own, having) {
            return None;
        }
        all.insert(name.to_owned(), own + units);
        Some(Share { shares: Arc::clone(self), name: name.to_owned(), units })
    }

    /// Whether nobody has anything.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.shares.lock();
        if let Some(units) = all.get_mut(&self.name) {
            *units -= self.units;
            if *units == 0 {
                all.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_own_and_gets_back_what_it_gave_back() {
        let shares = Arc::new(Shares::default());
        let take = |name| shares.take(name, 1, |own, _| own < 2);
        let (first, second) = (take("a"), take("a"));
        assert!(first.is_some() && second.is_some());
        assert!(take("a").is_none());
        assert!(take("b").is_some());
        drop(first);
        assert!(take("a").is_some(), "and given back at once");
        drop(second);
        assert!(shares.is_empty(), "names of those that are gone are not kept");
    }
}
