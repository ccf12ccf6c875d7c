//! Numbers that are missing between what a stream has here and the batch that came. Pure.
//!
//! An agent with several collectors leaves holes in the numbers of each: what another one acknowledged is there. So of
//! every number that is missing before the first batch of a session one of these is true:
//!
//! * another collector acknowledged it, as the hello says: there is nothing to be said;
//! * this one acknowledged it, as the hello says: it is lost here, and the ledger gets a row;
//! * the agent declares that it dropped it: its own ledger says what that was;
//! * nobody speaks for it: the agent is sent back once, and what is missing then as well is lost like the second.

use skep_wire::v1;
use tonic::Status;

/// Ranges a hello may name. An agent sums them up long before.
const MAX_RANGES: usize = 256;

/// Sequences, both ends inclusive, ascending.
pub type Ranges = Vec<(u64, u64)>;

/// What a hello says of the numbers that were acknowledged.
#[derive(Debug, Default)]
pub struct Word {
    /// The last one this collector acknowledged.
    here: u64,
    /// Those that others did.
    elsewhere: Ranges,
}

/// What there is to be said of missing numbers.
#[derive(Debug, PartialEq, Eq)]
pub enum Missing {
    /// Somebody speaks for each of them; these were acknowledged here and are gone.
    Explained(Ranges),
    /// Nobody speaks for some. If the agent does not have them the next time either, these are gone.
    Unexplained(Ranges),
}

impl Word {
    /// Reads the hello.
    ///
    /// # Errors
    /// A status for an agent that makes no sense.
    pub fn of(hello: &v1::Hello) -> Result<Self, Status> {
        let elsewhere: Ranges = hello.elsewhere.iter().map(|range| (range.from_seq, range.to_seq)).collect();
        let mut before = 0;
        let ascending = elsewhere.iter().all(|(from, to)| std::mem::replace(&mut before, *to) < *from && from <= to);
        if elsewhere.len() > MAX_RANGES || !ascending {
            let what = "the hello's ranges of other collectors are too many or not in order";
            return Err(Status::invalid_argument(what));
        }
        Ok(Self { here: hello.acknowledged_seq, elsewhere })
    }

    /// The last number another collector has.
    pub fn last_elsewhere(&self) -> u64 {
        self.elsewhere.last().map_or(0, |(_, to)| *to)
    }

    /// Judges the numbers from `due` to the one before `seq`, of which those from `gap_from` on are declared to be
    /// dropped (`gap_from` equals `seq` where none are).
    ///
    /// What was acknowledged comes before what was not: an agent sends in order. So a gap has to begin where that ends.
    pub fn judge(&self, due: u64, seq: u64, gap_from: u64) -> Missing {
        let acknowledged = self.here.max(self.last_elsewhere());
        if gap_from <= due.max(acknowledged.saturating_add(1)) {
            Missing::Explained(self.not_elsewhere(due, self.here.min(seq - 1)))
        } else {
            Missing::Unexplained(self.not_elsewhere(due, seq - 1))
        }
    }

    /// What of `first..=last` no other collector has.
    fn not_elsewhere(&self, first: u64, last: u64) -> Ranges {
        let mut ranges = Ranges::new();
        let mut next = first;
        for (from, to) in self.elsewhere.iter().filter(|(_, to)| *to >= first) {
            if *from > last {
                break;
            }
            if *from > next {
                ranges.push((next, from - 1));
            }
            next = to.saturating_add(1);
        }
        if next <= last {
            ranges.push((next, last));
        }
        ranges
    }
}

/// For people: `1 to 56, 90 to 120`.
pub fn text(ranges: &[(u64, u64)]) -> String {
    let ranges: Vec<String> = ranges.iter().map(|(from, to)| format!("{from} to {to}")).collect();
    ranges.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(here: u64, elsewhere: &[(u64, u64)]) -> Word {
        let elsewhere = elsewhere.iter().map(|&(from_seq, to_seq)| v1::SeqRange { from_seq, to_seq }).collect();
        Word::of(&v1::Hello { acknowledged_seq: here, elsewhere, ..Default::default() }).unwrap()
    }

    #[test]
    fn what_another_collector_has_is_neither_hole_nor_loss() {
        let nothing = Missing::Explained(Vec::new());
        assert_eq!(word(0, &[(1, 56)]).judge(1, 57, 57), nothing, "the first batch at the second collector");
        assert_eq!(word(56, &[(57, 89)]).judge(57, 90, 90), nothing, "and back");
        // 57 to 60 were stored here, and that was never heard of: the other one has them as well.
        assert_eq!(word(56, &[(57, 89)]).judge(61, 90, 90), nothing);
        // The agent dropped 57 to 60 before it sent them to anybody.
        assert_eq!(word(0, &[(1, 56)]).judge(1, 61, 57), nothing);
        assert_eq!(word(0, &[(1, 56)]).judge(1, 61, 1), nothing, "declared with what is elsewhere");
    }

    #[test]
    fn what_was_acknowledged_here_and_is_gone_is_lost_but_for_what_is_elsewhere() {
        let lost = |ranges: &[(u64, u64)]| Missing::Explained(ranges.to_vec());
        assert_eq!(word(5, &[]).judge(1, 8, 1), lost(&[(1, 5)]), "one collector, and 6 and 7 are declared");
        assert_eq!(word(120, &[(57, 89)]).judge(1, 121, 121), lost(&[(1, 56), (90, 120)]));
        assert_eq!(word(56, &[(57, 89)]).judge(1, 90, 1), lost(&[(1, 56)]));
        assert_eq!(word(120, &[(1, 56), (80, 89)]).judge(60, 121, 121), lost(&[(60, 79), (90, 120)]));
        assert_eq!(word(120, &[(1, 130)]).judge(1, 131, 131), lost(&[]), "the other one has it all");
    }

    #[test]
    fn what_nobody_speaks_for_is_asked_for_once() {
        let unexplained = |ranges: &[(u64, u64)]| Missing::Unexplained(ranges.to_vec());
        assert_eq!(word(0, &[]).judge(1, 8, 8), unexplained(&[(1, 7)]));
        assert_eq!(word(0, &[(1, 56)]).judge(1, 61, 61), unexplained(&[(57, 60)]));
        assert_eq!(word(0, &[(1, 56)]).judge(1, 61, 59), unexplained(&[(57, 60)]), "declared in part");
        assert_eq!(word(0, &[(3, 4)]).judge(1, 8, 8), unexplained(&[(1, 2), (5, 7)]));
    }

    #[test]
    fn a_hello_that_makes_no_sense_is_refused() {
        let of = |elsewhere: &[(u64, u64)]| {
            let elsewhere = elsewhere.iter().map(|&(from_seq, to_seq)| v1::SeqRange { from_seq, to_seq }).collect();
            Word::of(&v1::Hello { elsewhere, ..Default::default() })
        };
        assert!(of(&[(1, 1), (2, 9), (11, u64::MAX)]).is_ok());
        for wrong in [&[(0, 4)][..], &[(5, 4)], &[(1, 4), (4, 9)], &[(6, 9), (1, 4)]] {
            assert_eq!(of(wrong).unwrap_err().code(), tonic::Code::InvalidArgument, "{wrong:?}");
        }
        let many: Vec<_> = (0..300).map(|n| (2 * n + 1, 2 * n + 1)).collect();
        assert!(of(&many).is_err());
    }
}
