//! What must hold of the loss ledger whatever happened.

/// Asserts that every row of `loss` adds up, and that what it calls delivered is what the tables hold, asked through
/// `ask`.
pub fn assert_ledger(ask: &dyn Fn(&str) -> i64) {
    let broken = ask("SELECT count(*) FROM loss WHERE attempted <> delivered + lost");
    assert_eq!(broken, 0, "rows of loss that do not add up");
    for (probe, stored) in [
        ("syscall", "SELECT CAST(sum(count) AS BIGINT) FROM syscalls"),
        ("exec", "SELECT count(*) FROM processes WHERE event = 'exec'"),
        ("exit", "SELECT count(*) FROM processes WHERE event = 'exit'"),
        ("fork", "SELECT count(*) FROM processes WHERE event = 'fork'"),
        ("tcp", "SELECT count(*) FROM connections"),
        ("cpu", "SELECT CAST(sum(slices) AS BIGINT) FROM cpu"),
        ("socket", "SELECT CAST(sum(sent_messages) + sum(received_messages) AS BIGINT) FROM sockets"),
        ("run_queue", "SELECT CAST(sum(run_queue_delay_count) AS BIGINT) FROM cpu"),
        ("off_cpu", "SELECT CAST(sum(off_cpu_count) AS BIGINT) FROM cpu"),
    ] {
        let sum =
            |column: &str| ask(&format!("SELECT CAST(sum({column}) AS BIGINT) FROM loss WHERE probe = '{probe}'"));
        let (attempted, delivered, lost) = (sum("attempted"), sum("delivered"), sum("lost"));
        assert!(attempted > 0, "{probe} saw nothing");
        assert_eq!(attempted, delivered + lost, "{probe}");
        assert_eq!(delivered, ask(stored), "{probe}: what the ledger calls delivered is what the tables hold");
    }
}
