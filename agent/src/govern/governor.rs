//! When detail is given up, and when it comes back. Pure.
//!
//! Down as far as needed, by what the domains cost now: at once in a storm, and over a window where it is a little too
//! much, since a busy second or two is no reason to look away. Up slowly, by what a window cost, and only into half of
//! the room that is free, by the most it could cost. What a domain costs that is off nobody knows: it is tried again
//! after a while, and after a longer one each time that was too early.

use super::ladder::{self, Cost, KEPT};
use super::spending::{Sample, Spending};
use crate::source::Detail;

/// Samples after a change before the next one down: one may be a moment's.
const LOOKS: usize = 2;

/// So many times the budget is a storm, which is not waited for.
const STORM: f64 = 2.0;

/// Samples for which there must be room before detail comes back.
const PATIENCE: u32 = 10;

/// The same at most, where detail that came back had to go again soon.
const LONGEST_PATIENCE: u32 = 640;

/// Samples before a domain that is off is tried again whatever it cost.
const TRIAL_WAIT: u32 = 60;

/// The same at most.
const LONGEST_TRIAL_WAIT: u32 = 480;

/// Detail that must go again within so many samples came back too early.
const TOO_EARLY: u32 = 30;

/// Share of the free room that detail which comes back may take.
const HEADROOM: f64 = 0.5;

/// Decides on detail.
#[derive(Debug)]
pub struct Governor {
    /// Share of one core.
    budget: f64,
    /// Domains that are watched unless they are off.
    attached: Vec<&'static str>,
    spending: Spending,
    detail: Detail,
    /// What each domain of `detail.off` cost when it was switched off.
    remembered: Vec<f64>,
    /// Samples in a row with room for more.
    calm: u32,
    /// Samples in a row within the budget.
    kept: u32,
    patience: u32,
    trial_wait: u32,
    /// What the last raise was.
    raise: Option<Raise>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Raise {
    /// Samples since.
    ago: u32,
    /// The domain that was tried and what it had cost.
    trial: Option<(&'static str, f64)>,
}

/// Another detail from here on.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// So far.
    pub from: Detail,
    /// From here on.
    pub to: Detail,
    /// What was spent, as a share of a core.
    pub spent: f64,
}

impl Governor {
    /// Full detail; `horizon` samples make a window.
    pub fn new(budget: f64, horizon: usize, attached: Vec<&'static str>) -> Self {
        Self {
            budget,
            attached,
            spending: Spending::new(horizon),
            detail: Detail::default(),
            remembered: Vec::new(),
            calm: 0,
            kept: 0,
            patience: PATIENCE,
            trial_wait: TRIAL_WAIT,
            raise: None,
        }
    }

    /// What is observed.
    pub fn detail(&self) -> &Detail {
        &self.detail
    }

    /// Share of one core that may be spent.
    pub fn budget(&self) -> f64 {
        self.budget
    }

    /// Takes a sample; says when the detail is to change.
    pub fn evaluate(&mut self, sample: Sample) -> Option<Change> {
        self.spending.add(sample);
        if let Some(raise) = &mut self.raise {
            raise.ago += 1;
        }
        let costs: Vec<_> = self.attached.iter().map(|domain| self.spending.domain(domain)).collect();
        let spent = self.spending.own() + total(&costs);
        let is_over = spent > self.budget * STORM || spent.min(self.spending.of_window()) > self.budget;
        let to = if is_over {
            (self.calm, self.kept) = (0, 0);
            self.lower(&costs)
        } else {
            self.kept += 1;
            self.learn(&costs);
            let steady: Vec<_> = self.attached.iter().map(|domain| self.spending.domain_of_window(domain)).collect();
            self.higher(&steady)
        }?;
        let from = std::mem::replace(&mut self.detail, to.clone());
        self.spending.changed();
        (self.calm, self.kept) = (0, 0);
        Some(Change { from, to, spent })
    }

    /// The probes did not take the last change: what was before still holds.
    pub fn refused(&mut self, before: Detail) {
        self.remembered.resize(before.off.len(), 0.0);
        self.detail = before;
    }

