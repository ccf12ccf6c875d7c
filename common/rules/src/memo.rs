//! What was made of some texts, kept for the next time: most execs are by programs and below processes that many others
//! are by and below too.
//!
//! Kept by the texts themselves, not by a hash of them: nobody can find two that are taken for one.

use std::sync::Arc;

use crate::aging::Aging;

/// What is made of longer texts is not kept, so that nobody fills memory with them.
const MAX_KEY_BYTES: usize = 2_048;

/// See the module.
#[derive(Debug)]
pub(crate) struct Memo<V> {
    kept: Aging<Box<[u8]>, Arc<V>>,
    /// Room for the key that is asked for.
    key: Vec<u8>,
}

impl<V> Memo<V> {
    /// Holds what was made of between `most` and twice as many different texts.
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: Aging::new(most), key: Vec::new() }
    }

    /// What was made of these texts, or is made of them now. It must depend on nothing else.
    pub(crate) fn of<'t>(&mut self, texts: impl Iterator<Item = &'t str>, make: impl FnOnce() -> V) -> Arc<V> {
        self.key.clear();
        for text in texts {
            // With the lengths in front, no two lists of texts are the same bytes.
            self.key.extend_from_slice(&(text.len() as u64).to_le_bytes());
            if self.key.len() + text.len() > MAX_KEY_BYTES {
                return Arc::new(make());
            }
            self.key.extend_from_slice(text.as_bytes());
        }
        if let Some(made) = self.kept.get(&*self.key) {
            return Arc::clone(made);
        }
        let made = Arc::new(make());
        self.kept.put(Box::from(&*self.key), Arc::clone(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_for_the_same_texts_only() {
        let mut memo = Memo::new(8);
        let mut made = 0;
        let mut ask = |texts: &[&str]| {
            *memo.of(texts.iter().copied(), || {
                made += 1;
                made
            })
        };
        assert_eq!([ask(&["ab", "c"]), ask(&["a", "bc"]), ask(&["abc"]), ask(&["ab", "c"])], [1, 2, 3, 1]);
        let long = "x".repeat(MAX_KEY_BYTES);
        assert_eq!([ask(&[&long]), ask(&[&long])], [4, 5], "too long to be kept");
        (0..100).for_each(|number| _ = ask(&[&number.to_string()]));
        assert!(memo.kept.len() <= 16);
    }
}
