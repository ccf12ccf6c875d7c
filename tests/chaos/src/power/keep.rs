//! Upkeep of the tables as the keeper does it, step by step, but for the order of the rows, which nobody asks for here.

use std::time::Duration;

use anyhow::{Context, Result};
use skep_collector::buffer::Store;
use skep_collector::history::History;
use skep_collector::history::upkeep::{Guard, Rows};
use skep_collector::maintain::plan;
use skep_seglog::sim::SimDisk;

use super::rows;

/// Commits between two checkpoints: few, so that every round has some.
const CHECKPOINT_COMMITS: u64 = 3;

/// Merges files of one hour, removes files that are not live any more, writes a checkpoint and removes the commits before
/// it: as far as any of it is due. Returns whether files were merged.
pub(super) fn keep(table: &'static str, history: &History, store: &Store, disk: &SimDisk) -> Result<bool> {
    let merged = merge(table, history, store, disk)?;
    let done = history.with(table, |folder| {
        folder.vacuum(Duration::ZERO, |path| store.is_read(path))?;
        folder.keep_log(CHECKPOINT_COMMITS, Duration::ZERO)
    });
    done.transpose()?;
    Ok(merged)
}

fn merge(table: &'static str, history: &History, store: &Store, disk: &SimDisk) -> Result<bool> {
    let files = history.with(table, |folder| folder.own_files()).context("a table that is there")??;
    let Some(inputs) = plan::next_merge(&files, i64::MAX, |_| false) else { return Ok(false) };
    let begun = history.with(table, |folder| folder.replacement(&inputs, 0, "None"));
    let mut replacement = begun.context("a table that is there")??;
    let mut count = 0;
    for input in &inputs {
        for batch in rows::read(&input.file.path, disk)? {
            count += batch.num_rows() as u64;
            replacement.write(&batch)?;
        }
    }
    let times: Vec<_> = inputs.iter().filter_map(|input| input.file.times_us).collect();
    let first = times.iter().map(|(first, _)| *first).min().context("times of files of ours")?;
    let last = times.iter().map(|(_, last)| *last).max().context("times of files of ours")?;
    let rows = Rows { rows: count, times_us: (first, last), changed: false };
    let finished = replacement.finish()?;
    let replaced = history.with(table, |folder| {
        folder.replace(finished, rows, &Guard::default())?;
        // Under the folder's lock, as the keeper does it.
        store.refiled(table, folder.files(), folder.progress());
        anyhow::Ok(())
    });
    replaced.context("a table that is there")??;
    Ok(true)
}
