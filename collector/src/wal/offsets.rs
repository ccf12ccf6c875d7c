//! How far each stream has come, and what that means for a batch that arrives. No IO.

use std::collections::BTreeMap;

/// One spool's life on one node. The node is part of it so that no node can move another's offset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// Node name.
    pub node: String,
    /// Life of its spool.
    pub stream: String,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one: store it.
    Store,
    /// It is stored already: say so again.
    Repeat,
    /// Batches before it are missing: refuse it.
    Early {
        /// The one expected.
        expected: u64,
    },
}

/// Last stored number of every stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets(BTreeMap<StreamKey, u64>);

impl Offsets {
    /// Last stored number; 0 for a stream never heard of.
    pub fn last(&self, key: &StreamKey) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// Judges batch `seq`, before which the batches from `gap_from` on are known to be gone (`gap_from` equals `seq`
    /// where none are).
    pub fn judge(&self, key: &StreamKey, seq: u64, gap_from: u64) -> Verdict {
        let last = self.last(key);
        if seq <= last {
            Verdict::Repeat
        } else if gap_from.min(seq) <= last + 1 {
            Verdict::Store
        } else {
            Verdict::Early { expected: last + 1 }
        }
    }

    /// Batch `seq` is stored. Going back has no effect.
    pub fn advance(&mut self, key: &StreamKey, seq: u64) {
        match self.0.get_mut(key) {
            Some(last) => *last = seq.max(*last),
            None => {
                self.0.insert(key.clone(), seq);
            }
        }
    }

    /// Takes whatever `other` has further; returns how many streams it had further.
    pub fn merge(&mut self, other: &Self) -> usize {
        let mut further = 0;
        for (key, seq) in other.iter() {
            if seq > self.last(key) {
                further += 1;
                self.advance(key, seq);
            }
        }
        further
    }

    /// Every stream with its last number.
    pub fn iter(&self) -> impl Iterator<Item = (&StreamKey, u64)> {
        self.0.iter().map(|(key, seq)| (key, *seq))
    }
}

impl FromIterator<(StreamKey, u64)> for Offsets {
    fn from_iter<T: IntoIterator<Item = (StreamKey, u64)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_stored_once_and_in_order() {
        let key = StreamKey { node: "n".to_owned(), stream: "s".to_owned() };
        let mut offsets = Offsets::default();
        assert_eq!(offsets.judge(&key, 1, 1), Verdict::Store);
        assert_eq!(offsets.judge(&key, 2, 2), Verdict::Early { expected: 1 });
        offsets.advance(&key, 5);
        offsets.advance(&key, 3);
        for (seq, gap_from, verdict) in [
            (1, 1, Verdict::Repeat),
            (5, 5, Verdict::Repeat),
            (6, 6, Verdict::Store),
            (7, 7, Verdict::Early { expected: 6 }),
            (9, 6, Verdict::Store),
            (9, 2, Verdict::Store),
            (9, 7, Verdict::Early { expected: 6 }),
            (4, 2, Verdict::Repeat),
        ] {
            assert_eq!(offsets.judge(&key, seq, gap_from), verdict, "{seq} after {gap_from}");
        }
    }

    #[test]
    fn another_node_with_the_same_stream_is_another_stream() {
        let key = |node: &str| StreamKey { node: node.to_owned(), stream: "s".to_owned() };
        let mut offsets = Offsets::default();
        offsets.advance(&key("a"), 4);
        assert_eq!(offsets.judge(&key("b"), 1, 1), Verdict::Store);
    }
}
