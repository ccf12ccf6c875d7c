//! A PostgreSQL server, and what its statistics say.
//!
//! One connection a run: whether there is one to be had is the first thing to know. A role with `pg_monitor` sees what other
//! roles' sessions do; without it, slow queries and long transactions are those of its own.
//!
//! Source: PostgreSQL documentation, "The Cumulative Statistics System"; the columns are there since version 10.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, SimpleQueryMessage, SimpleQueryRow};

use super::postgres_tls::Tls;
use super::{Fault, Memory, tls};
use crate::check::Postgres;
use crate::figure::Figure;

/// Pages asked for that make a ratio. A run of the check itself asks for some hundred.
const ENOUGH_PAGES: f64 = 5000.0;

/// One row of figures. Text, so that no statement has to be prepared, which poolers in between may not like.
fn sql(slow_after: Duration) -> String {
    format!(
        "SELECT a.connections, current_setting('max_connections')::bigint \
         - current_setting('superuser_reserved_connections')::bigint AS most_connections, a.slow, a.longest_query_s, \
         a.longest_transaction_s, d.hit, d.hit + d.read AS pages, \
         extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) AS up_s, \
         CASE WHEN NOT pg_is_in_recovery() THEN r.lag_s \
         WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
         ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END AS lag_s \
         FROM (SELECT count(*) AS connections, \
         count(*) FILTER (WHERE state = 'active' AND clock_timestamp() - query_start > interval '{} ms') AS slow, \
         max(extract(epoch FROM clock_timestamp() - query_start)) FILTER (WHERE state = 'active') AS longest_query_s, \
         max(extract(epoch FROM clock_timestamp() - xact_start)) AS longest_transaction_s \
         FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS a, \
         (SELECT sum(blks_hit)::float8 AS hit, sum(blks_read)::float8 AS read FROM pg_stat_database) AS d, \
         (SELECT max(extract(epoch FROM replay_lag)) AS lag_s FROM pg_stat_replication) AS r",
        slow_after.as_millis()
    )
}

pub(super) async fn ask(server: &Postgres, memory: &mut Memory, figures: &mut Vec<Figure>) -> Result<(), Fault> {
    let mut config = Config::from_str(&server.url).map_err(Fault::Postgres)?;
    if let Some(password) = &server.password {
        config.password(password.read()?.expose());
    }
    config.application_name("skep");
    // Encryption that does not say with whom protects from nobody: it is verified, or there is none.
    let is_tls = config.get_ssl_mode() == SslMode::Require || server.ca.is_some();
    config.ssl_mode(if is_tls { SslMode::Require } else { SslMode::Disable });
    let trusted = match (is_tls, memory.tls.take()) {
        (false, _) => None,
        (true, Some(trusted)) => Some(trusted),
        (true, None) => Some(tls::config(server.ca.as_deref())?),
    };
    memory.tls.clone_from(&trusted);
    let (client, connection) = config.connect(Tls::new(trusted)).await.map_err(Fault::Postgres)?;
    let sql = sql(server.slow_after);
    let mut talk = std::pin::pin!(row(client, &sql));
    let row = tokio::select! {
        biased;
        row = &mut talk => row?,
        ended = connection => match ended {
            Ok(()) => talk.await?,
            Err(error) => return Err(Fault::Postgres(error)),
        },
    };
    tell(&row, server.warm_after, memory, figures)
}

async fn row(client: Client, sql: &str) -> Result<SimpleQueryRow, Fault> {
    let messages = client.simple_query(sql).await.map_err(Fault::Postgres)?;
    let row = messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.ok_or(Fault::Shape { what: "a row" })
}

fn tell(
    row: &SimpleQueryRow,
    warm_after: Duration,
    memory: &mut Memory,
    figures: &mut Vec<Figure>,
) -> Result<(), Fault> {
    let number = |name: &str| row.try_get(name).ok().flatten().and_then(|text| text.parse::<f64>().ok());
    let connections = number("connections").ok_or(Fault::Shape { what: "a number of connections" })?;
    let mut push = |name: &'static str, value: Option<f64>| figures.extend(value.map(|value| Figure { name, value }));
    push("postgres_connections", Some(connections));
    let most = number("most_connections").filter(|most| *most > 0.0);
    push("postgres_connections_used_ratio", most.map(|most| connections / most));
    push("postgres_slow_queries", number("slow"));
    push("postgres_longest_query_s", number("longest_query_s"));
    push("postgres_longest_transaction_s", number("longest_transaction_s"));
    push("postgres_replication_lag_s", number("lag_s"));
    if let (Some(hit), Some(pages)) = (number("hit"), number("pages")) {
        push("postgres_cache_hit_ratio", memory.hit_ratio((hit, pages, ENOUGH_PAGES), number("up_s"), warm_after));
    }
    Ok(())
}
