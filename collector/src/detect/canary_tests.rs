use skep_wire::chunk::{self, Builder};
use skep_wire::tables::{CANARIES, CONNECTIONS, PROCESSES};
use skep_wire::v1;

use super::*;

const MARKER: &str = "00112233445566778899aabbccddeeff";

const PORT: i64 = 4001;

fn origin() -> Origin {
    Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 }
}

/// What the detector made of it all.
#[derive(Default)]
struct Desk {
    canaries: Canaries,
    turns: Vec<Turn>,
}

impl Desk {
    fn step(&mut self, event: &str, number: i64, pid: Option<i64>) {
        self.step_of(event, MARKER, number, pid, &["exec", "exit", "connect"]);
    }

    fn step_of(&mut self, event: &str, marker: &str, number: i64, pid: Option<i64>, expects: &[&str]) {
        let mut row = Builder::new(&CANARIES);
        row.int("time", 5).text("event", event).text("marker", marker).int("number", number).int("port", PORT);
        row.float("interval_s", 60.0).text_list("expects", expects).maybe_int("pid", pid).text("detail", "why");
        row.end_row().unwrap();
        let chunk = row.finish().unwrap();
        self.turns.extend(chunk::rows(&chunk).find_map(|row| self.canaries.step(&origin(), &row)));
    }

    fn exec(&mut self, pid: i64, argv: &[String]) -> bool {
        let chunk = processes(pid, |row| {
            row.text("event", "exec").text_list("argv", argv);
        });
        self.process(&chunk)
    }

    fn exit(&mut self, pid: i64, code: u8) {
        let chunk = processes(pid, |row| {
            row.text("event", "exit").int("exit_code", i64::from(code)).int("exit_signal", 0);
        });
        assert!(!self.process(&chunk));
    }

    fn process(&mut self, chunk: &v1::Chunk) -> bool {
        let (genuine, turn) = self.canaries.process(&origin(), &chunk::rows(chunk).next().unwrap());
        self.turns.extend(turn);
        genuine
    }

    fn connect(&mut self, pid: i64, port: i64) {
        let mut row = Builder::new(&CONNECTIONS);
        row.int("time", 6).text("event", "fail").text("direction", "connect").int("socket_id", 1);
        row.int("pid", pid).int("start_ns", 9).text("comm", "skep-agent").text("workload", "unit:skep.service");
        row.text("attribution", "exact").text("local_address", "127.0.0.1").int("local_port", 1);
        row.text("remote_address", "127.0.0.1").int("remote_port", port);
        row.end_row().unwrap();
        let chunk = row.finish().unwrap();
        self.turns.extend(chunk::rows(&chunk).find_map(|row| self.canaries.connection(&origin(), &row)));
    }

    fn windows(&mut self, count: u32) {
        for _ in 0..count {
            self.turns.extend(self.canaries.window(&origin()));
        }
    }

    fn broken(&self) -> &Broken {
        match self.turns.as_slice() {
            [Turn::Broken(broken)] => broken,
            other => panic!("{other:?}"),
        }
    }
}

fn processes(pid: i64, more: impl Fn(&mut Builder)) -> v1::Chunk {
    let mut row = Builder::new(&PROCESSES);
    row.int("time", 6).int("pid", pid).int("start_ns", 9).text("comm", "skep-agent");
    row.text("workload", "unit:skep.service").text("attribution", "exact").int("parent_pid", 1);
    row.bool("argv_truncated", false);
    more(&mut row);
    row.end_row().unwrap();
    row.finish().unwrap()
}

fn argv() -> [String; 6] {
    canary::argv(MARKER, PORT)
}

#[test]
fn whole_ones_say_nothing_in_whatever_order_the_rows_come() {
    let mut desk = Desk::default();
    desk.step("sent", 1, None);
    assert!(desk.exec(50, &argv()));
    desk.connect(50, PORT);
    desk.exit(50, canary::EXIT_CODE);
    desk.step("ran", 1, Some(50));
    desk.windows(9);

    desk.step("sent", 2, None);
    desk.step("ran", 2, Some(51));
    desk.exit(51, canary::EXIT_CODE);
    desk.connect(51, PORT);
    assert!(desk.exec(51, &argv()));
    desk.windows(9);
    assert_eq!(desk.turns, []);
    assert!(desk.canaries.nodes["n"].waiting.is_empty());
}

#[test]
fn a_missing_exec_is_told_apart_from_the_rest_and_the_next_whole_one_ends_it() {
    let mut desk = Desk::default();
    desk.step("sent", 4, None);
    desk.connect(50, PORT);
    desk.exit(50, canary::EXIT_CODE);
    desk.step("ran", 4, Some(50));
    desk.windows(2);
    assert_eq!(desk.turns, [], "two windows are the time it has");
    desk.windows(1);
    let broken = desk.broken();
    assert_eq!((broken.number, broken.missing.as_slice()), (4, &["exec"][..]));
    assert_eq!(broken.arrived, ["exit", "connect"]);
    assert_eq!(broken.process, Some((50, 9)));

    desk.turns.clear();
    for number in 5..7 {
        desk.step("sent", number, None);
        desk.exec(50 + number, &argv());
        desk.connect(50 + number, PORT);
        desk.exit(50 + number, canary::EXIT_CODE);
    }
    assert_eq!(desk.turns, [Turn::Whole { number: 5, marker: MARKER.to_owned() }], "once");
}

