use std::path::Path;

use skep_runtime::shutdown::Shutdown;
use skep_wire::chunk;
use skep_wire::v1::{Step, command};
use tokio::net::UnixListener;
use tokio::net::unix::OwnedReadHalf;

use super::*;

/// A relay with a spool that is the test's.
struct Rig {
    commands: mpsc::Sender<v1::SignedCommand>,
    spool: mpsc::Receiver<Request>,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn start(socket: Option<&Path>, receipt: Option<ReceiptMark>) -> Self {
        let (commands, commands_in) = mpsc::channel(QUEUE);
        let (spool_in, spool) = mpsc::channel(QUEUE);
        let shutdown = Shutdown::new();
        let relay = Relay {
            socket: socket.map(Path::to_owned),
            node: "n1".to_owned(),
            commands: commands_in,
            spool: spool_in,
            receipt,
            stop: shutdown.token(),
            clock: Clock::system(),
            unanswered: Unanswered::default(),
        };
        Self { commands, spool, shutdown, task: tokio::spawn(relay.run()) }
    }

    /// The next batch: its receipt mark, and action and state of its row. It is durable when this returns.
    async fn next(&mut self) -> (Option<ReceiptMark>, String, String) {
        let Some(Request::Append(append)) = self.spool.recv().await else { panic!("no batch") };
        append.done.unwrap().send(()).unwrap();
        let row = chunk::rows(&append.batch.chunks[0]).next().unwrap();
        let text = |name| row.text(name).unwrap().to_owned();
        (append.receipt, text("action"), text("state"))
    }

    async fn stop(self) {
        self.shutdown.begin();
        self.task.await.unwrap();
    }
}

/// The executor's end of a connection.
struct Executor {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
}

impl Executor {
    async fn accept(listener: &UnixListener) -> Self {
        let (from, to) = listener.accept().await.unwrap().0.into_split();
        let mut executor = Self { from, to };
        assert!(matches!(executor.next().await, executor_request::Request::Status(_)));
        executor
    }

    async fn next(&mut self) -> executor_request::Request {
        frame::read::<v1::ExecutorRequest>(&mut self.from).await.unwrap().unwrap().request.unwrap()
    }

    async fn receipt(&mut self, number: u64, time_us: i64, action_id: &str, step: Step, of: &v1::Command) {
        self.receipt_in(0, number, time_us, action_id, (step, of)).await;
    }

    async fn receipt_in(
        &mut self,
        journal_us: i64,
        number: u64,
        time_us: i64,
        action_id: &str,
        (step, of): (Step, &v1::Command),
    ) {
        let receipt = v1::Receipt {
            journal_us,
            number,
            time_us,
            action_id: action_id.to_owned(),
            step: step.into(),
            command: Some(of.clone()),
            ..v1::Receipt::default()
        };
        let reply = v1::ExecutorReply { reply: Some(executor_reply::Reply::Receipt(receipt)) };
        frame::write(&mut self.to, &reply).await.unwrap();
    }

    async fn acknowledged(&mut self) -> u64 {
        match self.next().await {
            executor_request::Request::ReceiptAck(ack) => ack.durable_number,
            other => panic!("{other:?}"),
        }
    }
}

fn throttle(id: &str, valid_for_us: i64) -> v1::Command {
    v1::Command {
        id: id.to_owned(),
        node: "n1".to_owned(),
        target: Some(v1::Target::default()),
        action: Some(command::Action::Throttle(v1::Throttle { cpu_millicores: 250 })),
        not_after_us: Clock::system().wall_us() + valid_for_us,
        ..v1::Command::default()
    }
}

fn undo(id: &str, action_id: &str) -> v1::Command {
    let action = command::Action::Undo(v1::Undo { action_id: action_id.to_owned() });
    v1::Command { action: Some(action), ..throttle(id, 60_000_000) }
}

fn signed(command: &v1::Command) -> v1::SignedCommand {
    v1::SignedCommand { command: command.encode_to_vec(), signature: vec![1; 64], key_id: "k".to_owned() }
}

const MINUTE_US: i64 = 60_000_000;

#[tokio::test]
async fn a_node_without_an_executor_says_so() {
    let mut rig = Rig::start(None, None);
    rig.commands.send(signed(&throttle("a", MINUTE_US))).await.unwrap();
    assert_eq!(rig.next().await, (None, "a".to_owned(), "failed".to_owned()));
    rig.stop().await;
}

#[tokio::test]
async fn a_receipt_is_acknowledged_after_it_is_durable_and_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("executor.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut rig = Rig::start(Some(&socket), None);
    let mut executor = Executor::accept(&listener).await;
    let command = throttle("a", MINUTE_US);
    rig.commands.send(signed(&command)).await.unwrap();
    assert_eq!(executor.next().await, executor_request::Request::Execute(signed(&command)));
    executor.receipt(1, 100, "a", Step::Applied, &command).await;
    let mark = ReceiptMark { time_us: 100, number: 1 };
    assert_eq!(rig.next().await, (Some(mark), "a".to_owned(), "applied".to_owned()));
    assert_eq!(executor.acknowledged().await, 1);

    // The executor is killed before it saw the acknowledgement, and tells it again.
    drop(executor);
    let mut executor = Executor::accept(&listener).await;
    executor.receipt(1, 100, "a", Step::Applied, &command).await;
    assert_eq!(executor.acknowledged().await, 1);
    executor.receipt(2, 200, "a", Step::Undone, &command).await;
    assert_eq!(rig.next().await.2, "undone");
    assert_eq!(executor.acknowledged().await, 2);

    // A journal begun anew counts from one again.
    executor.receipt(1, 300, "b", Step::Refused, &throttle("b", MINUTE_US)).await;
    assert_eq!(rig.next().await.1, "b");
    rig.stop().await;
}

