//! What an agent was asked to look at and has not answered yet: an answer nobody asked for goes no further.

use std::collections::VecDeque;

use skep_wire::v1::{self, down};
use thiserror::Error;

/// Questions of a session that are remembered; the oldest is forgotten first.
const MOST: usize = 32;

/// Longest detail that is taken, in bytes.
const MAX_DETAIL_BYTES: usize = 4_096;

/// Digits of an id.
const ID_DIGITS: usize = 32;

/// Questions of a session.
#[derive(Debug, Default)]
pub(super) struct Asked(VecDeque<String>);

/// Why an answer is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refused {
    /// Its id is none.
    #[error("its id is not 32 hex digits")]
    Id,
    /// It says too much.
    #[error("its detail has {found} bytes, {MAX_DETAIL_BYTES} are allowed")]
    Detail {
        /// How much.
        found: usize,
    },
    /// Nobody asked, or it was answered before.
    #[error("nobody asked for it")]
    Unasked,
}

impl Asked {
    /// A message goes down.
    pub(super) fn note(&mut self, message: &v1::Down) {
        let Some(down::Message::Probe(probe)) = &message.message else { return };
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(probe.id.clone());
    }

    /// An answer comes up.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn take(&mut self, answer: &v1::ProbeAnswer) -> Result<(), Refused> {
        if answer.id.len() != ID_DIGITS || !answer.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Refused::Id);
        }
        if answer.detail.len() > MAX_DETAIL_BYTES {
            return Err(Refused::Detail { found: answer.detail.len() });
        }
        let at = self.0.iter().position(|id| *id == answer.id).ok_or(Refused::Unasked)?;
        self.0.remove(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(n: usize) -> v1::Down {
        let probe = v1::Probe { id: format!("{n:032x}"), ..v1::Probe::default() };
        v1::Down { message: Some(down::Message::Probe(probe)) }
    }

    fn answer(id: &str, detail: &str) -> v1::ProbeAnswer {
        v1::ProbeAnswer { id: id.to_owned(), detail: detail.to_owned(), ..v1::ProbeAnswer::default() }
    }

    #[test]
    fn an_answer_is_taken_once_and_only_where_it_was_asked_for() {
        let mut asked = Asked::default();
        let id = format!("{:032x}", 7);
        assert_eq!(asked.take(&answer(&id, "")), Err(Refused::Unasked));
        asked.note(&probe(7));
        asked.note(&v1::Down::default());
        assert_eq!(asked.take(&answer(&id, &"x".repeat(5_000))), Err(Refused::Detail { found: 5_000 }));
        assert_eq!(asked.take(&answer(&id, "refused")), Ok(()));
        assert_eq!(asked.take(&answer(&id, "refused")), Err(Refused::Unasked));
        for id in ["", "7", "zz", &"é".repeat(16)] {
            assert_eq!(asked.take(&answer(id, "")), Err(Refused::Id));
        }
        (0..=MOST).for_each(|n| asked.note(&probe(n)));
        assert_eq!(asked.take(&answer(&format!("{:032x}", 0), "")), Err(Refused::Unasked), "long ago");
    }
}
