//! Which finding belongs to which incident, and when one begins and ends.
//!
//! Findings of one node or of one workload in the same minutes belong together. It takes one of medium severity to begin an
//! incident, and a while without such to end it, or an operator's word; one that comes back soon after is the same one.

use std::collections::{HashMap, VecDeque};

use skep_alerts::report::State as Reported;

use super::state::{COLLECTOR, Cause, Change, Incident, State};
use crate::alert::report;
use crate::decide::Refusal;
use crate::detect::finding::{Finding, Severity};

/// A finding belongs to what had another so long ago.
const JOIN_US: i64 = 10 * 60 * 1_000_000;

/// Without findings and with nothing that stands, an incident is over after this.
const QUIET_US: i64 = 15 * 60 * 1_000_000;

/// So long after it was over it may turn out not to have been.
const REOPEN_US: i64 = 30 * 60 * 1_000_000;

/// What changed on a node so long ago may be why.
const CAUSE_US: i64 = 15 * 60 * 1_000_000;

/// Most incidents that are not over, and as many that are, are known; of more the oldest end.
const MAX_INCIDENTS: usize = 1_000;

/// Most changes of nodes that are remembered.
const MAX_CHANGES: usize = 1_000;

/// So many findings of an incident have a row each; then, every time they have doubled. All are in `findings`.
const ROWS: i64 = 64;

/// Something that changed on a node and is no finding.
#[derive(Debug)]
struct Changed {
    node: String,
    time_us: i64,
    what: String,
}

/// All incidents that matter still.
#[derive(Debug, Default)]
pub struct Book {
    incidents: HashMap<String, Incident>,
    changes: VecDeque<Changed>,
}

/// Where rows go: an incident as it has become, and why.
pub type Tell<'t> = dyn FnMut(&Incident, Cause<'_>) + 't;

impl Book {
    /// Takes a row up that was written before this start, the oldest first.
    pub fn restore(&mut self, incident: Incident) {
        let newer = self.incidents.get(&incident.id).is_none_or(|known| known.changed_us <= incident.changed_us);
        if newer {
            self.incidents.insert(incident.id.clone(), incident);
        }
    }

    /// Takes a finding; `id` gives a new incident its id.
    pub fn take(&mut self, finding: &Finding, now_us: i64, id: impl FnOnce() -> String, tell: &mut Tell<'_>) {
        let reported = report::of(finding);
        if reported.state == Reported::Resolved {
            return self.over(&reported.key, finding, now_us, tell);
        }
        let place = self.home(finding).map(|incident| incident.id.clone());
        let incident = match place.and_then(|id| self.incidents.get_mut(&id)) {
            Some(incident) => incident,
            None if finding.severity < Severity::Medium => return,
            None => {
                let id = id();
                self.make_room(now_us, tell);
                self.incidents.entry(id.clone()).or_insert_with(|| begun(id, finding, now_us))
            }
        };
        let change = join(incident, finding, now_us);
        if reported.state == Reported::Firing {
            Incident::name(&mut incident.standing, &reported.key);
        }
        let told = incident.findings <= ROWS || incident.findings.count_ones() == 1;
        if told || change != Change::Joined {
            tell(incident, Cause { change, actor: COLLECTOR, finding: Some(&finding.id), detail: &finding.title });
        }
        if change != Change::Opened {
            return;
        }
        let near = |changed: &&Changed| {
            changed.node == finding.node && (0..=CAUSE_US).contains(&(finding.time_us - changed.time_us))
        };
        for changed in self.changes.iter().filter(near) {
            touch(incident, now_us);
            tell(incident, Cause { change: Change::Changed, actor: COLLECTOR, finding: None, detail: &changed.what });
        }
    }

    /// Something that is no finding changed on a node: it restarted, for one.
    pub fn changed(&mut self, node: &str, what: &str, now_us: i64, tell: &mut Tell<'_>) {
        for incident in self.incidents.values_mut() {
            if incident.state != State::Closed && incident.node == node && now_us - incident.last_us <= JOIN_US {
                touch(incident, now_us);
                tell(incident, Cause { change: Change::Changed, actor: COLLECTOR, finding: None, detail: what });
            }
        }
        if self.changes.len() >= MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(Changed { node: node.to_owned(), time_us: now_us, what: what.to_owned() });
    }

    /// Ends what is quiet, and forgets what nothing can belong to any more.
    pub fn tick(&mut self, now_us: i64, tell: &mut Tell<'_>) {
        for incident in self.incidents.values_mut() {
            let quiet = now_us - incident.last_us > QUIET_US;
            if incident.state != State::Closed && quiet && incident.standing.is_empty() {
                close(incident, now_us, "nothing more came, and nothing stands", tell);
            }
        }
        self.incidents
            .retain(|_, incident| incident.state != State::Closed || now_us - incident.changed_us <= REOPEN_US);
        while self.changes.front().is_some_and(|change| now_us - change.time_us > CAUSE_US) {
            self.changes.pop_front();
        }
    }

