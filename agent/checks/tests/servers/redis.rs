//! A Redis, broken in turn.

use std::io::Write;
use std::net::TcpStream;

use crate::real::Redis;
use crate::support::Asked;

#[tokio::test]
async fn a_server_that_is_well_tells_its_figures_and_one_that_is_stopped_does_not_answer() {
    let mut server = Redis::start();
    let mut asked = Asked::new(&server.settings());
    assert_eq!(asked.run().await, Ok(()));
    assert!(asked.figure("redis_memory_used_ratio").is_some_and(|ratio| ratio > 0.0 && ratio < 0.9));
    assert_eq!(asked.figure("redis_clients"), Some(1.0));
    let socket = server.settings_at(&server.socket().display().to_string());
    assert_eq!(Asked::new(&socket).run().await, Ok(()), "by its socket");

    let target = format!("kind = \"redis\"\ntarget = \"127.0.0.1:{}\"\n", server.port);
    let refused = Asked::new(&target).run().await.unwrap_err();
    assert!(refused.starts_with("Redis says \"NOAUTH"), "{refused}");

    server.stop();
    assert!(asked.run().await.unwrap_err().contains("Connection refused"));
    server.resume();
    assert_eq!(asked.run().await, Ok(()));
}

#[tokio::test]
async fn memory_that_is_full_is_not_well_until_there_is_room() {
    let server = Redis::start();
    let mut asked = Asked::new(&server.settings());
    assert_eq!(asked.run().await, Ok(()));
    server.ask(&["setrange", "large", "4000000", "x"]);
    let full = asked.run().await.unwrap_err();
    assert!(full.starts_with("memory is running out: redis_memory_used_ratio"), "{full}");
    server.ask(&["del", "large"]);
    assert_eq!(asked.run().await, Ok(()));
}

#[tokio::test]
async fn keys_that_are_not_there_are_not_well_once_there_are_enough_of_them() {
    let server = Redis::start();
    let mut asked = Asked::new(&format!("{}warm_after = \"0s\"\n", server.settings()));
    assert_eq!(asked.run().await, Ok(()));
    let misses = |count: &str| {
        server.ask(&["eval", "for i = 1, tonumber(ARGV[1]) do redis.call('get', 'none') end", "0", count])
    };
    misses("300");
    assert_eq!(asked.run().await, Ok(()), "too few to tell");
    misses("300");
    let low = asked.run().await.unwrap_err();
    assert_eq!(low, "keys that are asked for are not there: redis_hit_ratio 0 is below 0.5");
    assert_eq!(asked.run().await, Ok(()), "nobody asks any more");
}

#[tokio::test]
async fn clients_that_are_turned_away_are_told_by_who_was_and_by_the_count() {
    let server = Redis::start();
    let mut asked = Asked::new(&server.settings());
    assert_eq!(asked.run().await, Ok(()));
    server.ask(&["config", "set", "maxclients", "2"]);
    let crowd: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(("127.0.0.1", server.port)).unwrap()).collect();
    crowd.iter().for_each(|mut one| drop(one.write_all(b"PING\r\n")));
    let away = asked.until("to be turned away", Result::is_err).await.unwrap_err();
    // It may hang up before it was asked anything.
    assert!(away.contains("max number of clients reached") || away.starts_with("the connection broke"), "{away}");
    drop(crowd);
    let counted =
        |result: &Result<(), String>| result.as_ref().is_err_and(|line| line.contains("redis_rejected_connections"));
    asked.until("the count", counted).await.unwrap_err();
    asked.until("it to be well again", Result::is_ok).await.unwrap();
}
