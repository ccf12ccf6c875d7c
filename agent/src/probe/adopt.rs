//! Probes that outlive the agent, and the agent that goes on with them.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use super::{
    attach,
    error::ProbeError,
    kernel::{self, GROUPS, OPTIONAL, PROGRAMS},
    log::ProbeLog,
    options::{LogLevel, ProbeOptions},
    pin::Pins,
    probes::{Probes, examine},
    programs::Standing,
    reading::Mark,
    report::ProbeReport,
    sys,
};

impl Probes {
    /// As [`Probes::load`], with everything pinned below `folder`, so that it outlives this process; or goes on with
    /// what an earlier one left there, if it is of the same layout. `mark` says how far that one came. Where pinning is
    /// impossible the report says why, and the probes are loaded all the same.
    ///
    /// # Errors
    /// As [`Probes::load`].
    pub fn load_pinned(
        options: &ProbeOptions,
        folder: &Path,
        mark: Option<Mark>,
    ) -> Result<(Self, ProbeReport), ProbeError> {
        let (kernel, mut report) = examine(options)?;
        let found = Pins::open(folder, &kernel, options).and_then(|pins| Ok((pins.adopt()?, pins)));
        let probes = match found {
            Ok((Some(standing), pins)) => {
                report.add("pinned", true, format!("goes on with what is pinned in {}", folder.display()));
                Self::adopt(options, (standing, pins), mark, &mut report)?
            }
            Ok((None, pins)) => Self::fresh(options, kernel, Some(pins), &mut report)?,
            Err(error) => {
                report.add("pinned", false, format!("counting stops with the agent: {error}"));
                Self::fresh(options, kernel, None, &mut report)?
            }
        };
        Ok((probes, report))
    }

    /// Gives names to probes that have none yet.
    pub(super) fn keep(&mut self, pins: Pins, report: &mut ProbeReport) {
        match pins.keep(&self.maps(), &self.standing.programs) {
            Ok(()) => {
                report.add("pinned", true, "counting goes on while the agent restarts");
                self.pins = Some(pins);
            }
            Err(error) => report.add("pinned", false, format!("counting stops with the agent: {error}")),
        }
    }

    fn adopt(
        options: &ProbeOptions,
        (standing, pins): (Standing, Pins),
        mark: Option<Mark>,
        report: &mut ProbeReport,
    ) -> Result<Self, ProbeError> {
        if options.log != LogLevel::Off {
            tracing::warn!("the pinned probes write no messages; `skep-agent detach` first for probes that do");
        }
        let stands = |hook: &str| standing.programs.iter().any(|program| program.hook == hook);
        let whole = |bit: u32| {
            PROGRAMS.iter().filter(|program| program.needed_by & bit != 0).all(|p| p.hook == OPTIONAL || stands(p.hook))
        };
        let able = GROUPS.iter().map(|(bit, ..)| *bit).filter(|bit| kernel::wanted(options, *bit) && whole(*bit)).sum();
        attach::report_groups(able, report);
        let mut probes = Self::over(options, standing, (able, ProbeLog::none()))?;
        probes.pins = Some(pins);
        // The earlier agent may have died while it told the CPUs of an epoch.
        probes.cpus.agree();
        sys::grace_period().map_err(|source| ProbeError::GracePeriod { source })?;
        (probes.epoch, probes.from_ns) = probes.cpus.epoch();
        probes.adopted_epoch = probes.epoch;
        // It may have sampled; every call says itself how many it stands for. It may have switched something off.
        probes.sample_syscalls(0);
        probes.off = probes.able;
        probes.switch_off(&[])?;
        probes.go_on_from(mark.filter(|mark| mark.incarnation == probes.cpus.incarnation()))?;
        Ok(probes)
    }

    /// Passes over what is stored, and finds out whether an epoch was closed and is still to be handed out.
    fn go_on_from(&mut self, mark: Option<Mark>) -> Result<(), ProbeError> {
        let closed = self.epoch - 1;
        // It is gone without being stored where the disk refused and the earlier process had it in memory.
        let is_gone = closed <= self.cpus.emptied() || mark.is_some_and(|mark| mark.epoch >= closed);
        let first = if is_gone { self.epoch } else { closed };
        self.seamless = mark.is_some_and(|mark| mark.epoch + 1 >= first && mark.position >= self.ring.position());
        if let Some(mark) = mark {
            self.ring.resume(mark.position);
        }
        self.standing.set_misses(&self.cpus.noted(first.wrapping_sub(1)));
        if is_gone {
            self.clear(closed)
        } else {
            self.unread_epoch = Some(closed);
            Ok(())
        }
    }

    /// Whether these probes were there before this process.
    pub fn is_adopted(&self) -> bool {
        self.adopted_epoch != 0
    }

    /// Whether nothing is missing between what the mark of [`Probes::load_pinned`] says was stored and what is handed
    /// out first.
    pub fn is_seamless(&self) -> bool {
        self.seamless
    }

    /// Since when what is handed out next was counted, nanoseconds of `CLOCK_BOOTTIME`.
    pub fn since_ns(&self) -> u64 {
        self.unread_epoch.map_or(self.from_ns, |closed| self.cpus.began_ns(closed).min(self.from_ns))
    }

    /// Looks whether the pins are still there, and makes them anew where they are not. To be called now and then.
    ///
    /// Cost: reads two folders.
    pub fn tend(&mut self) {
        let Some(mut pins) = self.pins.take() else { return };
        let maps = self.maps();
        if !pins.stand(maps.len(), &self.standing.programs) {
            match pins.keep_again(&maps, &self.standing.programs) {
                Ok(()) => tracing::warn!("somebody removed the pins of the probes; they are pinned again"),
                Err(error) => {
                    tracing::warn!(%error, "somebody removed the pins of the probes: they end with the agent")
                }
            }
        }
        self.pins = Some(pins);
    }

    /// What is pinned has changed on purpose: a domain was switched off or on.
    pub(super) fn keep_switched(&mut self) -> std::io::Result<()> {
        let Some(mut pins) = self.pins.take() else { return Ok(()) };
        let kept = pins.keep_again(&self.maps(), &self.standing.programs);
        self.pins = Some(pins);
        kept
    }

    /// Every map there is.
    fn maps(&self) -> Vec<(&str, BorrowedFd<'_>)> {
        let mut maps = vec![("CPUS", self.cpus.map()), ("EVENTS", self.ring.map())];
        maps.extend(self.sides.iter().flat_map(|side| side.maps()));
        maps.extend(self.standing.maps.iter().map(|(name, map)| (name.as_str(), map.fd().as_fd())));
        maps
    }
}
