use skep_wire::chunk::{self, Builder};
use skep_wire::tables::{CONNECTIONS, INCIDENTS};

use super::*;
use crate::decide::Refusal;
use crate::detect::finding::{Finding, Severity};

const MINUTE: i64 = 60_000_000;

/// A book, and what it told: incident, change and state.
#[derive(Default)]
struct Desk {
    book: Book,
    told: Vec<(String, &'static str, State)>,
    rows: Vec<skep_wire::v1::Chunk>,
    ids: usize,
}

impl Desk {
    fn act<T>(&mut self, act: impl FnOnce(&mut Book, String, &mut book::Tell<'_>) -> T) -> T {
        self.ids += 1;
        let (told, rows) = (&mut self.told, &mut self.rows);
        let mut tell = |incident: &Incident, cause: state::Cause<'_>| {
            let mut row = Builder::new(&INCIDENTS);
            incident.write(&mut row, cause);
            row.end_row().unwrap();
            rows.push(row.finish().unwrap());
            told.push((incident.id.clone(), cause.change.as_str(), incident.state));
        };
        act(&mut self.book, format!("i{}", self.ids), &mut tell)
    }

    fn find(&mut self, minute: i64, node: &str, workload: &str, rule: &str, severity: Severity) {
        self.take(&finding(minute, node, workload, rule, severity, &[]));
    }

    fn take(&mut self, finding: &Finding) {
        self.act(|book, id, tell| book.take(finding, finding.time_us, || id, tell));
    }

    fn tick(&mut self, minute: i64) {
        self.act(|book, _, tell| book.tick(minute * MINUTE, tell));
    }

    fn say(&mut self, minute: i64, id: &str, change: Change) -> Result<State, Refusal> {
        self.act(|book, _, tell| {
            book.operator(id, change, ("ann", "known"), minute * MINUTE, tell).map(|incident| incident.state)
        })
    }