#[test]
fn each_part_is_missed() {
    for missing in ["exec", "exit", "connect"] {
        let mut desk = Desk::default();
        desk.step("sent", 4, None);
        if missing != "exec" {
            desk.exec(50, &argv());
        }
        if missing != "connect" {
            desk.connect(50, PORT);
        }
        if missing != "exit" {
            desk.exit(50, canary::EXIT_CODE);
        }
        desk.step("ran", 4, Some(50));
        desk.windows(3);
        assert_eq!(desk.broken().missing, [missing]);
    }
    let mut desk = Desk::default();
    desk.step("sent", 4, None);
    desk.exit(50, canary::EXIT_CODE);
    desk.step("ran", 4, Some(50));
    desk.windows(3);
    assert_eq!(desk.broken().missing, ["exec", "connect"], "the exit is known by what the agent says");
}

#[test]
fn what_is_not_watched_is_not_missed() {
    let mut desk = Desk::default();
    desk.step_of("sent", MARKER, 1, None, &["exec", "exit"]);
    desk.exec(50, &argv());
    desk.exit(50, canary::EXIT_CODE);
    desk.windows(3);
    assert_eq!(desk.turns, []);
}

#[test]
fn arguments_that_arrive_altered_are_no_whole_exec() {
    let mut desk = Desk::default();
    desk.step("sent", 1, None);
    let mut cut = argv().to_vec();
    cut.truncate(4);
    assert!(!desk.exec(50, &cut));
    desk.connect(50, PORT);
    desk.exit(50, canary::EXIT_CODE);
    desk.step("ran", 1, Some(50));
    desk.windows(3);
    assert!(desk.broken().altered);
    assert_eq!(desk.broken().missing, ["exec"]);
}

#[test]
fn only_the_first_process_with_an_announced_marker_is_a_canary() {
    let mut desk = Desk::default();
    assert!(!desk.exec(40, &argv()), "not announced");
    desk.step("sent", 1, None);
    let other = canary::argv("ffeeddccbbaa99887766554433221100", PORT);
    assert!(!desk.exec(41, &other), "another marker");
    assert!(!desk.exec(42, &["/tmp/x".to_owned(), MARKER.to_owned()]), "another call");
    assert!(desk.exec(43, &argv()));
    assert!(!desk.exec(44, &argv()), "used before");
    desk.connect(43, PORT);
    desk.exit(43, canary::EXIT_CODE);
    assert!(!desk.exec(45, &argv()), "used and over");
}

#[test]
fn somebody_else_on_the_port_or_with_the_code_is_not_the_canary() {
    let mut desk = Desk::default();
    desk.step("sent", 1, None);
    desk.connect(77, PORT);
    desk.exit(78, canary::EXIT_CODE);
    desk.exec(50, &argv());
    desk.exit(50, 0);
    desk.connect(50, PORT + 1);
    desk.windows(3);
    assert_eq!(desk.broken().missing, ["exit", "connect"]);
}

#[test]
fn one_that_could_not_be_run_is_told_at_once_with_the_reason() {
    let mut desk = Desk::default();
    desk.step("sent", 1, None);
    desk.step("failed", 1, None);
    assert_eq!((desk.broken().failed.as_deref(), desk.broken().missing.len()), (Some("why"), 0));
}

#[test]
fn a_new_life_of_the_agent_owes_nothing_for_the_one_before_and_off_is_off() {
    let mut desk = Desk::default();
    desk.step("sent", 8, None);
    desk.step_of("sent", "ffeeddccbbaa99887766554433221100", 1, None, &[]);
    desk.windows(9);
    assert_eq!(desk.turns, []);
    desk.step("sent", 2, None);
    desk.step_of("off", "", 0, None, &[]);
    desk.windows(9);
    assert_eq!(desk.turns, []);
}

#[test]
fn one_of_before_the_start_is_known_and_not_missed() {
    let mut desk = Desk::default();
    let mut row = Builder::new(&CANARIES);
    row.int("time", 5).text("event", "sent").text("marker", MARKER).int("number", 3).int("port", PORT);
    row.float("interval_s", 60.0).text_list("expects", &["exec"]).end_row().unwrap();
    let chunk = row.finish().unwrap();
    chunk::rows(&chunk).for_each(|row| desk.canaries.restore_step(&origin(), &row));
    assert!(desk.exec(50, &argv()));
    desk.windows(9);
    assert_eq!(desk.turns, []);
    desk.canaries.restore("n", true);
    desk.step("sent", 4, None);
    desk.windows(3);
    assert_eq!(desk.broken().number, 4);
}

#[test]
fn memory_is_bounded_and_what_is_pushed_out_is_told() {
    let mut desk = Desk::default();
    for number in 2..=101 {
        desk.step_of("sent", &format!("{number:032x}"), number, None, &["exec"]);
    }
    for pid in 0..100 {
        desk.exit(pid, canary::EXIT_CODE);
    }
    let waiting = &desk.canaries.nodes["n"].waiting;
    assert_eq!(waiting.len(), MAX_WAITING);
    assert!(waiting.iter().all(|waiting| waiting.exits.len() <= MAX_CANDIDATES));
    assert_eq!(desk.turns.len(), 100 - MAX_WAITING);
}
