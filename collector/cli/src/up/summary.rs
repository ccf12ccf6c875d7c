//! What was seen, in a few lines, and what to try next.

use std::path::Path;

use crate::command::span::moment;
use crate::connect::{AskError, Source};
use crate::output::{count, rows, share};

/// What one `skep up` took in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Summary {
    windows: i64,
    processes: i64,
    syscalls: i64,
    execs: i64,
    connections: i64,
    findings: i64,
    attempted: i64,
    lost: i64,
}

/// Asks for everything since `began_us`.
pub(super) async fn gather(source: &Source, began_us: i64) -> Result<Summary, AskError> {
    let newer = format!("time >= {}", moment(began_us));
    let sql = format!(
        "SELECT * FROM \
         (SELECT count(DISTINCT time) AS windows, count(DISTINCT concat(boot, pid, '.', start_ns)) AS processes \
          FROM cpu WHERE {newer} AND pid <> 0) \
         CROSS JOIN (SELECT CAST(coalesce(sum(count), 0) AS BIGINT) AS syscalls FROM syscalls WHERE {newer}) \
         CROSS JOIN (SELECT count(*) AS execs FROM processes WHERE {newer} AND event = 'exec') \
         CROSS JOIN (SELECT count(*) AS connections FROM connections WHERE {newer} AND event = 'open') \
         CROSS JOIN (SELECT count(*) AS findings FROM findings WHERE {newer}) \
         CROSS JOIN (SELECT CAST(coalesce(sum(attempted), 0) AS BIGINT) AS attempted, \
                            CAST(coalesce(sum(lost), 0) AS BIGINT) AS lost FROM loss WHERE {newer})"
    );
    let batches = source.ask(&sql).await?.collect().await?;
    let Some(row) = rows(&batches).next() else { return Ok(Summary::default()) };
    let int = |name: &str| row.int(name).unwrap_or(0);
    Ok(Summary {
        windows: int("windows"),
        processes: int("processes"),
        syscalls: int("syscalls"),
        execs: int("execs"),
        connections: int("connections"),
        findings: int("findings"),
        attempted: int("attempted"),
        lost: int("lost"),
    })
}

impl Summary {
    /// A paragraph for people.
    pub(super) fn text(&self, data: &Path) -> String {
        let number = |value: i64| count(value.unsigned_abs());
        let coverage = if self.attempted > 0 { 1.0 - self.lost as f64 / self.attempted as f64 } else { 1.0 };
        let place = data.display();
        let mut text = format!(
            "saw {} windows: {} processes, {} system calls, {} execs, {} connections, {} findings\n\
             coverage {}: {} of {} observations lost\n\nnext:\n",
            number(self.windows),
            number(self.processes),
            number(self.syscalls),
            number(self.execs),
            number(self.connections),
            number(self.findings),
            share(coverage),
            number(self.lost),
            number(self.attempted),
        );
        if self.findings > 0 {
            text.push_str(&format!("  skep findings --data {place}\n"));
        }
        text.push_str(&format!(
            "  skep query --data {place} \"SELECT comm, sum(on_cpu_ns) / 1e9 AS cpu_s FROM cpu WHERE pid <> 0 \
             GROUP BY comm ORDER BY cpu_s DESC LIMIT 10\"\n  skep events --data {place} --since 1h --kind exec\n  \
             skep tables"
        ));
        text
    }
}