    /// An operator's word; the incident as it is then.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was changed.
    pub fn operator(
        &mut self,
        id: &str,
        change: Change,
        (operator, reason): (&str, &str),
        now_us: i64,
        tell: &mut Tell<'_>,
    ) -> Result<&Incident, Refusal> {
        let unknown = || Refusal::UnknownIncident { incident: id.to_owned() };
        let incident = self.incidents.get_mut(id).ok_or_else(unknown)?;
        let (verb, state, may) = match change {
            Change::Acknowledged => ("acknowledge", State::Acknowledged, incident.state == State::Open),
            _ => ("close", State::Closed, incident.state != State::Closed),
        };
        if !may {
            return Err(Refusal::PastIncident { incident: id.to_owned(), verb, state: incident.state.as_str() });
        }
        touch(incident, now_us);
        incident.state = state;
        incident.closed_by_hand = state == State::Closed;
        tell(incident, Cause { change, actor: operator, finding: None, detail: reason });
        Ok(incident)
    }

    /// The incident a finding belongs to: of several, the one that is not over, then the one that had one last.
    fn home(&self, finding: &Finding) -> Option<&Incident> {
        let fitting = self.incidents.values().filter(|incident| belongs(incident, finding));
        fitting.max_by_key(|incident| (incident.state != State::Closed, incident.last_us, incident.changed_us))
    }

    fn over(&mut self, key: &str, finding: &Finding, now_us: i64, tell: &mut Tell<'_>) {
        for incident in self.incidents.values_mut() {
            let before = incident.standing.len();
            incident.standing.retain(|standing| standing != key);
            if incident.standing.len() < before {
                touch(incident, now_us);
                incident.last_us = incident.last_us.max(finding.time_us);
                let (finding, detail) = (Some(finding.id.as_str()), finding.title.as_str());
                tell(incident, Cause { change: Change::Over, actor: COLLECTOR, finding, detail });
            }
        }
    }

    /// The one that had nothing for the longest time ends where there are too many.
    fn make_room(&mut self, now_us: i64, tell: &mut Tell<'_>) {
        if self.incidents.len() < MAX_INCIDENTS {
            return;
        }
        let over = |incident: &&mut Incident| (incident.state != State::Closed, incident.last_us);
        let Some(oldest) = self.incidents.values_mut().min_by_key(over) else { return };
        if oldest.state != State::Closed {
            close(oldest, now_us, "there are more incidents than are kept", tell);
        }
        let id = oldest.id.clone();
        self.incidents.remove(&id);
    }
}

fn begun(id: String, finding: &Finding, now_us: i64) -> Incident {
    Incident {
        id,
        state: State::Open,
        changed_us: now_us,
        began_us: finding.time_us,
        last_us: finding.time_us,
        severity: finding.severity,
        title: finding.title.clone(),
        node: finding.node.clone(),
        workload: finding.workload.clone(),
        findings: 0,
        rules: Vec::new(),
        standing: Vec::new(),
        closed_by_hand: false,
    }
}

/// Whether a finding is of the same node or workload, in the same minutes. What an operator closed takes in silence what it
/// is known for and nothing worse: he has seen that.
fn belongs(incident: &Incident, finding: &Finding) -> bool {
    let of_it = incident.node == finding.node
        || !matches!(finding.workload.as_str(), "" | "host") && incident.workload == finding.workload;
    let near = match incident.state {
        State::Closed if incident.closed_by_hand => JOIN_US,
        State::Closed => REOPEN_US,
        _ if !incident.standing.is_empty() => i64::MAX,
        _ => JOIN_US,
    };
    let known = || incident.rules.iter().any(|rule| **rule == *finding.rule) && finding.severity <= incident.severity;
    of_it && (finding.time_us - incident.last_us).saturating_abs() <= near && (!incident.closed_by_hand || known())
}

/// Adds a finding; what that is to the incident.
fn join(incident: &mut Incident, finding: &Finding, now_us: i64) -> Change {
    touch(incident, now_us);
    incident.findings += 1;
    incident.began_us = incident.began_us.min(finding.time_us);
    // What is mild does not keep it open.
    if finding.severity >= Severity::Medium {
        incident.last_us = incident.last_us.max(finding.time_us);
    }
    Incident::name(&mut incident.rules, &finding.rule);
    if finding.severity > incident.severity {
        incident.severity = finding.severity;
        incident.title.clone_from(&finding.title);
    }
    let reopens = incident.state == State::Closed && !incident.closed_by_hand && finding.severity >= Severity::Medium;
    if reopens {
        incident.state = State::Open;
        return Change::Reopened;
    }
    if incident.findings == 1 { Change::Opened } else { Change::Joined }
}

/// No two rows of an incident have the same time, so that the newest is one.
fn touch(incident: &mut Incident, now_us: i64) {
    let first = incident.findings == 0;
    incident.changed_us = if first { now_us } else { now_us.max(incident.changed_us + 1) };
}

fn close(incident: &mut Incident, now_us: i64, why: &str, tell: &mut Tell<'_>) {
    touch(incident, now_us);
    incident.state = State::Closed;
    tell(incident, Cause { change: Change::Closed, actor: COLLECTOR, finding: None, detail: why });
}
