//! A collector that does as the test says, certificates, and probes that see what the test says.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test support fails by panicking")]
#![allow(dead_code, reason = "each test binary uses its own part of it")]

pub(crate) mod collector;
pub(crate) mod pki;
pub(crate) mod script;

use std::time::{Duration, Instant};

/// How long a step may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer, or fails with `what`.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
