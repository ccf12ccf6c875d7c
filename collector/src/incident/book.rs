//! Which finding belongs to which incident, and when one begins and ends.
//!
//! Findings of one node or of one workload in the same minutes belong together, and so do grave ones of a workload and of
//! whom it calls, or who calls it. It takes one of medium severity to begin an incident, and a while without such to end it,
//! or an operator's word; one that comes back soon after is the same one.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use skep_alerts::report::State as Reported;

use super::state::{COLLECTOR, Cause, Change, Incident, Member, State};
use super::talk::{Talk, Talks};
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

/// Most changes that one incident tells of when it begins, the newest.
const MAX_TOLD: usize = 10;

/// Nodes of an incident from which on no other joins because somebody talks to somebody there.
const MAX_NODES: usize = 8;

/// So many findings of an incident have a row each; then, every time they have doubled. All are in `findings`.
const ROWS: i64 = 64;

/// Something that changed on a node and is no finding.
#[derive(Debug)]
struct Changed {
    whom: Member,
    time_us: i64,
    what: String,
}

/// All incidents that matter still.
#[derive(Debug)]
pub struct Book {
    quiet_us: i64,
    incidents: HashMap<String, Incident>,
    changes: VecDeque<Changed>,
    talks: Talks,
}

impl Default for Book {
    fn default() -> Self {
        let (incidents, changes, talks) = Default::default();
        Self { quiet_us: QUIET_US, incidents, changes, talks }
    }
}

/// Where rows go: an incident as it has become, and why.
pub type Tell<'t> = dyn FnMut(&Incident, Cause<'_>) + 't;

impl Book {
    /// Ends incidents after so long without anything, instead of a quarter of an hour.
    pub fn quiet_after(&mut self, quiet: Duration) {
        self.quiet_us = i64::try_from(quiet.as_micros()).unwrap_or(i64::MAX);
    }

    /// Takes a row up that was written before this start, the oldest first.
    pub fn restore(&mut self, incident: Incident) {
        let newer = self.incidents.get(&incident.id).is_none_or(|known| known.changed_us <= incident.changed_us);
        if newer {
            self.incidents.insert(incident.id.clone(), incident);
        }
    }

    /// Who talks to whom.
    pub fn talks(&mut self) -> &mut Talks {
        &mut self.talks
    }

    /// Incidents that are not over.
    pub fn standing(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values().filter(|incident| incident.state != State::Closed)
    }

    /// Takes a finding; `id` gives a new incident its id. The incident it belongs to.
    pub fn take(
        &mut self,
        finding: &Finding,
        now_us: i64,
        id: impl FnOnce() -> String,
        tell: &mut Tell<'_>,
    ) -> Option<String> {
        let reported = report::of(finding);
        if reported.state == Reported::Resolved {
            return self.over(&reported.key, finding, now_us, tell);
        }
        let home = self.home(finding).map(|(incident, talk)| (incident.id.clone(), talk));
        let (place, talk) = home.map_or((None, None), |(id, talk)| (Some(id), talk));
        let incident = match place.and_then(|id| self.incidents.get_mut(&id)) {
            Some(incident) => incident,
            None if finding.severity < Severity::Medium => return None,
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
            let why = talk.map(|talk| format!("{} ({})", finding.title, talk.explain()));
            let detail = why.as_deref().unwrap_or(&finding.title);
            tell(incident, Cause { change, actor: COLLECTOR, finding: Some(&finding.id), detail });
        }
        if change == Change::Opened {
            let near = |changed: &&Changed| {
                (0..=CAUSE_US).contains(&(finding.time_us - changed.time_us)) && concerns(incident, &changed.whom)
            };
            let near: Vec<&Changed> = self.changes.iter().filter(near).collect();
            for changed in &near[near.len().saturating_sub(MAX_TOLD)..] {
                let before_s = (finding.time_us - changed.time_us) / 1_000_000;
                let detail = format!("{}, {before_s} s before", changed.what);
                touch(incident, now_us);
                tell(incident, Cause { change: Change::Changed, actor: COLLECTOR, finding: None, detail: &detail });
            }
        }
        Some(incident.id.clone())
    }

    /// Something that is no finding changed on a node, or a workload of it: it restarted, for one.
    pub fn changed(&mut self, whom: Member, what: &str, now_us: i64, tell: &mut Tell<'_>) {
        for incident in self.incidents.values_mut() {
            let goes_on = incident.state != State::Closed && now_us - incident.last_us <= JOIN_US;
            if goes_on && incident.changes < MAX_TOLD && concerns(incident, &whom) {
                incident.changes += 1;
                touch(incident, now_us);
                tell(incident, Cause { change: Change::Changed, actor: COLLECTOR, finding: None, detail: what });
            }
        }
        self.happened(whom, what, now_us);
    }

