//! Rows to findings.

use std::collections::HashMap;
use std::sync::Arc;

use skep_rules::budget::Budget;
use skep_rules::detector::Detector;
use skep_rules::score::Scores;
use skep_wire::chunk;
use skep_wire::envelope::Origin;
use skep_wire::v1;

use super::found::{Found, Judge, SESSION_SCORE, programs};
use super::minute;
use super::rows::Rows;
use super::service;
use super::vigil::{self, Vigil};
use crate::detect::change::{Changed, Changes};
use crate::detect::event;
use crate::detect::finding::Finding;
use crate::detect::hold::{Hold, Key};
use crate::detect::series::gallery::Gallery;
use crate::detect::series::glance::Glance;
use crate::detect::series::keep::KeepError;
use crate::detect::series::track::STREAK;
use crate::detect::series::{Scored, Series, usage};
use crate::detect::service::Services;
use crate::dispatch::Draw;

/// All detectors and what they remember.
#[derive(Debug)]
pub(super) struct Watch {
    rules: Detector,
    scores: Scores,
    budget: Budget,
    series: Series,
    gallery: Gallery,
    glance: Glance,
    vigil: Vigil,
    services: Services,
    changes: Changes,
    changed: Vec<Changed>,
    hold: Hold,
    /// Node to the share of its execs that arrived, by its last ledger: events come ahead of the ledger of their
    /// window.
    exec_coverage: HashMap<String, f64>,
    readings: Vec<Reading>,
    /// Whether somebody asks for readings.
    listened_to: bool,
}

/// Whether what a finding is about is there.
#[derive(Debug)]
pub(super) struct Reading {
    /// As in the finding.
    pub(super) rule: String,
    /// Where.
    pub(super) node: String,
    /// Whom it is about.
    pub(super) workload: String,
    /// There, or gone.
    pub(super) present: bool,
}

impl Watch {
    /// Judges by these rules.
    pub(super) fn new(rules: Detector) -> Self {
        Self {
            rules,
            scores: Scores::default(),
            budget: Budget::default(),
            series: Series::default(),
            gallery: Gallery::default(),
            glance: Glance::default(),
            vigil: Vigil::default(),
            services: Services::default(),
            changes: Changes::default(),
            changed: Vec::new(),
            hold: Hold::default(),
            exec_coverage: HashMap::new(),
            readings: Vec::new(),
            listened_to: false,
        }
    }

    /// The rules, to be replaced by others.
    pub(super) fn rules(&mut self) -> &mut Detector {
        &mut self.rules
    }

    /// Takes a node's batch; writes scores and findings, returns the findings.
    pub(super) fn batch(
        &mut self,
        origin: &Origin,
        batch: &v1::Batch,
        now_us: i64,
        draw: &mut Draw,
        rows: &mut Rows,
    ) -> Vec<Finding> {
        if let Some(coverage) = exec_coverage(batch) {
            self.exec_coverage.insert(origin.node.clone(), coverage);
        }
        let coverage = self.exec_coverage.get(&origin.node).copied().unwrap_or(1.0);
        let judge = Judge { rules: &mut self.rules, scores: &mut self.scores, budget: &mut self.budget };
        let mut found = Found { origin, now_us, draw, rows, hold: &mut self.hold, judge, findings: Vec::new() };
        for chunk in &batch.chunks {
            found.minute(&self.gallery.chunk(&origin.node, chunk));
            self.glance.chunk(&origin.node, chunk);
            match chunk.table.as_str() {
                "canaries" => chunk::rows(chunk).for_each(|row| {
                    found.news(self.vigil.canary(origin, &row, now_us));
                }),
                "processes" => chunk::rows(chunk).for_each(|row| {
                    let (canary, news) = self.vigil.process(origin, &row);
                    if !canary {
                        found.exec(&row, coverage);
                        self.changed.extend(self.changes.row(&origin.node, &row));
                    }
                    found.news(news);
                }),
                "checks" => chunk::rows(chunk).for_each(|row| found.check(&mut self.services, &row)),
                "loss" => chunk::rows(chunk).for_each(|row| self.vigil.ledger(origin, &row)),
                "connections" => chunk::rows(chunk).for_each(|row| {
                    found.connection(&row, coverage);
                    found.news(self.vigil.connection(origin, &row));
                }),
                "cpu" => {
                    for window in usage::windows(chunk) {
                        let scored = self.series.window(&origin.node, &origin.boot, &window);
                        scored.iter().for_each(|scored| found.scored(scored));
                        self.glance.usage(&origin.node, &window);
                        if self.listened_to {
                            self.readings.extend(scored.iter().filter_map(|scored| reading(&origin.node, scored)));
                        }
                    }
                }
                _ => {}
            }
        }
        // A window's own batch carries its last events too: they come first.
        if let Some(host) = batch.chunks.iter().find(|chunk| chunk.table == "host") {
            found.glance(&self.glance.end(&origin.node, &origin.boot));
            found.news(self.vigil.window(origin, host, now_us));
        }
        found.findings
    }

