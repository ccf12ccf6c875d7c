//! Finds what was changed, removed, moved or put in.

use std::collections::HashMap;
use std::fmt;

use ed25519_dalek::VerifyingKey;
use serde::Serialize;

use crate::entry::{Entry, NOTHING, key_id};
use crate::head::Head;

/// Faults that are told one by one; the others are counted.
const TOLD: usize = 100;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Bytes that are no entry.
    Unreadable {
        /// Where: a file and a line, or a row.
        at: String,
    },
    /// Entries are missing, or stand elsewhere.
    Missing {
        /// The first that is.
        from: u64,
        /// The last.
        to: u64,
    },
    /// It comes after one it stood before, or twice.
    Moved {
        /// The entry.
        number: u64,
    },
    /// Its values are not what was hashed.
    Changed {
        /// The entry.
        number: u64,
    },
    /// The entry before it is not the one it was written behind.
    Unlinked {
        /// The entry.
        number: u64,
    },
    /// Of another collector's chain.
    Foreign {
        /// The entry.
        number: u64,
        /// Whose.
        chain: String,
    },
    /// None of the keys given signed it.
    Unsigned {
        /// The entry.
        number: u64,
        /// The key it names.
        key: String,
    },
    /// The head says there were more.
    CutOff {
        /// The last that is there.
        last: u64,
        /// The last there was.
        head: u64,
    },
    /// The head is of another chain of events.
    OtherHead {
        /// The entry it should be.
        number: u64,
    },
    /// The head is missing, does not read, or none of the keys given signed it.
    NoHead {
        /// Which of these.
        why: String,
    },
    /// What was noted elsewhere is not in the chain.
    NotAsNoted {
        /// The entry.
        number: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { at } => write!(f, "{at} is not what was written"),
            Self::Missing { from, to } if from == to => write!(f, "entry {from} is missing"),
            Self::Missing { from, to } => write!(f, "entries {from} to {to} are missing"),
            Self::Moved { number } => write!(f, "entry {number} stands where it was not written"),
            Self::Changed { number } => write!(f, "entry {number} was changed"),
            Self::Unlinked { number } => write!(f, "entry {number} was written behind another one"),
            Self::Foreign { number, chain } => write!(f, "entry {number} is of the chain of {chain}"),
            Self::Unsigned { number, key } => write!(f, "entry {number} was signed by none of the keys given ({key})"),
            Self::CutOff { last, head } => write!(f, "the chain ends with entry {last}, there were {head}"),
            Self::OtherHead { number } => write!(f, "the head is not that of entry {number}"),
            Self::NoHead { why } => write!(f, "nothing says where the chain ends: {why}"),
            Self::NotAsNoted { number } => write!(f, "entry {number} is not the one that was noted"),
        }
    }
}

/// What a chain turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose chain.
    pub chain: String,
    /// Entries read.
    pub entries: u64,
    /// Time of the first, microseconds since the epoch.
    pub first_us: Option<i64>,
    /// Number of the last.
    pub last: u64,
    /// Its hash: with the number, what to note elsewhere.
    pub hash: String,
    /// Its time.
    pub last_us: Option<i64>,
    /// Whole, linked and signed entries behind the head: written just before a crash.
    pub behind_head: u64,
    /// What is wrong, at most a hundred.
    pub faults: Vec<Fault>,
    /// How many faults there are.
    pub faulty: u64,
}

/// Reads a chain entry by entry.
#[derive(Debug)]
pub struct Verifier {
    keys: HashMap<String, VerifyingKey>,
    noted: HashMap<u64, String>,
    head: Option<Head>,
    at_head: Option<String>,
    report: Report,
}

impl Verifier {
    /// With the public keys that may have signed.
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        Self {
            keys: keys.into_iter().map(|key| (key_id(&key), key)).collect(),
            noted: HashMap::new(),
            head: None,
            at_head: None,
            report: Report {
                chain: String::new(),
                entries: 0,
                first_us: None,
                last: 0,
                hash: NOTHING.to_owned(),
                last_us: None,
                behind_head: 0,
                faults: Vec::new(),
                faulty: 0,
            },
        }
    }

    /// An entry that was noted elsewhere must be in the chain.
    pub fn expect(&mut self, number: u64, hash: &str) {
        self.noted.insert(number, hash.to_owned());
    }

    /// The end as it was signed; to be given before the entries.
    pub fn head(&mut self, head: Result<Head, String>) {
        match head {
            Ok(head) if self.keys.get(&head.key).is_some_and(|key| head.is_signed_by(key)) => self.head = Some(head),
            Ok(head) => {
                self.fault(Fault::NoHead { why: format!("the head is signed by none of the keys ({})", head.key) })
            }
            Err(why) => self.fault(Fault::NoHead { why }),
        }
    }

    /// Something in the place of an entry.
    pub fn unreadable(&mut self, at: String) {
        self.fault(Fault::Unreadable { at });
    }

    /// The next entry.
    pub fn take(&mut self, entry: &Entry) {
        let number = entry.number;
        let next = self.report.last + 1;
        if self.report.chain.is_empty() {
            self.report.chain.clone_from(&entry.chain);
        } else if entry.chain != self.report.chain {
            self.fault(Fault::Foreign { number, chain: entry.chain.clone() });
        }
        let in_place = number == next;
        if number < next {
            self.fault(Fault::Moved { number });
        } else if !in_place {
            self.fault(Fault::Missing { from: next, to: number - 1 });
        }
        let whole = entry.is_whole();
        if !whole {
            self.fault(Fault::Changed { number });
        }
        if in_place && entry.previous != self.report.hash {
            self.fault(Fault::Unlinked { number });
        }
        if !self.keys.get(&entry.key).is_some_and(|key| entry.is_signed_by(key)) {
            self.fault(Fault::Unsigned { number, key: entry.key.clone() });
        }
        if self.noted.get(&number).is_some_and(|hash| *hash == entry.hash) {
            self.noted.remove(&number);
        }
        match &self.head {
            Some(head) if number == head.number => self.at_head = Some(entry.hash.clone()),
            Some(head) if number > head.number => self.report.behind_head += 1,
            _ => {}
        }
        self.report.entries += 1;
        self.report.first_us.get_or_insert(entry.time_us);
        if number >= next {
            self.report.last = number;
            self.report.hash.clone_from(&entry.hash);
            self.report.last_us = Some(entry.time_us);
        }
    }

    /// What the chain turned out to be.
    pub fn finish(mut self) -> Report {
        if let Some(head) = self.head.clone() {
            if !self.report.chain.is_empty() && head.chain != self.report.chain {
                self.fault(Fault::Foreign { number: head.number, chain: head.chain.clone() });
            }
            if self.report.last < head.number {
                self.fault(Fault::CutOff { last: self.report.last, head: head.number });
            } else if head.number > 0 && self.at_head.as_ref() != Some(&head.hash) {
                self.fault(Fault::OtherHead { number: head.number });
            }
        }
        let mut noted: Vec<u64> = self.noted.keys().copied().collect();
        noted.sort_unstable();
        for number in noted {
            self.fault(Fault::NotAsNoted { number });
        }
        self.report
    }

    fn fault(&mut self, fault: Fault) {
        self.report.faulty += 1;
        if self.report.faults.len() < TOLD {
            self.report.faults.push(fault);
        }
    }
}
