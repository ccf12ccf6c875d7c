//! When checks run, and what they say of each other.

use std::time::Duration;

use skep_checks::outcome::Outcome;
use skep_checks::schedule::Runner;
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::real::free_port;
use crate::support::checks;

struct Running {
    outcomes: mpsc::Receiver<Outcome>,
    stop: Shutdown,
    task: JoinHandle<()>,
}

fn start(text: &str) -> Running {
    let (sender, outcomes) = mpsc::channel(4);
    let stop = Shutdown::new();
    let runner = Runner { checks: checks(text), outcomes: sender, stop: stop.token(), clock: Clock::system() };
    Running { outcomes, stop, task: tokio::spawn(runner.run()) }
}

impl Running {
    /// The next outcome of this check.
    async fn next(&mut self, name: &str) -> Outcome {
        loop {
            let next = timeout(Duration::from_secs(20), self.outcomes.recv()).await;
            let outcome = next.unwrap().unwrap();
            if outcome.check.name == name {
                return outcome;
            }
        }
    }

    async fn stop(mut self) {
        self.stop.begin();
        while self.outcomes.recv().await.is_some() {}
        self.task.await.unwrap();
    }
}

fn tcp(name: &str, port: u16, rest: &str) -> String {
    format!(
        "[[check]]\nname = \"{name}\"\nkind = \"tcp\"\ntarget = \"127.0.0.1:{port}\"\ninterval = \"500ms\"\n{rest}\n"
    )
}

#[tokio::test]
async fn a_check_is_down_when_it_failed_more_often_than_is_let_pass_and_well_at_once() {
    let port = free_port();
    let mut running = start(&tcp("shop", port, "retries = 2"));
    for failures in 1..=3 {
        let outcome = running.next("shop").await;
        assert!(outcome.error.as_ref().is_some_and(|line| line.contains("Connection refused")));
        assert_eq!((outcome.failures, outcome.is_down()), (failures, failures > 2));
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut outcome = running.next("shop").await;
    while outcome.error.is_some() {
        outcome = running.next("shop").await;
    }
    assert_eq!((outcome.failures, outcome.is_down()), (0, false));
    drop(listener);
    running.stop().await;
}

#[tokio::test]
async fn what_a_check_depends_on_is_looked_at_when_it_fails_and_explains_it() {
    let port = free_port();
    let database = tcp("db", port, "retries = 0").replace("500ms", "1h");
    let shop = tcp("shop", free_port(), "retries = 20\ndepends_on = [\"db\"]");
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut running = start(&format!("{database}{shop}"));
    let mut outcome = running.next("shop").await;
    assert_eq!(outcome.blocked_by, None, "it is well, or nobody has looked yet");
    drop(listener);
    // The database's own next look is an hour away.
    while outcome.blocked_by.is_none() {
        outcome = running.next("shop").await;
        assert!(outcome.failures < 20, "nobody looked at what it depends on");
    }
    assert_eq!(outcome.blocked_by.as_deref(), Some("db"));
    running.stop().await;
}

#[tokio::test]
async fn what_hangs_is_told_in_time_and_does_not_keep_the_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hangs = format!(
        "[[check]]\nname = \"hangs\"\nkind = \"http\"\ntarget = \"http://127.0.0.1:{port}\"\ntimeout = \"200ms\"\n\
         interval = \"500ms\"\n"
    );
    let mut running = start(&format!("{hangs}{}", tcp("well", port, "")));
    let outcome = running.next("hangs").await;
    assert_eq!(outcome.error.as_deref(), Some("no answer within 200ms"));
    assert!(outcome.latency >= Duration::from_millis(200));
    assert_eq!(running.next("well").await.error, None);
    running.stop().await;
}
