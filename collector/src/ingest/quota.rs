//! How much of something one agent may have at a time, whoever else has what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many for each.
#[derive(Debug)]
pub struct Quota {
    most: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// One of them, given back when dropped.
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
    name: String,
}

impl Quota {
    /// So many for each name.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// One for this name, if it does not have as many as it may.
    pub fn take(self: &Arc<Self>, name: &str) -> Option<Share> {
        let mut all = self.lock();
        let taken = all.entry(name.to_owned()).or_default();
        if *taken >= self.most {
            return None;
        }
        *taken += 1;
        Some(Share { quota: Arc::clone(self), name: name.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.quota.lock();
        let Some(taken) = all.get_mut(&self.name) else { return };
        *taken -= 1;
        if *taken == 0 {
            all.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_own_and_gets_back_what_it_gave_back() {
        let quota = Quota::new(2);
        let (first, second) = (quota.take("a"), quota.take("a"));
        assert!(first.is_some() && second.is_some());
        assert!(quota.take("a").is_none());
        assert!(quota.take("b").is_some());
        drop(first);
        assert!(quota.take("a").is_some(), "and given back at once");
        drop(second);
        assert!(quota.lock().is_empty(), "names of those that are gone are not kept");
    }
}
