//! A PostgreSQL, broken in turn.

use std::time::Duration;

use crate::real::Postgres;
use crate::support::Asked;

fn holds(result: &Result<(), String>, part: &str) -> bool {
    result.as_ref().is_err_and(|line| line.contains(part))
}

#[tokio::test]
async fn a_server_that_is_well_tells_its_figures_and_one_that_is_stopped_does_not_answer() {
    let mut server = Postgres::start();
    let mut asked = Asked::new(&server.settings());
    assert_eq!(asked.run().await, Ok(()));
    let figures: Vec<_> = asked.figures.iter().map(|figure| figure.name).collect();
    let expected = ["postgres_connections", "postgres_connections_used_ratio", "postgres_slow_queries"];
    assert_eq!(figures[..3], expected);
    assert_eq!((asked.figure("postgres_connections"), asked.figure("postgres_slow_queries")), (Some(0.0), Some(0.0)));

    std::fs::write(server.secret(), "wrong\n").unwrap();
    let refused = asked.run().await.unwrap_err();
    assert!(refused.contains("password authentication failed") && !refused.contains("wrong"), "{refused}");
    std::fs::write(server.secret(), crate::real::PASSWORD).unwrap();

    server.stop();
    assert!(holds(&asked.run().await, "Connection refused"), "{:?}", asked.run().await);
    server.resume();
    asked.until("it to be well again", Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn a_slow_query_is_not_well_until_it_ends() {
    let server = Postgres::start();
    let mut asked = Asked::new(&format!("{}slow_after = \"300ms\"\n", server.settings()));
    let slow = server.session("postgres", "SELECT pg_sleep(600)");
    let result = asked.until("the slow query to be seen", Result::is_err).await;
    assert!(holds(&result, "queries take too long: postgres_slow_queries 1 is above 0"), "{result:?}");
    assert!(asked.figure("postgres_longest_query_s").is_some_and(|seconds| seconds > 0.3));
    drop(slow);
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()");
    asked.until("it to be well again", Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn connections_that_run_out_are_told_before_and_when_there_are_none() {
    let server = Postgres::start();
    let limit = "limits = { postgres_connections_used_ratio = 0.7 }\n";
    let mut asked = Asked::new(&format!("{}{limit}", server.settings()));
    let hold = || server.session("watcher", "SELECT pg_sleep(600)");
    // Seven are for everybody.
    let mut held: Vec<_> = (0..5).map(|_| hold()).collect();
    let result = asked.until("connections to run out", Result::is_err).await;
    assert!(
        holds(&result, "connections are running out: postgres_connections_used_ratio 0.714 is above 0.7"),
        "{result:?}"
    );
    // The check's own sessions take some of the places for a moment.
    let none = |result: &Result<(), String>| holds(result, "connection slots are reserved");
    let mut result = Ok(());
    for _ in 0..100 {
        held.push(hold());
        tokio::time::sleep(Duration::from_millis(50)).await;
        result = asked.run().await;
        if none(&result) {
            break;
        }
    }
    assert!(none(&result), "{result:?}");
    drop(held);
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'watcher'");
    asked.until("it to be well again", Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn pages_that_are_not_found_in_memory_are_not_well() {
    let server = Postgres::start();
    server.sql("CREATE TABLE large AS SELECT i, repeat('x', 1000) AS pad FROM generate_series(1, 20000) AS i");
    let mut asked = Asked::new(&format!("{}warm_after = \"0s\"\n", server.settings()));
    let mut patient = Asked::new(&server.settings());
    asked.run().await.unwrap();
    // Statistics come some moments after a session, those of the writes too.
    let mut result = Ok(());
    for _ in 0..20 {
        server.sql("SELECT sum(length(pad)) FROM large; SELECT sum(length(pad)) FROM large");
        result = asked.run().await;
        assert_eq!(patient.run().await, Ok(()), "it was started just now");
        if result.is_err() {
            break;
        }
    }
    assert!(holds(&result, "pages are not found in memory: postgres_cache_hit_ratio"), "{result:?}");
    // Nobody asks for pages any more: there is no ratio, and nothing wrong.
    asked.until("it to be well again", Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn a_server_is_believed_to_be_itself_only_with_a_certificate() {
    let mut server = Postgres::start();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    server.certify(&made.cert.pem(), &made.signing_key.serialize_pem());
    server.stop();
    server.resume();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), made.cert.pem()).unwrap();
    let mut trusting = Asked::new(&format!("{}ca = \"{}\"\n", server.settings(), ca.path().display()));
    trusting.until("it to be well, encrypted", Result::is_ok).await.unwrap();
    let settings = server.settings().replace("/postgres\"", "/postgres?sslmode=require\"");
    let result = Asked::new(&settings).run().await;
    assert!(holds(&result, "UnknownIssuer"), "{result:?}");
}