    /// As [`Book::changed`], before this start.
    pub fn happened(&mut self, whom: Member, what: &str, time_us: i64) {
        if self.changes.len() >= MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(Changed { whom, time_us, what: what.to_owned() });
    }

    /// Ends what is quiet, and forgets what nothing can belong to any more.
    pub fn tick(&mut self, now_us: i64, tell: &mut Tell<'_>) {
        for incident in self.incidents.values_mut() {
            let quiet = now_us - incident.last_us > self.quiet_us;
            if incident.state != State::Closed && quiet && incident.standing.is_empty() {
                close(incident, now_us, "nothing more came, and nothing stands", tell);
            }
        }
        self.incidents
            .retain(|_, incident| incident.state != State::Closed || now_us - incident.changed_us <= REOPEN_US);
        while self.changes.front().is_some_and(|change| now_us - change.time_us > CAUSE_US) {
            self.changes.pop_front();
        }
        self.talks.tick(now_us);
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

    /// The incident a finding belongs to: of several, the one that is not over, then the one that had one last. Where nobody
    /// on its node or of its name has one, that of somebody it depends on, or who depends on it.
    fn home(&self, finding: &Finding) -> Option<(&Incident, Option<Talk>)> {
        let last = |incident: &&Incident| (incident.state != State::Closed, incident.last_us, incident.changed_us);
        let own = self.incidents.values().filter(|incident| is_of(incident, finding) && belongs(incident, finding));
        if let Some(incident) = own.max_by_key(last) {
            return Some((incident, None));
        }
        if finding.severity < Severity::Medium {
            return None;
        }
        let whom = Member::new(&finding.node, &finding.workload);
        let has_room = |incident: &&Incident| incident.state != State::Closed && incident.nodes() < MAX_NODES;
        let near = self.incidents.values().filter(has_room).filter(|incident| belongs(incident, finding));
        let talking = near.filter_map(|incident| {
            let talk = incident.members.iter().find_map(|member| self.talks.between(member, &whom))?;
            Some((incident, Some(talk)))
        });
        talking.max_by_key(|(incident, _)| last(incident))
    }

    fn over(&mut self, key: &str, finding: &Finding, now_us: i64, tell: &mut Tell<'_>) -> Option<String> {
        let mut of = None;
        for incident in self.incidents.values_mut() {
            let before = incident.standing.len();
            incident.standing.retain(|standing| standing != key);
            if incident.standing.len() < before {
                touch(incident, now_us);
                incident.last_us = incident.last_us.max(finding.time_us);
                let (finding, detail) = (Some(finding.id.as_str()), finding.title.as_str());
                tell(incident, Cause { change: Change::Over, actor: COLLECTOR, finding, detail });
                of = Some(incident.id.clone());
            }
        }
        of
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
        members: Vec::new(),
        findings: 0,
        changes: 0,
        rules: Vec::new(),
        standing: Vec::new(),
        closed_by_hand: false,
    }
}

/// Whether a finding is of a node of it, or of the same workload elsewhere. What is on many nodes is about the first of them.
fn is_of(incident: &Incident, finding: &Finding) -> bool {
    let has_name = !matches!(finding.workload.as_str(), "" | "host");
    incident.node == finding.node
        || has_name && incident.workload == finding.workload
        || incident.nodes() <= MAX_NODES && incident.members.iter().any(|member| member.node == finding.node)
}

/// Whether a change may be why: one of the node, or of a workload that the incident is about. Where it is about the node as a
/// whole, any workload of that may be it.
fn concerns(incident: &Incident, whom: &Member) -> bool {
    let same = |member: &Member| {
        member.node == whom.node && (whom.workload.is_empty() || member.workload.is_empty() || member == whom)
    };
    incident.members.iter().any(same)
}

/// Whether a finding is of the same minutes. What an operator closed takes in silence what it is known for and nothing worse:
/// he has seen that.
fn belongs(incident: &Incident, finding: &Finding) -> bool {
    let near = match incident.state {
        State::Closed if incident.closed_by_hand => JOIN_US,
        State::Closed => REOPEN_US,
        _ if !incident.standing.is_empty() => i64::MAX,
        _ => JOIN_US,
    };
    let known = || {
        incident.rules.iter().any(|rule| **rule == *finding.rule)
            && incident.members.iter().any(|member| member.workload == finding.workload)
            && finding.severity <= incident.severity
    };
    (finding.time_us - incident.last_us).saturating_abs() <= near && (!incident.closed_by_hand || known())
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
    incident.meet(Member::new(&finding.node, &finding.workload));
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