    fn lower(&mut self, costs: &[Cost]) -> Option<Detail> {
        if self.spending.since_change() < LOOKS {
            return None;
        }
        let room = self.budget - self.spending.own();
        let to = self.first_that_fits(costs, room).or_else(|| self.next_at_a_pace(costs))?;
        let newly_off = &to.off[self.detail.off.len()..];
        self.remembered.extend(newly_off.iter().map(|domain| ratio_of(costs, domain)));
        if let Some(Raise { ago, trial: None }) = self.raise.take()
            && ago <= TOO_EARLY
        {
            self.patience = (self.patience * 2).min(LONGEST_PATIENCE);
        }
        Some(to)
    }

    fn first_that_fits(&self, costs: &[Cost], room: f64) -> Option<Detail> {
        let mut to = ladder::down(&self.detail, costs)?;
        while ladder::predicted(costs, &self.detail, &to) > room {
            to = ladder::down(&to, costs)?;
        }
        Some(to)
    }

    /// No step alone helps: most of it is the agent's own, or of what is never given up. Its own shrinks with what it is
    /// handed, which shows a window later; sampling is cheap enough to go ahead.
    fn next_at_a_pace(&self, costs: &[Cost]) -> Option<Detail> {
        let next = ladder::down(&self.detail, costs)?;
        if next.off.len() == self.detail.off.len() {
            return Some(ladder::down(&next, costs).filter(|after| after.off == next.off).unwrap_or(next));
        }
        (self.spending.since_change() >= self.spending.horizon()).then_some(next)
    }

    /// Draws the lesson of a trial that went well, and forgets old ones when all is well.
    fn learn(&mut self, costs: &[Cost]) {
        if let Some(Raise { ago: TOO_EARLY, trial: Some((domain, remembered)) }) = self.raise {
            let now = ratio_of(costs, domain);
            let fell = if remembered > 0.0 { (now / remembered).min(1.0) } else { 1.0 };
            // The load that drove this one off is over, or nearly: the others have fallen alike, or a trial will tell.
            self.remembered.iter_mut().for_each(|remembered| *remembered *= fell);
            self.trial_wait = TRIAL_WAIT;
        }
        if self.detail == Detail::default() && self.spending.since_change() as u32 > 2 * TOO_EARLY {
            (self.patience, self.trial_wait) = (PATIENCE, TRIAL_WAIT);
        }
    }

    fn higher(&mut self, costs: &[Cost]) -> Option<Detail> {
        ladder::up(&self.detail)?;
        let own = self.spending.own_of_window();
        let spent = own + total(costs);
        let most = spent + HEADROOM * (self.budget - spent).max(0.0);
        let cost = |to: &Detail| {
            let back: f64 = self.remembered[to.off.len()..].iter().sum();
            own + ladder::predicted(costs, &self.detail, to) + back
        };
        let mut furthest = None;
        while let Some(next) = ladder::up(furthest.as_ref().unwrap_or(&self.detail)).filter(|next| cost(next) <= most) {
            furthest = Some(next);
        }
        self.calm = if furthest.is_some() { self.calm + 1 } else { 0 };
        let (to, trial) = if self.calm >= self.patience {
            (furthest?, None)
        } else if self.kept >= self.trial_wait && !self.detail.off.is_empty() {
            self.trial_wait = (self.trial_wait * 2).min(LONGEST_TRIAL_WAIT);
            let tried = self.detail.off.last().copied().zip(self.remembered.last().copied());
            (ladder::up(&self.detail)?, tried)
        } else {
            return None;
        };
        self.remembered.truncate(to.off.len());
        self.raise = Some(Raise { ago: 0, trial });
        Some(to)
    }
}

fn total(costs: &[Cost]) -> f64 {
    costs.iter().map(|cost| cost.ratio).sum()
}

fn ratio_of(costs: &[Cost], domain: &str) -> f64 {
    costs.iter().find(|cost| cost.domain == domain).map_or(0.0, |cost| cost.ratio)
}

/// Whether a detail is one the governor may choose; for its tests and its callers' assertions.
pub fn is_allowed(detail: &Detail) -> bool {
    detail.syscall_one_in.is_power_of_two() && detail.syscall_one_in <= ladder::THINNEST && !detail.off.contains(&KEPT)
}

#[cfg(test)]
#[path = "governor_tests.rs"]
mod tests;