    /// Whether readings are wanted from now on.
    pub(super) fn listen(&mut self, listened_to: bool) {
        self.listened_to = listened_to;
    }

    /// What was read, since this was asked last, of what findings are about.
    pub(super) fn take_readings(&mut self) -> Vec<Reading> {
        let repeated = self.hold.take_repeated().into_iter().map(|key| Reading {
            rule: key.rule.to_string(),
            node: key.node,
            workload: key.workload,
            present: true,
        });
        let mut readings = std::mem::take(&mut self.readings);
        readings.extend(repeated);
        readings
    }

    /// What changed in the batches since this was asked last.
    pub(super) fn take_changed(&mut self) -> Vec<Changed> {
        std::mem::take(&mut self.changed)
    }

    /// What a node did since it was last heard of here is with another collector.
    pub(super) fn was_elsewhere(&mut self, node: &str) {
        self.vigil.was_elsewhere(node);
    }

    /// A node goes to another collector.
    pub(super) fn left(&mut self, node: &str) {
        self.vigil.left(node);
    }

    /// Learns which canaries are under way without raising anything.
    pub(super) fn restore_canaries(&mut self, origin: &Origin, chunk: &v1::Chunk, now_us: i64) {
        for row in chunk::rows(chunk) {
            self.vigil.restore_canary(origin, &row, now_us);
        }
    }

    /// Learns what ran without raising anything.
    pub(super) fn restore_processes(&mut self, origin: &Origin, chunk: &v1::Chunk) {
        for row in chunk::rows(chunk) {
            event::remember(&mut self.rules, &origin.node, &row);
            self.changed.extend(self.changes.row(&origin.node, &row));
        }
    }

    /// Learns windows without raising anything.
    pub(super) fn restore_cpu(&mut self, origin: &Origin, chunk: &v1::Chunk) {
        for window in usage::windows(chunk) {
            self.series.window(&origin.node, &origin.boot, &window);
        }
    }

    /// Learns a window that is over without raising anything.
    pub(super) fn restore_glance(&mut self, origin: &Origin, batch: &v1::Batch) {
        for chunk in &batch.chunks {
            self.glance.chunk(&origin.node, chunk);
            if chunk.table == "cpu" {
                usage::windows(chunk).iter().for_each(|window| self.glance.usage(&origin.node, window));
            }
        }
        if batch.chunks.iter().any(|chunk| chunk.table == "host") {
            self.glance.end(&origin.node, &origin.boot);
        }
    }

    /// Learns what happened by the minute without raising anything.
    pub(super) fn restore_minutes(&mut self, origin: &Origin, chunk: &v1::Chunk) {
        self.gallery.chunk(&origin.node, chunk);
    }

    /// What was learned of all series by the minute.
    pub(super) fn learned(&self) -> Vec<u8> {
        self.gallery.to_bytes()
    }

    /// What was learned of what workloads usually do.
    pub(super) fn habits(&self) -> Vec<u8> {
        self.rules.learned()
    }

    /// Takes it up again; how many series are learned anew.
    pub(super) fn take_up(&mut self, learned: &[u8]) -> Result<usize, KeepError> {
        self.gallery.take_up(learned)
    }

