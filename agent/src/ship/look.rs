//! What the collector asks of this node about services of others, while a session lasts.

use std::sync::Arc;
use std::time::Duration;

use skep_checks::peer::{Looker, Seen, Sight};
use skep_wire::v1;
use tokio::task::JoinSet;

/// Looks under way; what comes on top of them is passed over, and counts as not answered.
const MOST: usize = 8;

/// Digits of an id.
const ID_DIGITS: usize = 32;

/// Looks of a session; they end with it.
#[derive(Debug)]
pub(super) struct Looks {
    looker: Arc<Looker>,
    running: JoinSet<v1::ProbeAnswer>,
    passed_over: u64,
}

impl Looks {
    pub(super) fn new(looker: Arc<Looker>) -> Self {
        Self { looker, running: JoinSet::new(), passed_over: 0 }
    }

    /// Begins to look.
    pub(super) fn begin(&mut self, probe: v1::Probe) {
        let is_id = probe.id.len() == ID_DIGITS && probe.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id || self.running.len() >= MOST {
            self.passed_over += 1;
            let why = if is_id { "as many are under way as may be" } else { "its id is not 32 hex digits" };
            tracing::warn!(passed_over = self.passed_over, "a question of the collector is passed over: {why}");
            return;
        }
        let looker = Arc::clone(&self.looker);
        self.running.spawn(async move {
            let within = Duration::from_millis(probe.timeout_ms.into());
            let Seen { sight, detail } = looker.look(&probe.kind, &probe.target, within).await;
            tracing::info!(kind = probe.kind, target = probe.target, ?sight, detail, "looked for the collector");
            let sight = match sight {
                Sight::Well => v1::Sight::Well,
                Sight::Down => v1::Sight::Down,
                Sight::Unknown => v1::Sight::Unknown,
            };
            v1::ProbeAnswer { id: probe.id, sight: sight.into(), detail }
        });
    }

    /// The next answer; never where nothing is under way.
    pub(super) async fn next(&mut self) -> v1::ProbeAnswer {
        loop {
            match self.running.join_next().await {
                Some(Ok(answer)) => return answer,
                // One that broke is one that did not answer.
                Some(Err(error)) => tracing::error!(%error, "a look for the collector broke"),
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_checks::peer::Allowed;

    use super::*;

    fn probe(n: usize) -> v1::Probe {
        v1::Probe { id: format!("{n:032x}"), kind: "tcp".into(), target: "127.0.0.1:1".into(), timeout_ms: 100 }
    }

    #[tokio::test]
    async fn each_question_has_one_answer_and_too_many_have_none() {
        let mut looks = Looks::new(Arc::new(Looker::new(Allowed::default(), Vec::new())));
        (0..=MOST).for_each(|n| looks.begin(probe(n)));
        looks.begin(v1::Probe { id: "x".into(), ..probe(0) });
        assert_eq!(looks.passed_over, 2);
        let mut ids = Vec::new();
        for _ in 0..MOST {
            let answer = looks.next().await;
            assert_eq!(answer.sight(), v1::Sight::Unknown, "{answer:?}");
            ids.push(answer.id);
        }
        ids.sort();
        assert_eq!(ids, (0..MOST).map(|n| format!("{n:032x}")).collect::<Vec<_>>());
        let more = tokio::time::timeout(Duration::from_millis(20), looks.next()).await;
        assert!(more.is_err(), "nothing is under way");
    }
}
