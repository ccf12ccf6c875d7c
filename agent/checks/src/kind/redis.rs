//! A Redis server, by its own protocol: AUTH if it wants one, PING, INFO.
//!
//! Three requests of one line each need no client library. Source: redis.io, "Redis serialization protocol specification"
//! and "INFO".

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Fault, Memory, tcp};
use crate::check::Redis;
use crate::figure::Figure;

/// Lookups that make a hit ratio.
const ENOUGH_LOOKUPS: f64 = 500.0;

/// Longest answer; INFO is some kilobytes.
const MAX_ANSWER: usize = 1 << 20;

pub(super) async fn ask(server: &Redis, memory: &mut Memory, figures: &mut Vec<Figure>) -> Result<(), Fault> {
    if server.address.starts_with('/') {
        let connect = |source| Fault::Connect { address: server.address.clone(), source };
        let stream = UnixStream::connect(&server.address).await.map_err(connect)?;
        talk(stream, server, memory, figures).await
    } else {
        talk(tcp::connect(&server.address).await?, server, memory, figures).await
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server: &Redis,
    memory: &mut Memory,
    figures: &mut Vec<Figure>,
) -> Result<(), Fault> {
    let mut stream = BufReader::new(stream);
    if let Some(password) = &server.password {
        let password = password.read()?;
        let user = server.user.iter().map(String::as_str);
        let words: Vec<&str> = ["AUTH"].into_iter().chain(user).chain([password.expose()]).collect();
        request(&mut stream, &words).await?;
    }
    request(&mut stream, &["PING"]).await?;
    let info = request(&mut stream, &["INFO"]).await?;
    tell(&info, server.warm_after, memory, figures)
}

/// Sends one request; its answer, a simple or a bulk string.
async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    words: &[&str],
) -> Result<String, Fault> {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(bytes.as_bytes()).await.map_err(Fault::Broken)?;
    let mut line = Vec::new();
    (&mut *stream).take(MAX_ANSWER as u64).read_until(b'\n', &mut line).await.map_err(Fault::Broken)?;
    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
    let (kind, rest) = line.split_at_checked(1).ok_or(Fault::Shape { what: "a first line" })?;
    match kind {
        "+" => Ok(rest.to_owned()),
        "-" => Err(Fault::Redis { said: rest.to_owned() }),
        "$" => {
            let length: usize = rest.parse().map_err(|_| Fault::Shape { what: "a length" })?;
            if length > MAX_ANSWER {
                return Err(Fault::Shape { what: "an end" });
            }
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes).await.map_err(Fault::Broken)?;
            Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
        }
        _ => Err(Fault::Shape { what: "the protocol of Redis" }),
    }
}

fn tell(info: &str, warm_after: Duration, memory: &mut Memory, figures: &mut Vec<Figure>) -> Result<(), Fault> {
    let text = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end);
    let number = |name: &str| text(name).and_then(|text| text.parse::<f64>().ok());
    let mut push = |name: &'static str, value: Option<f64>| figures.extend(value.map(|value| Figure { name, value }));
    let used = number("used_memory").ok_or(Fault::Shape { what: "used_memory" })?;
    push("redis_used_memory_bytes", Some(used));
    push("redis_memory_used_ratio", number("maxmemory").filter(|most| *most > 0.0).map(|most| used / most));
    push("redis_clients", number("connected_clients"));
    if let (Some(hits), Some(misses)) = (number("keyspace_hits"), number("keyspace_misses")) {
        let counted = (hits, hits + misses, ENOUGH_LOOKUPS);
        push("redis_hit_ratio", memory.hit_ratio(counted, number("uptime_in_seconds"), warm_after));
    }
    push("redis_rejected_connections", number("rejected_connections").and_then(|count| memory.rejected.take(count)));
    push("redis_evicted_keys", number("evicted_keys").and_then(|count| memory.evicted.take(count)));
    if text("role") == Some("slave") {
        push("redis_replication_lag_s", number("master_last_io_seconds_ago").filter(|seconds| *seconds >= 0.0));
        if text("master_link_status") != Some("up") {
            let word = |name| text(name).unwrap_or("?");
            return Err(Fault::Link { primary: format!("{}:{}", word("master_host"), word("master_port")) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARM_AFTER: Duration = Duration::from_secs(600);

    fn named(figures: &[Figure]) -> Vec<(&'static str, f64)> {
        figures.iter().map(|figure| (figure.name, figure.value)).collect()
    }

    #[test]
    fn info_becomes_figures() {
        let info = "# Memory\r\nused_memory:50\r\nused_memory_human:50B\r\nmaxmemory:200\r\n# Clients\r\n\
                    connected_clients:3\r\nkeyspace_hits:0\r\nkeyspace_misses:0\r\nrejected_connections:0\r\n\
                    evicted_keys:1\r\nrole:master\r\n";
        let (mut memory, mut figures) = (Memory::default(), Vec::new());
        tell(info, WARM_AFTER, &mut memory, &mut figures).unwrap();
        let expected = [("redis_used_memory_bytes", 50.0), ("redis_memory_used_ratio", 0.25), ("redis_clients", 3.0)];
        assert_eq!(named(&figures), expected);
        figures.clear();
        tell(
            &info.replace("misses:0", "misses:600").replace("evicted_keys:1", "evicted_keys:4"),
            WARM_AFTER,
            &mut memory,
            &mut figures,
        )
        .unwrap();
        assert_eq!(
            named(&figures)[3..],
            [("redis_hit_ratio", 0.0), ("redis_rejected_connections", 0.0), ("redis_evicted_keys", 3.0)]
        );
    }

    #[test]
    fn a_cache_is_not_judged_by_what_was_asked_for_while_it_was_filled() {
        let mut memory = Memory::default();
        let mut ratio = |up_s: u32, hits: u32, misses: u32| {
            let mut figures = Vec::new();
            let info = format!(
                "used_memory:1\r\nuptime_in_seconds:{up_s}\r\nkeyspace_hits:{hits}\r\nkeyspace_misses:{misses}\r\n"
            );
            tell(&info, WARM_AFTER, &mut memory, &mut figures).unwrap();
            figures.iter().find(|figure| figure.name == "redis_hit_ratio").map(|figure| figure.value)
        };
        assert_eq!(ratio(540, 0, 0), None);
        assert_eq!(ratio(570, 0, 10_000), None);
        assert_eq!(ratio(599, 0, 10_400), None);
        assert_eq!(ratio(630, 900, 10_500), Some(0.9), "only what came since");
    }

    #[test]
    fn a_replica_without_its_primary_is_not_well() {
        let info = "used_memory:1\r\nrole:slave\r\nmaster_host:a\r\nmaster_port:1\r\nmaster_link_status:down\r\n\
                    master_last_io_seconds_ago:-1\r\n";
        let fault = tell(info, WARM_AFTER, &mut Memory::default(), &mut Vec::new()).unwrap_err();
        assert_eq!(fault.to_string(), "the link to the primary a:1 is down");
    }

    #[test]
    fn what_is_no_redis_is_said_to_be_none() {
        assert!(matches!(tell("hello", WARM_AFTER, &mut Memory::default(), &mut Vec::new()), Err(Fault::Shape { .. })));
    }
}
