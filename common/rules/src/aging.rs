//! A map that forgets: two generations, the younger becomes the older when it is full.
//!
//! What was used lately stays, what was not goes without a walk over anything, and there are never more entries than
//! twice the bound.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// See the module.
#[derive(Debug)]
pub struct Aging<K, V> {
    young: HashMap<K, V, foldhash::fast::RandomState>,
    old: HashMap<K, V, foldhash::fast::RandomState>,
    most: usize,
    /// Entries that were forgotten for want of room.
    forgotten: u64,
}

impl<K: Eq + Hash, V> Aging<K, V> {
    /// Holds between `most` and twice as many.
    pub fn new(most: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), most: most.max(1), forgotten: 0 }
    }

    /// Looks without using.
    pub fn peek<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Looks, and keeps it young.
    pub fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.put(key, value);
        }
        self.young.get_mut(key)
    }

    /// Looks, puts in an empty one where there is none, and keeps it young.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        K: Clone,
        V: Default,
    {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_default();
            self.put(key.clone(), value);
        }
        self.young.entry(key).or_default()
    }

    /// Puts in an entry.
    pub fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.most {
            self.forgotten += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// All, the older generation first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.old.iter().chain(&self.young)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut map = Aging::new(10);
        for i in 0..1_000 {
            map.put(i, i);
            assert_eq!(map.get(&0), Some(&mut 0), "used all the time");
            assert!(map.len() <= 20);
        }
        assert_eq!(map.peek(&1), None);
        assert_eq!(map.remove(&999), Some(999));
        assert!(map.forgotten() >= 900);
    }
}
