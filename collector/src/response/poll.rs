//! Peers that are asked what they see of a service, and what they say: from the policy to their sessions and back.

use skep_policy::decision::Poll;
use skep_policy::instances::Run;
use skep_policy::quorum::{LOOK_MS, Sight};
use skep_wire::chunk::Row;
use skep_wire::v1;

use super::output::{Output, Pending};
use super::responder::Responder;

/// Longest detail of an answer, in characters.
const MAX_DETAIL: usize = 200;

impl Responder {
    /// Peers are to be asked, once it is written down that they are.
    pub(super) fn poll(&mut self, poll: Poll, now_us: i64, out: &mut Pending) {
        let Poll { id, finding, node, checked, peers, of, needed } = poll;
        let whom = if peers.is_empty() { "nobody is there to be".to_owned() } else { peers.join(", ") };
        let detail =
            format!("{whom} asked about {} {}: {needed} of {of} must see it down", checked.kind, checked.target);
        out.rows.audit(now_us, "policy", "asked", &id, &node, &detail);
        out.rows.fact("finding", &finding);
        for peer in peers {
            let probe = v1::Probe {
                id: id.clone(),
                kind: checked.kind.clone(),
                target: checked.target.clone(),
                timeout_ms: LOOK_MS,
            };
            out.probes.push((peer, probe));
        }
    }

    /// A node says what it sees, or it could not be asked and `detail` says why.
    pub fn answered(&mut self, node: &str, answer: &v1::ProbeAnswer, now_us: i64) -> Output {
        let mut out = Pending::default();
        let sight = match answer.sight() {
            v1::Sight::Well => Sight::Well,
            v1::Sight::Down => Sight::Down,
            v1::Sight::Unknown | v1::Sight::Unspecified => Sight::Unknown,
        };
        let detail: String = answer.detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect();
        let about = self.engine.answered(&answer.id, node, sight, &detail, now_us);
        let (step, reason) = match &about {
            Some(_) => ("answered", ""),
            None => ("answered late", ", when nobody waited for it"),
        };
        let between = if detail.is_empty() { "" } else { ": " };
        let line = format!("{node} {}{reason}{between}{detail}", sight.as_str());
        out.rows.audit(now_us, node, step, &answer.id, node, &line);
        out.rows.fact("finding", about.as_deref().unwrap_or_default());
        self.decide(now_us, &mut out);
        out.finish()
    }

    /// A row of `checks`: one instance of a service, and whether it is healthy.
    pub(super) fn instance(&mut self, node: &str, row: &Row<'_>, now_us: i64) {
        let Some(check) = row.text("name") else { return };
        let run = Run {
            node,
            check,
            workload: row.text("workload").unwrap_or("host"),
            down: row.int("down") == Some(1),
            interval_us: (row.float("interval_s").unwrap_or(0.0) * 1e6) as i64,
        };
        self.engine.instance(run, now_us);
    }

    /// Says of how many checks nothing is known for want of room.
    pub(super) fn uncounted(&mut self, now_us: i64, out: &mut Pending) {
        let runs = self.engine.take_uncounted();
        if runs > 0 {
            let detail = format!("{runs} runs of checks are not counted as healthy instances, for want of room");
            out.rows.audit(now_us, "collector", "evicted", "instances", "", &detail);
        }
    }
}
