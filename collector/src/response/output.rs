//! What comes of one call.

use skep_alerts::report::Report;
use skep_audit::Record;
use skep_wire::v1;

use super::rows::Rows;
use crate::alert::report;
use crate::incident::{self, Change, Incident};

/// A command for one node's session.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Whose session.
    pub node: String,
    /// For [`Responder::undeliverable`](super::Responder::undeliverable).
    pub action: String,
    /// It takes the action back; for the same.
    pub undo: bool,
    /// What to send.
    pub command: v1::SignedCommand,
}

/// What came of one call.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows of `scores`, `findings`, `incidents`, `actions` and `audit`, for the collector's own stream.
    pub chunks: Vec<v1::Chunk>,
    /// For the audit chain.
    pub records: Vec<Record>,
    /// To be sent once both are durable.
    pub commands: Vec<Outgoing>,
    /// To be sent then too: nodes and what they are to look at.
    pub probes: Vec<(String, v1::Probe)>,
    /// What `chunks` have of findings and incidents, for whoever should hear of them.
    pub reports: Vec<Report>,
}

impl Output {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.records.is_empty() && self.commands.is_empty() && self.probes.is_empty()
    }
}

/// An [`Output`] in the making.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) rows: Rows,
    pub(super) commands: Vec<Outgoing>,
    pub(super) probes: Vec<(String, v1::Probe)>,
    pub(super) reports: Vec<Report>,
}

impl Pending {
    /// What became of an incident: a row, and a report where it begins, ends or is worse than it was.
    pub(super) fn incident(&mut self, incident: &Incident, cause: incident::Cause<'_>) {
        self.rows.incident(incident, cause);
        // Whether it is worse is seen by whoever was told of it.
        if !matches!(cause.change, Change::Changed | Change::Over | Change::Acknowledged) {
            self.reports.push(report::of_incident(incident));
        }
    }

    pub(super) fn finish(self) -> Output {
        let (chunks, records) = self.rows.finish();
        Output { chunks, records, commands: self.commands, probes: self.probes, reports: self.reports }
    }
}