#[tokio::test]
async fn receipts_of_one_journal_are_told_once_wherever_the_clock_was_set() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("executor.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut rig = Rig::start(Some(&socket), None);
    let mut executor = Executor::accept(&listener).await;
    let (applied, undone) = (throttle("a", MINUTE_US), throttle("a", MINUTE_US));
    executor.receipt_in(7, 1, 500, "a", (Step::Applied, &applied)).await;
    assert_eq!(rig.next().await, (Some(ReceiptMark { time_us: 7, number: 1 }), "a".to_owned(), "applied".to_owned()));
    executor.acknowledged().await;
    executor.receipt_in(7, 2, 100, "a", (Step::Undone, &undone)).await;
    assert_eq!(rig.next().await.2, "undone");
    executor.acknowledged().await;

    drop(executor);
    let mut executor = Executor::accept(&listener).await;
    executor.receipt_in(7, 1, 500, "a", (Step::Applied, &applied)).await;
    executor.receipt_in(7, 2, 100, "a", (Step::Undone, &undone)).await;
    assert_eq!((executor.acknowledged().await, executor.acknowledged().await), (1, 2));
    executor.receipt_in(7, 3, 50, "b", (Step::Refused, &throttle("b", MINUTE_US))).await;
    assert_eq!(rig.next().await.1, "b");
    executor.acknowledged().await;
    executor.receipt_in(9, 1, 60, "c", (Step::Refused, &throttle("c", MINUTE_US))).await;
    assert_eq!(rig.next().await.1, "c", "a journal begun anew");
    rig.stop().await;
}

#[tokio::test]
async fn a_receipt_that_a_run_before_sealed_is_only_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("executor.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut rig = Rig::start(Some(&socket), Some(ReceiptMark { time_us: 100, number: 5 }));
    let mut executor = Executor::accept(&listener).await;
    let command = throttle("a", MINUTE_US);
    executor.receipt(5, 100, "a", Step::Applied, &command).await;
    assert_eq!(executor.acknowledged().await, 5);
    executor.receipt(6, 101, "a", Step::Improved, &command).await;
    assert_eq!(rig.next().await.2, "improved");
    rig.stop().await;
}

#[tokio::test]
async fn a_command_waits_for_the_executor_and_is_passed_on_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("executor.sock");
    let rig = Rig::start(Some(&socket), None);
    let command = throttle("a", MINUTE_US);
    rig.commands.send(signed(&command)).await.unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let mut executor = Executor::accept(&listener).await;
    assert_eq!(executor.next().await, executor_request::Request::Execute(signed(&command)));
    drop(executor);
    let mut executor = Executor::accept(&listener).await;
    let other = throttle("b", MINUTE_US);
    rig.commands.send(signed(&other)).await.unwrap();
    assert_eq!(executor.next().await, executor_request::Request::Execute(signed(&other)), "not the first one again");
    rig.stop().await;
}

#[tokio::test]
async fn a_command_without_an_answer_fails_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("executor.sock");
    let mut rig = Rig::start(Some(&socket), None);
    rig.commands.send(signed(&throttle("a", 1_000))).await.unwrap();
    assert_eq!(rig.next().await, (None, "a".to_owned(), "failed".to_owned()));
    rig.stop().await;
}

#[test]
fn an_undone_action_answers_the_command_that_asked_for_it() {
    let mut unanswered = Unanswered::default();
    unanswered.keep(signed(&undo("u", "a")), true).unwrap();
    unanswered.keep(signed(&throttle("c", 1)), true).unwrap();
    let receipt = |step: Step, action_id: &str, of: &v1::Command| v1::Receipt {
        step: step.into(),
        action_id: action_id.to_owned(),
        command: Some(of.clone()),
        ..v1::Receipt::default()
    };
    unanswered.answer(&receipt(Step::Improved, "a", &throttle("a", 1)));
    assert_eq!(unanswered.0.len(), 2);
    unanswered.answer(&receipt(Step::Undone, "a", &throttle("a", 1)));
    assert_eq!(unanswered.0.keys().collect::<Vec<_>>(), ["c"]);
    unanswered.answer(&receipt(Step::Refused, "replay:c", &throttle("c", 1)));
    assert!(unanswered.0.is_empty());
}

#[tokio::test]
async fn commands_that_wait_are_bounded_and_one_too_many_fails_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(Some(&dir.path().join("executor.sock")), None);
    for i in 0..QUEUE {
        rig.commands.send(signed(&throttle(&format!("{i:03}"), MINUTE_US))).await.unwrap();
    }
    rig.commands.send(signed(&throttle("one more", MINUTE_US))).await.unwrap();
    let Some(Request::Append(append)) = rig.spool.recv().await else { panic!("no batch") };
    append.done.unwrap().send(()).unwrap();
    let row = chunk::rows(&append.batch.chunks[0]).next().unwrap();
    assert_eq!((row.text("action"), row.text("state")), (Some("one more"), Some("failed")));
    assert_eq!(row.text("detail"), Some(TOO_MANY));
    rig.stop().await;
}

#[test]
fn a_command_that_cannot_be_read_is_not_kept_for_ever() {
    let mut unanswered = Unanswered::default();
    let nonsense = v1::SignedCommand { command: vec![0xff; 9], signature: vec![1; 64], key_id: "k".to_owned() };
    assert_eq!(unanswered.keep(nonsense, true), Err(Unkept::Unreadable));
    assert!(unanswered.0.is_empty());
}
