//! The thread that keeps the history in order: one, and a patient one, so that it takes no more than a part of a core.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use skep_runtime::clock::Clock;
use skep_wire::tables::{TABLES, Table};
use skep_wire::v1;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::alive::Signs;
use super::retention::{self, Expired};
use super::rewrite::{Change, Job, RewriteError, Rewritten};
use super::seek::Seeker;
use super::settings::Tier;
use super::twice::Parting;
use super::{Settings, plan};
use crate::buffer::Store;
use crate::history::batches::KnownBatches;
use crate::history::path::Hour;
use crate::history::upkeep::{Guard, HourFile};
use crate::history::{History, HistoryError};
use crate::respond::Ask;

/// How willing the thread is to wait for others, from 0 to 19.
const NICENESS: i32 = 10;

/// How long an hour is let be that could not be put in order.
const AGAIN_AFTER_US: i64 = 3600 * 1_000_000;

/// Most bytes of replaced files that wait for the end of their grace: a long history that is put in order for the first
/// time must not double on the disk.
const MOST_WAITING_BYTES: u64 = 4 << 30;

/// Least age of a commit that goes where other collectors commit too.
const SHARED_LOG_AGE: Duration = Duration::from_secs(24 * 3600);

const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// What the thread works on.
#[derive(Debug)]
pub struct Keeper {
    /// What it keeps in order.
    pub history: Arc<History>,
    /// Who has to know which files are live.
    pub store: Arc<Store>,
    /// How.
    pub settings: Settings,
    /// Time.
    pub clock: Clock,
    /// Where the ledger is kept.
    pub ledger: mpsc::Sender<Ask>,
    /// Which batches files hold.
    pub batches: Arc<KnownBatches>,
    /// This collector's name in files.
    pub collector: String,
    /// The others' signs of life; `None` where nobody else writes.
    pub signs: Option<Signs>,
}

/// The thread's state.
#[derive(Debug)]
struct Work<'a> {
    keeper: Keeper,
    /// Drives streams that never wait.
    runtime: Runtime,
    stop: &'a Receiver<()>,
    /// Hours that failed, and when.
    failed_us: HashMap<(&'static str, Hour), i64>,
    /// When files were replaced, and how large they are.
    waiting: Vec<(i64, u64)>,
    /// What the ledger has to hear and had no room for.
    untold: Vec<v1::Chunk>,
    /// Looks for batches that are there twice.
    seeker: Seeker,
    /// Collectors that are gone, whose files are kept in order with its own.
    gone: BTreeSet<String>,
    /// Whether the place of the history did not answer the last time.
    is_cut_off: bool,
}

impl Keeper {
    /// Works until the other end of `stop` is gone.
    ///
    /// # Errors
    /// There is no runtime for the thread.
    pub fn run(self, stop: &Receiver<()>) -> std::io::Result<()> {
        // On Linux this is the thread's own; threads it starts inherit it.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!(%error, "the keeper works at the others' priority");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let interval = self.settings.interval;
        let mut work = Work {
            keeper: self,
            runtime,
            stop,
            failed_us: HashMap::new(),
            waiting: Vec::new(),
            untold: Vec::new(),
            seeker: Seeker::default(),
            gone: BTreeSet::new(),
            is_cut_off: false,
        };
        if work.keeper.signs.is_some() {
            // At once: whoever writes is not to be taken for gone.
            work.look_around();
        }
        while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            work.round();
        }
        Ok(())
    }
}

