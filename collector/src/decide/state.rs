//! The life of an action, as one table.
//!
//! ```text
//! observed
//! pending --approve--> sent --> applied --> improved | unchanged | worse --> undone
//!    |                  |  \--> refused, moot       \--------> done <-- (what stays) ---> failed
//!    |                  |---> failed (no answer; a late receipt still counts)
//!    |                  \---> pending (the node was not there to take it)
//!    \--reject--> rejected    \--time--> expired
//! ```

/// Where an action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The policy only says what would be done.
    Observed,
    /// Waits for an operator.
    Pending,
    /// An operator said no.
    Rejected,
    /// Nobody said anything in time, or the host started anew.
    Expired,
    /// Signed and on its way.
    Sent,
    /// The executor refused it; nothing was changed.
    Refused,
    /// The limit stands.
    Applied,
    /// It stands and the trigger went down.
    Improved,
    /// It stands and did not help.
    Unchanged,
    /// It made things worse and is being undone.
    Worse,
    /// The host is as it was.
    Undone,
    /// It could not be applied or undone, or nobody answered.
    Failed,
    /// There was no reason any more when the executor looked; nothing was changed.
    Moot,
    /// It did what it was to do, and cannot be undone.
    Done,
    /// It stands, for longer than it was to.
    Extended,
}

/// What happens to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An operator or the policy lets it pass.
    Approve,
    /// An operator says no.
    Reject,
    /// It waited too long, or the host started anew.
    Expire,
    /// There was no session to hand the command to.
    Undeliverable,
    /// Nothing came back in time.
    NoAnswer,
    /// The executor reports.
    Receipt(State),
}

const NAMES: [(&str, State); 15] = [
    ("observed", State::Observed),
    ("pending", State::Pending),
    ("rejected", State::Rejected),
    ("expired", State::Expired),
    ("sent", State::Sent),
    ("refused", State::Refused),
    ("applied", State::Applied),
    ("improved", State::Improved),
    ("unchanged", State::Unchanged),
    ("worse", State::Worse),
    ("undone", State::Undone),
    ("failed", State::Failed),
    ("moot", State::Moot),
    ("done", State::Done),
    ("extended", State::Extended),
];

impl State {
    /// As in the table.
    pub fn as_str(self) -> &'static str {
        NAMES[self as usize].0
    }

    /// The inverse of [`State::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, state)| *state)
    }

    /// On its way or in force: it counts against the budgets and keeps its workload to itself.
    pub fn stands(self) -> bool {
        matches!(self, Self::Sent | Self::Applied | Self::Extended | Self::Improved | Self::Unchanged | Self::Worse)
    }

    /// Nothing more is expected to happen to it.
    pub fn is_closed(self) -> bool {
        !self.stands() && self != Self::Pending
    }

    /// Whether an executor can have brought it about; the others only this collector decides.
    pub fn is_executors(self) -> bool {
        !matches!(self, Self::Observed | Self::Pending | Self::Rejected | Self::Expired | Self::Sent)
    }

    /// The state after `event`; `None` when the event does not belong here.
    pub fn after(self, event: Event) -> Option<Self> {
        use State::{
            Applied, Done, Expired, Extended, Failed, Improved, Moot, Pending, Refused, Rejected, Sent, Unchanged,
            Undone, Worse,
        };
        match (self, event) {
            (Pending, Event::Approve) => Some(Sent),
            (Pending, Event::Reject) => Some(Rejected),
            (Pending, Event::Expire) => Some(Expired),
            (Sent, Event::Undeliverable) => Some(Pending),
            (Sent, Event::NoAnswer) => Some(Failed),
            // A receipt may come after "no answer", and one may be missing where an executor lost its journal.
            (Sent | Failed, Event::Receipt(to @ (Refused | Moot | Failed))) => (self != to).then_some(to),
            (
                Sent | Failed | Pending,
                Event::Receipt(to @ (Applied | Extended | Improved | Unchanged | Worse | Done | Undone)),
            ) => Some(to),
            (
                Applied | Extended,
                Event::Receipt(to @ (Extended | Improved | Unchanged | Worse | Done | Undone | Failed)),
            ) => Some(to),
            (
                Improved | Unchanged,
                Event::Receipt(to @ (Extended | Improved | Unchanged | Worse | Done | Undone | Failed)),
            ) => (self != to).then_some(to),
            (Worse, Event::Receipt(to @ (Undone | Failed))) => Some(to),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State::*;
    use super::*;

    #[test]
    fn names_come_back() {
        for (name, state) in NAMES {
            assert_eq!(state.as_str(), name);
            assert_eq!(State::parse(name), Some(state));
        }
        assert_eq!(State::parse("gone"), None);
    }

    #[test]
    fn the_life_of_an_action() {
        for (from, event, to) in [
            (Pending, Event::Approve, Some(Sent)),
            (Pending, Event::Reject, Some(Rejected)),
            (Pending, Event::Expire, Some(Expired)),
            (Pending, Event::NoAnswer, None),
            (Observed, Event::Approve, None),
            (Rejected, Event::Approve, None),
            (Expired, Event::Approve, None),
            (Sent, Event::Approve, None),
            (Sent, Event::Reject, None),
            (Sent, Event::Undeliverable, Some(Pending)),
            (Sent, Event::NoAnswer, Some(Failed)),
            (Sent, Event::Receipt(Refused), Some(Refused)),
            (Sent, Event::Receipt(Applied), Some(Applied)),
            (Failed, Event::Receipt(Applied), Some(Applied)),
            (Failed, Event::Receipt(Failed), None),
            (Applied, Event::NoAnswer, None),
            (Applied, Event::Undeliverable, None),
            (Applied, Event::Receipt(Improved), Some(Improved)),
            (Applied, Event::Receipt(Worse), Some(Worse)),
            (Applied, Event::Receipt(Undone), Some(Undone)),
            (Improved, Event::Receipt(Undone), Some(Undone)),
            (Improved, Event::Receipt(Applied), None),
            (Worse, Event::Receipt(Improved), None),
            (Worse, Event::Receipt(Undone), Some(Undone)),
            (Undone, Event::Receipt(Applied), None),
            (Undone, Event::Receipt(Failed), None),
            (Refused, Event::Receipt(Applied), None),
            (Sent, Event::Receipt(Moot), Some(Moot)),
            (Moot, Event::Receipt(Applied), None),
            (Applied, Event::Receipt(Done), Some(Done)),
            (Improved, Event::Receipt(Done), Some(Done)),
            (Done, Event::Receipt(Undone), None),
            (Improved, Event::Receipt(Extended), Some(Extended)),
            (Extended, Event::Receipt(Extended), Some(Extended)),
            (Extended, Event::Receipt(Undone), Some(Undone)),
        ] {
            assert_eq!(from.after(event), to, "{from:?} {event:?}");
        }
    }

    #[test]
    fn only_what_is_on_its_way_or_in_force_stands() {
        let standing: Vec<State> = NAMES.iter().map(|(_, state)| *state).filter(|state| state.stands()).collect();
        assert_eq!(standing, [Sent, Applied, Improved, Unchanged, Worse, Extended]);
        assert!(Undone.is_closed() && !Pending.is_closed() && !Sent.is_closed());
    }
}
