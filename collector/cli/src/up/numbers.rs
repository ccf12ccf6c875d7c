//! The numbers of one window, asked in SQL like anybody else would.

use crate::command::span::moment;
use crate::connect::{AskError, Source};
use crate::output::{Row, rows};

/// How far back the newest window is looked for, in windows: one is being measured, one may be on its way.
const LOOK_BACK_WINDOWS: i64 = 6;

/// One window over all nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Numbers {
    pub(super) start_us: i64,
    pub(super) window_s: f64,
    pub(super) processes: i64,
    pub(super) cores: f64,
    pub(super) own_cores: f64,
    pub(super) syscalls_per_s: f64,
    pub(super) events: i64,
    pub(super) connections: i64,
    /// Since the start of this `skep up`.
    pub(super) findings: i64,
    pub(super) attempted: i64,
    pub(super) lost: i64,
    /// Task name and cores, busiest first.
    pub(super) busiest: Vec<(String, f64)>,
}

impl Numbers {
    /// Share of what the kernel offered that arrived.
    pub(super) fn coverage(&self) -> f64 {
        if self.attempted > 0 { 1.0 - self.lost as f64 / self.attempted as f64 } else { 1.0 }
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Only a window that started later.
    pub(super) after_us: i64,
    pub(super) window_us: i64,
    /// Start of this `skep up`.
    pub(super) began_us: i64,
    pub(super) now_us: i64,
    /// Process ids of skep's own programs.
    pub(super) own: Vec<i32>,
}

/// The newest window that is whole, if there is one to look for.
pub(super) async fn newest(source: &Source, look: &Look) -> Result<Option<Numbers>, AskError> {
    let from = look.after_us.max(look.now_us - LOOK_BACK_WINDOWS * look.window_us - 60_000_000);
    let start = one(source, &format!("SELECT max(time) AS v FROM cpu WHERE time > {}", moment(from)), "v").await?;
    let Some(start_us) = start else { return Ok(None) };
    let at = moment(start_us);
    let mut numbers = Numbers { start_us, ..Numbers::default() };

    let own: Vec<String> = look.own.iter().chain(&[-1]).map(i32::to_string).collect();
    let own = own.join(", ");
    let sql = format!(
        "SELECT max(window_s) AS window_s, count(*) AS processes, CAST(sum(on_cpu_ns) AS DOUBLE) / 1e9 AS cpu_s, \
         CAST(sum(CASE WHEN pid IN ({own}) THEN on_cpu_ns ELSE 0 END) AS DOUBLE) / 1e9 AS own_s \
         FROM cpu WHERE time = {at} AND pid <> 0"
    );
    each(source, &sql, |row| {
        numbers.window_s = row.float("window_s").unwrap_or(0.0);
        numbers.processes = row.int("processes").unwrap_or(0);
        numbers.cores = per(row.float("cpu_s"), numbers.window_s);
        numbers.own_cores = per(row.float("own_s"), numbers.window_s);
    })
    .await?;
    let window_s = numbers.window_s;
    let sql = format!(
        "SELECT comm, CAST(sum(on_cpu_ns) AS DOUBLE) / 1e9 AS cpu_s FROM cpu WHERE time = {at} AND pid <> 0 \
         GROUP BY comm ORDER BY cpu_s DESC LIMIT 5"
    );
    each(source, &sql, |row| {
        numbers.busiest.push((row.text("comm").unwrap_or_default(), per(row.float("cpu_s"), window_s)));
    })
    .await?;
    let sql = format!("SELECT CAST(sum(count) AS BIGINT) AS v FROM syscalls WHERE time = {at}");
    numbers.syscalls_per_s = per(one(source, &sql, "v").await?.map(|calls| calls as f64), window_s);

    let end = moment(start_us + (window_s * 1e6) as i64);
    let during = format!("time >= {at} AND time < {end}");
    let sql = format!("SELECT count(*) AS v FROM processes WHERE {during} AND event <> 'running'");
    numbers.events = one(source, &sql, "v").await?.unwrap_or(0);
    let sql = format!("SELECT count(*) AS v FROM connections WHERE {during} AND event = 'open'");
    numbers.connections = one(source, &sql, "v").await?.unwrap_or(0);
    let sql = format!("SELECT count(*) AS v FROM findings WHERE time >= {}", moment(look.began_us));
    numbers.findings = one(source, &sql, "v").await?.unwrap_or(0);
    let sql = format!(
        "SELECT CAST(sum(attempted) AS BIGINT) AS attempted, CAST(sum(lost) AS BIGINT) AS lost FROM loss WHERE {during}"
    );
    each(source, &sql, |row| {
        numbers.attempted = row.int("attempted").unwrap_or(0);
        numbers.lost = row.int("lost").unwrap_or(0);
    })
    .await?;
    Ok(Some(numbers))
}

fn per(total: Option<f64>, window_s: f64) -> f64 {
    if window_s > 0.0 { total.unwrap_or(0.0) / window_s } else { 0.0 }
}

async fn each(source: &Source, sql: &str, mut take: impl FnMut(Row<'_>)) -> Result<(), AskError> {
    let batches = source.ask(sql).await?.collect().await?;
    rows(&batches).for_each(&mut take);
    Ok(())
}

/// The one integer of a one-row answer.
pub(super) async fn one(source: &Source, sql: &str, column: &str) -> Result<Option<i64>, AskError> {
    let batches = source.ask(sql).await?.collect().await?;
    Ok(rows(&batches).next().and_then(|row| row.int(column)))
}