    /// What was told since it was asked last.
    fn told(&mut self) -> Vec<(String, &'static str)> {
        std::mem::take(&mut self.told).into_iter().map(|(id, change, _)| (id, change)).collect()
    }
}

fn finding(minute: i64, node: &str, workload: &str, rule: &str, severity: Severity, evidence: &[&str]) -> Finding {
    Finding {
        id: format!("f{minute}"),
        time_us: minute * MINUTE,
        kind: if evidence.is_empty() { "event" } else { "check" },
        rule: rule.into(),
        severity,
        title: format!("{rule} on {node}"),
        node: node.to_owned(),
        boot: String::new(),
        workload: workload.to_owned(),
        process: None,
        aim: None,
        attack: Vec::new(),
        evidence: evidence.iter().map(|&item| item.to_owned()).collect(),
        evidence_sql: String::new(),
        coverage: 1.0,
        used_cores: None,
    }
}

fn says<'t>(told: &'t [(String, &'static str)]) -> Vec<(&'t str, &'t str)> {
    told.iter().map(|(id, change)| (id.as_str(), *change)).collect()
}

#[test]
fn what_happens_on_one_node_or_to_one_workload_in_the_same_minutes_is_one() {
    let mut desk = Desk::default();
    desk.find(100, "a", "unit:web", "x", Severity::Low);
    assert!(desk.told().is_empty(), "too mild to begin one");
    desk.find(101, "a", "unit:web", "x", Severity::Medium);
    desk.find(105, "a", "unit:db", "y", Severity::High);
    desk.find(109, "b", "unit:web", "z", Severity::Low);
    desk.find(109, "c", "unit:other", "z", Severity::High);
    desk.find(140, "a", "unit:web", "x", Severity::Medium);
    let told = desk.told();
    let all = [("i2", "opened"), ("i2", "joined"), ("i2", "joined"), ("i5", "opened"), ("i6", "opened")];
    assert_eq!(says(&told), all);
    let row = chunk::rows(&desk.rows[2]).next().unwrap();
    assert_eq!((row.text("severity"), row.text("title")), (Some("high"), Some("y on a")), "of the worst");
    assert_eq!(row.text_list("rules"), Some(vec!["x", "y", "z"]));
    assert_eq!((row.int("findings"), row.text("finding")), (Some(3), Some("f109")));
}

#[test]
fn quiet_ends_it_and_what_comes_back_soon_is_the_same() {
    let mut desk = Desk::default();
    desk.find(100, "a", "", "x", Severity::High);
    desk.tick(114);
    assert_eq!(says(&desk.told()), [("i1", "opened")]);
    desk.tick(116);
    desk.find(120, "a", "", "x", Severity::Low);
    desk.find(121, "a", "", "x", Severity::High);
    desk.tick(130);
    desk.tick(137);
    desk.tick(168);
    desk.find(169, "a", "", "x", Severity::High);
    let told = desk.told();
    let all = [("i1", "closed"), ("i1", "joined"), ("i1", "reopened"), ("i1", "closed"), ("i9", "opened")];
    assert_eq!(says(&told), all);
}

#[test]
fn what_stands_keeps_it_open() {
    let mut desk = Desk::default();
    desk.take(&finding(100, "a", "", "service-down", Severity::High, &["state=down", "check=db"]));
    desk.tick(200);
    desk.find(201, "a", "", "x", Severity::Low);
    desk.take(&finding(202, "a", "", "service-down", Severity::High, &["state=over", "check=shop"]));
    desk.take(&finding(203, "a", "", "service-down", Severity::High, &["state=over", "check=db"]));
    desk.tick(217);
    desk.tick(219);
    assert_eq!(says(&desk.told()), [("i1", "opened"), ("i1", "joined"), ("i1", "over"), ("i1", "closed")]);
}

#[test]
fn an_operators_word_holds() {
    let mut desk = Desk::default();
    desk.find(100, "a", "", "x", Severity::Medium);
    assert_eq!(desk.say(101, "i1", Change::Acknowledged), Ok(State::Acknowledged));
    let again = Refusal::PastIncident { incident: "i1".to_owned(), verb: "acknowledge", state: "acknowledged" };
    assert_eq!(desk.say(102, "i1", Change::Acknowledged), Err(again));
    assert_eq!(desk.say(103, "i1", Change::Closed), Ok(State::Closed));
    assert_eq!(desk.say(104, "i9", Change::Closed), Err(Refusal::UnknownIncident { incident: "i9".to_owned() }));
    desk.find(105, "a", "", "x", Severity::Medium);
    assert_eq!(
        says(&desk.told()),
        [("i1", "opened"), ("i1", "acknowledged"), ("i1", "closed"), ("i1", "joined")],
        "it is known for that"
    );
    assert_eq!(chunk::rows(desk.rows.last().unwrap()).next().unwrap().text("state"), Some("closed"));
    desk.find(106, "a", "", "x", Severity::High);
    assert_eq!(says(&desk.told()), [("i7", "opened")], "and not for what is worse");
}

#[test]
fn what_changed_is_told_with_it() {
    let mut desk = Desk::default();
    desk.act(|book, _, tell| book.changed(Member::new("a", ""), "the node has restarted", 95 * MINUTE, tell));
    desk.act(|book, _, tell| book.changed(Member::new("b", ""), "the node has restarted", 99 * MINUTE, tell));
    desk.find(100, "a", "", "x", Severity::High);
    desk.act(|book, _, tell| book.changed(Member::new("a", ""), "the node has restarted", 101 * MINUTE, tell));
    let told = desk.told();
    assert_eq!(says(&told), [("i3", "opened"), ("i3", "changed"), ("i3", "changed")]);
    let times: Vec<_> = desk.rows.iter().map(|row| chunk::rows(row).next().unwrap().int("time")).collect();
    assert!(times.is_sorted() && times[0] < times[1] && times[1] < times[2], "{times:?}");
}

#[test]
fn a_restart_goes_on_from_the_rows() {
    let mut desk = Desk::default();
    desk.take(&finding(100, "a", "unit:x", "service-down", Severity::High, &["state=down", "check=db"]));
    desk.find(101, "a", "unit:x", "y", Severity::Critical);
    desk.say(102, "i1", Change::Acknowledged).unwrap();
    let mut book = Book::default();
    for row in desk.rows.iter().flat_map(chunk::rows) {
        book.restore(Incident::read(&row).unwrap());
    }
    desk.book = book;
    desk.told();
    desk.take(&finding(300, "a", "", "service-down", Severity::High, &["state=over", "check=db"]));
    desk.tick(316);
    let told = std::mem::take(&mut desk.told);
    assert_eq!(told[0], ("i1".to_owned(), "over", State::Acknowledged));
    assert_eq!(told[1], ("i1".to_owned(), "closed", State::Closed));
}

#[test]
fn a_storm_has_few_rows_and_many_nodes_are_bounded() {
    let mut desk = Desk::default();
    for _ in 0..5_000 {
        desk.find(100, "a", "", "x", Severity::High);
    }
    assert_eq!(desk.rows.len(), 64 + 6, "one each, then 128 to 4096");
    for node in 0..1_500 {
        desk.find(100, &format!("n{node}"), "", "x", Severity::High);
    }
    let closed = desk.told.iter().filter(|(_, change, _)| *change == "closed").count();
    assert_eq!(closed, 501);
}

/// Shop calls the database on another node.
fn call(book: &mut Book, minute: i64) {
    let (client, server) = (("a", "unit:shop", "connect", 4000, 5432), ("b", "unit:db", "accept", 5432, 4000));
    for (node, workload, direction, local, remote) in [client, server] {
        let mut row = Builder::new(&CONNECTIONS);
        row.int("time", minute * MINUTE).text("event", "open").text("direction", direction).int("socket_id", 1);
        row.int("pid", 1).int("start_ns", 1).text("comm", "x").text("workload", workload).text("attribution", "exact");
        row.text("local_address", "10.0.0.2").int("local_port", local);
        row.text("remote_address", "10.0.0.2").int("remote_port", remote).end_row().unwrap();
        let chunk = row.finish().unwrap();
        chunk::rows(&chunk).for_each(|row| book.talks().row(node, &row));
    }
}

#[test]
fn who_depends_on_whom_is_one_incident_and_the_time_line_says_why() {
    let mut desk = Desk::default();
    call(&mut desk.book, 99);
    desk.find(100, "b", "", "disk", Severity::Medium);
    desk.find(101, "a", "unit:shop", "slow", Severity::Low);
    desk.find(102, "a", "unit:shop", "down", Severity::High);
    desk.find(103, "c", "unit:shop2", "down", Severity::High);
    desk.find(104, "a", "", "load", Severity::Low);
    let told = desk.told();
    let all = [("i1", "opened"), ("i1", "joined"), ("i4", "opened"), ("i1", "joined")];
    assert_eq!(says(&told), all, "what is mild joins only on its own node, and who does not call is another's affair");
    let row = chunk::rows(&desk.rows[1]).next().unwrap();
    assert_eq!(row.text("detail"), Some("down on a (unit:shop on a calls unit:db on b, port 5432)"));
    assert_eq!(row.text_list("members"), Some(vec!["b ", "a unit:shop"]));
    let read = Incident::read(&row).unwrap();
    assert_eq!(read.members, [Member::new("b", ""), Member::new("a", "unit:shop")]);
}

#[test]
fn dependence_does_not_spread_over_a_fleet() {
    let mut desk = Desk::default();
    desk.find(100, "n0", "unit:w0", "down", Severity::High);
    for node in 1..20 {
        let (client, server) = (node - 1, node);
        for (at, direction, local, remote) in [(client, "connect", 4000, 80), (server, "accept", 80, 4000)] {
            let mut row = Builder::new(&CONNECTIONS);
            row.int("time", 100 * MINUTE).text("event", "open").text("direction", direction).int("socket_id", 1);
            row.int("pid", 1).int("start_ns", 1).text("comm", "x").text("workload", &format!("unit:w{at}"));
            row.text("attribution", "exact")
                .text("local_address", &format!("10.0.0.{server}"))
                .int("local_port", local);
            row.text("remote_address", &format!("10.0.0.{server}")).int("remote_port", remote).end_row().unwrap();
            let chunk = row.finish().unwrap();
            chunk::rows(&chunk).for_each(|row| desk.book.talks().row(&format!("n{at}"), &row));
        }
        desk.find(100, &format!("n{node}"), &format!("unit:w{node}"), "down", Severity::High);
    }
    let opened: Vec<_> = desk.told().into_iter().filter(|(_, change)| *change == "opened").collect();
    assert_eq!(opened.len(), 3, "eight nodes each: {opened:?}");
}

#[test]
fn only_changes_of_whom_it_is_about_are_told() {
    let mut desk = Desk::default();
    for (workload, what) in [("unit:web", "web was started again"), ("unit:db", "db was started again")] {
        desk.act(|book, _, tell| book.changed(Member::new("a", workload), what, 99 * MINUTE, tell));
    }
    desk.find(100, "a", "unit:web", "x", Severity::High);
    let details = |desk: &Desk| -> Vec<String> {
        let rows = desk.rows.iter().flat_map(chunk::rows);
        rows.filter(|row| row.text("change") == Some("changed"))
            .filter_map(|row| Some(row.text("detail")?.to_owned()))
            .collect()
    };
    assert_eq!(details(&desk), ["web was started again, 60 s before"]);
    let mut whole = Desk::default();
    whole.act(|book, _, tell| book.changed(Member::new("a", "unit:db"), "db was started again", 99 * MINUTE, tell));
    whole.find(100, "a", "", "x", Severity::High);
    assert_eq!(details(&whole), ["db was started again, 60 s before"], "the node's trouble may be anybody's doing");
}

#[test]
fn what_an_operator_closed_is_not_another_workloads() {
    let mut desk = Desk::default();
    desk.find(100, "a", "unit:web", "busy", Severity::Medium);
    desk.say(101, "i1", Change::Closed).unwrap();
    desk.find(102, "a", "unit:web", "busy", Severity::Medium);
    desk.find(103, "a", "unit:db", "busy", Severity::Medium);
    assert_eq!(says(&desk.told()), [("i1", "opened"), ("i1", "closed"), ("i1", "joined"), ("i4", "opened")]);
}