    /// Takes up the holds of findings raised before.
    pub(super) fn restore_findings(&mut self, chunk: &v1::Chunk, now_us: i64) {
        for row in chunk::rows(chunk) {
            if row.text("kind") == Some(service::KIND) {
                service::restore(&mut self.services, &row, now_us);
                continue;
            }
            let (Some(finding), Some(time_us), Some(rule)) = (row.text("finding"), row.int("time"), row.text("rule"))
            else {
                continue;
            };
            let evidence = row.text_list("evidence").unwrap_or_default();
            let value = |name: &str| evidence.iter().find_map(|item| item.strip_prefix(name)).unwrap_or_default();
            let programs = match row.text("kind") {
                Some("event") if rule == SESSION_SCORE => value("session=").to_owned(),
                Some("event") => programs(value("exe="), value("parent_exe=")),
                Some(vigil::KIND) => {
                    let state = value(vigil::STATE).to_owned();
                    self.vigil.restore(rule, row.text("target_node").unwrap_or_default(), &state);
                    state
                }
                _ => minute::about(rule, row.text("title").unwrap_or_default()),
            };
            let key = Key {
                rule: Arc::from(rule),
                node: row.text("target_node").unwrap_or_default().to_owned(),
                workload: row.text("workload").unwrap_or_default().to_owned(),
                programs,
            };
            self.hold.raised(key, finding, time_us);
        }
    }

    /// Tells what was held back and not told yet; returns the findings that time alone makes.
    pub(super) fn tick(&mut self, now_us: i64, draw: &mut Draw, rows: &mut Rows) -> Vec<Finding> {
        for told in self.hold.tick(now_us) {
            let detail = format!(
                "{} more of {} by {} ({})",
                told.held_back, told.key.rule, told.key.workload, told.key.programs
            );
            rows.audit(now_us, "collector", "repeated", &told.finding, &told.key.node, &detail);
        }
        let evicted = self.series.take_evicted();
        if evicted > 0 {
            let detail = format!("{evicted} workloads seen longest ago are no longer scored, for want of room");
            rows.audit(now_us, "collector", "evicted", "series", "", &detail);
        }
        let (series, late) = (self.gallery.take_evicted(), self.gallery.take_late());
        if series > 0 {
            let detail = format!("{series} series seen longest ago are forgotten, for want of room");
            rows.audit(now_us, "collector", "evicted", "series", "", &detail);
        }
        let refused = self.glance.take_refused();
        if refused > 0 {
            let detail = format!("{refused} values of windows are not compared, for want of room");
            rows.audit(now_us, "collector", "evicted", "series", "", &detail);
        }
        if late > 0 {
            tracing::debug!(rows = late, "rows that came after their minute are not in the series");
        }
        let gone = self.services.tick(now_us).into_iter();
        let mut findings: Vec<Finding> = gone.map(|gone| service::gone(gone, now_us, draw, rows)).collect();
        let news = self.vigil.tick(now_us);
        findings.extend(news.into_iter().filter_map(|news| news.raise(now_us, draw, &mut self.hold, rows)));
        findings
    }
}

/// What a window says of a finding by its signal; nothing while it is only about to be one.
fn reading(node: &str, scored: &Scored) -> Option<Reading> {
    let present = scored.score.streak >= STREAK;
    (present || scored.score.streak == 0).then(|| Reading {
        rule: scored.signal.as_str().to_owned(),
        node: node.to_owned(),
        workload: scored.workload.clone(),
        present,
    })
}

/// What a batch's own ledger says of execs, delivered over attempted; `None` when it says nothing.
fn exec_coverage(batch: &v1::Batch) -> Option<f64> {
    let (mut attempted, mut lost) = (0, 0);
    for row in batch.chunks.iter().filter(|chunk| chunk.table == "loss").flat_map(chunk::rows) {
        if row.text("probe") == Some("exec") {
            attempted += row.int("attempted").unwrap_or(0);
            lost += row.int("lost").unwrap_or(0);
        }
    }
    (attempted > 0).then(|| (1.0 - lost as f64 / attempted as f64).clamp(0.0, 1.0))
}