impl Work<'_> {
    /// Does everything that is due. A table that cannot be kept is said and does not hold up the others.
    fn round(&mut self) {
        if !self.look_around() {
            return;
        }
        let mut results = vec![self.make_room()];
        for table in TABLES {
            if !self.goes_on() {
                return;
            }
            results.push(self.keep(table));
        }
        self.tell();
        for error in results.into_iter().filter_map(Result::err) {
            if !matches!(error, RewriteError::Stopping) {
                let reason = crate::error::chain(&error);
                tracing::error!(%reason, "a table cannot be put in order for now; nothing is lost");
            }
        }
    }

    /// Gives a sign of life, and sees who is gone. Whether the place answers; that it does not is said once.
    fn look_around(&mut self) -> bool {
        let Keeper { history, signs, collector, settings, .. } = &self.keeper;
        let mut writers = history.writers();
        let gone = match signs {
            Some(signs) => match signs.beat(collector, settings.adopt_after, &writers) {
                Ok(gone) => gone,
                Err(error) => {
                    if !std::mem::replace(&mut self.is_cut_off, true) {
                        let reason = crate::error::chain(&error);
                        tracing::error!(%reason, "the history cannot be put in order for now; nothing is lost");
                    }
                    return false;
                }
            },
            // Nobody else has the folder.
            None => {
                writers.remove(collector);
                writers
            }
        };
        if gone != self.gone {
            tracing::info!(collectors = ?gone, "keeps the files of these collectors, which are gone, in order");
            history.adopt(&gone);
            self.gone = gone;
        }
        if std::mem::replace(&mut self.is_cut_off, false) {
            tracing::info!("the history is put in order again");
        }
        true
    }

    /// Takes the oldest hours of all tables out that are too much.
    fn make_room(&mut self) -> Result<(), RewriteError> {
        let Some(most_bytes) = self.keeper.settings.retention.bytes else { return Ok(()) };
        let mut tables = Vec::with_capacity(TABLES.len());
        for table in TABLES {
            tables.push((table.name, self.own_files(table)?));
        }
        for (table, files) in retention::over(&tables, most_bytes, self.closed_us()) {
            let why = format!("all tables together took more than {} GiB", most_bytes >> 30);
            self.expire(Expired { table, files, why })?;
        }
        Ok(())
    }

    /// Takes the hours of a table out that are too old.
    fn expire_old(&mut self, table: &'static Table) -> Result<(), RewriteError> {
        let Some(days) = self.keeper.settings.retention.days_of(table.name) else { return Ok(()) };
        let before_us = self.keeper.clock.wall_us().saturating_sub(i64::from(days) * DAY_US);
        let files = retention::older(&self.own_files(table)?, before_us);
        if files.is_empty() {
            return Ok(());
        }
        self.expire(Expired { table: table.name, files, why: format!("older than {days} days") })
    }

    fn expire(&mut self, expired: Expired) -> Result<(), RewriteError> {
        self.refile(expired.table, |folder| folder.remove(&expired.files, &Guard::default()))?;
        let Expired { table, files, why } = &expired;
        tracing::info!(table, files = files.len(), rows = expired.rows(), bytes = expired.bytes(), why, "rows expired");
        match expired.ledger_row(self.keeper.clock.wall_us()) {
            Ok(rows) => self.untold.extend(rows),
            Err(error) => tracing::error!(%error, "the ledger cannot say that rows expired"),
        }
        // At once: what went and was not told when a kill comes stays untold.
        self.tell();
        Ok(())
    }

    /// Enters in the ledger what went. What does not fit now is told after the next round.
    fn tell(&mut self) {
        if self.untold.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(Ask::Record(untold))) =
            self.keeper.ledger.try_send(Ask::Record(std::mem::take(&mut self.untold)))
        {
            self.untold = untold;
        }
    }

    fn own_files(&self, table: &'static Table) -> Result<Vec<HourFile>, HistoryError> {
        let files = self.keeper.history.with(table.name, |folder| folder.own_files()).transpose()?;
        Ok(files.unwrap_or_default())
    }

    /// Hours that end before this get no more rows, or few.
    fn closed_us(&self) -> i64 {
        self.keeper.clock.wall_us().saturating_sub(micros(self.keeper.settings.closed_after))
    }

    fn keep(&mut self, table: &'static Table) -> Result<(), RewriteError> {
        self.expire_old(table)?;
        self.rewrite_hours(table)?;
        self.vacuum(table)?;
        let Settings { checkpoint_commits, mut log_age, .. } = self.keeper.settings;
        if self.keeper.signs.is_some() {
            // A version that was taken and is gone would look free to a collector that was asleep.
            log_age = log_age.max(SHARED_LOG_AGE);
        }
        self.keeper.history.with(table.name, |folder| folder.keep_log(checkpoint_commits, log_age)).transpose()?;
        Ok(())
    }

    /// Makes one file of the files of each closed hour, and longer windows of old ones. An hour that fails does not hold
    /// up the others.
    fn rewrite_hours(&mut self, table: &'static Table) -> Result<(), RewriteError> {
        loop {
            let now_us = self.keeper.clock.wall_us();
            self.failed_us.retain(|_, failed_us| now_us.saturating_sub(*failed_us) < AGAIN_AFTER_US);
            let grace_us = micros(self.keeper.settings.grace);
            self.waiting.retain(|(replaced_us, _)| now_us.saturating_sub(*replaced_us) < grace_us);
            if self.waiting.iter().map(|(_, bytes)| bytes).sum::<u64>() > MOST_WAITING_BYTES {
                return Ok(());
            }
            let files = self.own_files(table)?;
            let leave = |hour| self.failed_us.contains_key(&(table.name, hour));
            let tiers: &[Tier] = if table.is_windowed() { &self.keeper.settings.tiers } else { &[] };
            let job = plan::next_tier(&files, tiers, now_us, leave)
                .map(|(window_s, inputs)| (Change::Windows(window_s), inputs));
            let job = job.or_else(|| Some((Change::None, plan::next_merge(&files, self.closed_us(), leave)?)));
            let job = match job {
                None => self.seek_twice(table, &files)?.map(|inputs| (Change::None, inputs)),
                job => job,
            };
            let Some((change, inputs)) = job else { return Ok(()) };
            match self.rewrite(table, &inputs, change) {
                Ok(()) => self.waiting.push((now_us, inputs.iter().map(|input| input.file.bytes).sum())),
                Err(RewriteError::Stopping) => return Err(RewriteError::Stopping),
                Err(error) if error.is_overtaken() => {
                    tracing::debug!(table = table.name, "another collector was first; looking again the next time");
                    return Ok(());
                }
                Err(error) => {
                    let reason = crate::error::chain(&error);
                    tracing::error!(%reason, "an hour's files stay as they are for now; nothing is lost");
                    self.failed_us.extend(inputs.first().map(|input| ((table.name, input.hour), now_us)));
                }
            }
        }
    }

    /// Files of a closed hour in which batches are that other collectors' files have too.
    fn seek_twice(&mut self, table: &'static Table, files: &[HourFile]) -> Result<Option<Vec<HourFile>>, RewriteError> {
        if self.keeper.signs.is_none() && self.gone.is_empty() {
            return Ok(None);
        }
        let closed_us = self.closed_us();
        let Self { keeper, seeker, failed_us, .. } = self;
        let is_due = |hour: Hour| hour.end_us() <= closed_us && !failed_us.contains_key(&(table.name, hour));
        let about = (keeper.history.as_ref(), keeper.batches.as_ref(), keeper.collector.as_str());
        let found = seeker.next(about, table, files, is_due);
        found.map_err(|source| RewriteError::Batches { table: table.name, source })
    }

    /// What is left out of `inputs` for others' sake; `None` where there are no others.
    fn parting(
        &self,
        table: &'static Table,
        inputs: &[HourFile],
        change: &Change,
    ) -> Result<Option<Parting>, RewriteError> {
        if self.keeper.signs.is_none() && self.gone.is_empty() {
            return Ok(None);
        }
        let others = self.keeper.history.with(table.name, |folder| folder.others_of_hour(inputs)).unwrap_or_default();
        let sums = matches!(change, Change::Windows(_)) || inputs.iter().all(HourFile::is_summed);
        let parting = Parting::of(&self.keeper.batches, &self.keeper.collector, inputs, &others, sums);
        parting.map(Some).map_err(|source| RewriteError::Batches { table: table.name, source })
    }

    fn rewrite(&self, table: &'static Table, inputs: &[HourFile], change: Change) -> Result<(), RewriteError> {
        let parting = self.parting(table, inputs, &change)?;
        let job = Job { table, inputs, change, parting: parting.as_ref() };
        let rewritten = job.run(&self.keeper.history, &self.runtime, || self.goes_on())?;
        let Rewritten { file, rows, read, left_out } = rewritten;
        let guard = parting.as_ref().map(|parting| parting.guard.clone()).unwrap_or_default();
        let bytes = match file {
            Some(file) => self.refile(table.name, |folder| folder.replace(file, rows, &guard))?,
            None => self.refile(table.name, |folder| folder.remove(inputs, &guard).map(|()| 0))?,
        };
        if left_out > 0 {
            tracing::info!(table = table.name, rows = left_out, "left out rows that another collector stored too");
        }
        let change = job.change;
        tracing::debug!(
            table = table.name,
            ?change,
            files = inputs.len(),
            read,
            rows = rows.rows,
            bytes,
            "rewrote an hour"
        );
        Ok(())
    }

    /// Changes which files are live, for queries too.
    fn refile<T>(
        &self,
        table: &'static str,
        change: impl FnOnce(&mut crate::history::TableHistory) -> Result<T, HistoryError>,
    ) -> Result<Option<T>, HistoryError> {
        let changed = self.keeper.history.with(table, |folder| {
            let changed = change(folder)?;
            // Under the folder's lock, as a flush does it.
            self.keeper.store.refiled(table, folder.files(), folder.progress());
            Ok(changed)
        });
        changed.transpose()
    }

    fn vacuum(&self, table: &'static Table) -> Result<(), HistoryError> {
        let grace = self.keeper.settings.grace;
        let is_read = |path: &std::path::Path| self.keeper.store.is_read(path);
        let done = self.keeper.history.with(table.name, |folder| folder.vacuum(grace, is_read)).transpose()?;
        if let Some(done) = done.filter(|done| done.files > 0 || done.read > 0) {
            tracing::debug!(table = table.name, files = done.files, read = done.read, "removed files nobody needs");
        }
        Ok(())
    }

    /// Asked now and then by what takes long.
    fn goes_on(&self) -> bool {
        self.stop.try_recv() == Err(TryRecvError::Empty)
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
