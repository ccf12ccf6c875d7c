use super::*;

const S: i64 = 1_000_000;

fn route() -> Route {
    Route {
        name: "all".to_owned(),
        matches: Vec::new(),
        min_rank: 1,
        channels: vec!["log".to_owned()],
        group_by: vec!["node".to_owned()],
        wait: Duration::from_secs(10),
        interval: Duration::from_secs(60),
        repeat: Some(Duration::from_secs(600)),
        proceed: false,
    }
}

fn report(key: &str, node: &str, severity: &str, state: State) -> Report {
    let labels = [("node", node), ("severity", severity)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Report {
        key: key.to_owned(),
        state,
        labels: labels.into(),
        title: format!("{key} is wrong"),
        details: Vec::new(),
        time_us: 0,
        finding: String::new(),
    }
}

/// A desk and what it told, second by second: `key` for a beginning, `-key` for an end, `=key` for a repetition.
struct Told {
    desk: Desk,
    at_s: i64,
}

impl Told {
    fn new(routes: Vec<Route>, silences: Vec<Silence>) -> Self {
        Self { desk: Desk::new(routes, silences, Vec::new()), at_s: 0 }
    }

    fn take(&mut self, key: &str, node: &str, state: State) {
        self.desk.take(&report(key, node, "high", state), self.at_s * S);
    }

    fn until(&mut self, to_s: i64) -> Vec<(i64, String)> {
        let mut told = Vec::new();
        while self.at_s < to_s {
            for notice in self.desk.tick(self.at_s * S) {
                let mark = |item: &Item| match (notice.again, item.report.state) {
                    (true, _) => "=",
                    (false, State::Resolved) => "-",
                    (false, _) => "",
                };
                let keys: Vec<_> =
                    notice.items.iter().map(|item| format!("{}{}", mark(item), item.report.key)).collect();
                told.push((self.at_s, keys.join(" ")));
            }
            self.at_s += 1;
        }
        told
    }
}

fn told(list: &[(i64, &str)]) -> Vec<(i64, String)> {
    list.iter().map(|(at, keys)| (*at, (*keys).to_owned())).collect()
}

#[test]
fn what_comes_together_is_told_together_and_its_end_once() {
    let mut desk = Told::new(vec![route()], Vec::new());
    desk.take("a", "n", State::Firing);
    desk.until(5);
    desk.take("b", "n", State::Firing);
    desk.take("c", "m", State::Firing);
    assert_eq!(desk.until(30), told(&[(10, "a b"), (15, "c")]));
    desk.take("a", "n", State::Firing);
    desk.take("a", "n", State::Resolved);
    assert_eq!(desk.until(200), told(&[(70, "-a")]), "no sooner than the interval");
    desk.take("a", "n", State::Resolved);
    assert_eq!(desk.until(300), told(&[]));
}

#[test]
fn what_flaps_is_told_no_more_often_than_the_interval() {
    let mut desk = Told::new(vec![route()], Vec::new());
    let mut all = Vec::new();
    for _ in 0..30 {
        desk.take("a", "n", State::Firing);
        all.extend(desk.until(desk.at_s + 5));
        desk.take("a", "n", State::Resolved);
        all.extend(desk.until(desk.at_s + 5));
    }
    assert_eq!(all, told(&[]), "nobody needs to know what is over before anybody looks");
    desk.take("a", "n", State::Firing);
    assert_eq!(desk.until(desk.at_s + 20).len(), 1);
    for _ in 0..30 {
        desk.take("a", "n", State::Resolved);
        all.extend(desk.until(desk.at_s + 5));
        desk.take("a", "n", State::Firing);
        all.extend(desk.until(desk.at_s + 5));
    }
    assert!(all.len() <= 6, "{all:?}");
}

#[test]
fn what_stands_is_told_again_and_what_happened_is_not() {
    let mut desk = Told::new(vec![route()], Vec::new());
    desk.take("a", "n", State::Firing);
    desk.take("h", "n", State::Happened);
    assert_eq!(desk.until(1300), told(&[(10, "a h"), (610, "=a"), (1210, "=a")]));
}

#[test]
fn the_first_route_that_matches_takes_it_unless_it_lets_others_have_it() {
    let only = |name: &str, pattern: &str, proceed| Route {
        name: name.to_owned(),
        matches: vec![Pattern::parse(pattern).unwrap()],
        channels: vec![name.to_owned()],
        proceed,
        ..route()
    };
    let routes = vec![only("web", "node=web-*", true), only("prod", "node=*-1", false), only("rest", "node=*", false)];
    let mut desk = Desk::new(routes, Vec::new(), Vec::new());
    let mut channels = |node: &str| {
        desk.take(&report("a", node, "high", State::Firing), 0);
        let notices = desk.tick(10 * S);
        desk.take(&report("a", node, "high", State::Resolved), 20 * S);
        desk.tick(1000 * S);
        notices.into_iter().map(|notice| notice.channel).collect::<Vec<_>>()
    };
    assert_eq!(channels("web-1"), ["web", "prod"]);
    assert_eq!(channels("db-1"), ["prod"]);
    assert_eq!(channels("x"), ["rest"]);
    desk.take(&report("a", "x", "info", State::Firing), 2000 * S);
    assert_eq!(desk.tick(3000 * S), [], "not severe enough");
}

#[test]
fn what_is_silenced_is_told_when_the_silence_ends_if_it_stands() {
    let matches = vec![Pattern::parse("node=n").unwrap()];
    let silence = Silence { matches, from_us: 0, until_us: 100 * S };
    let mut desk = Told::new(vec![route()], vec![silence]);
    for key in ["a", "b"] {
        desk.take(key, "n", State::Firing);
    }
    desk.take("h", "n", State::Happened);
    desk.take("c", "m", State::Firing);
    assert_eq!(desk.until(50), told(&[(10, "c")]));
    desk.take("b", "n", State::Resolved);
    assert_eq!(desk.until(300), told(&[(100, "a")]));
}

#[test]
fn a_restart_tells_nothing_twice_and_no_end_is_missed() {
    let mut desk = Told::new(vec![route()], Vec::new());
    desk.take("a", "n", State::Firing);
    desk.until(20);
    desk.take("b", "n", State::Firing);
    let bytes = desk.desk.to_bytes();
    let mut next = Told::new(vec![route()], Vec::new());
    next.desk.take_up(&bytes).unwrap();
    next.at_s = 30;
    next.take("a", "n", State::Resolved);
    assert_eq!(next.until(200), told(&[(70, "-a b")]));
    assert!(!next.desk.settle("x", &[], 200 * S));
    assert!(!next.desk.settle("b", &["b".to_owned()], 200 * S));
    assert_eq!(next.until(300), told(&[]));
    assert!(next.desk.settle("b", &["ba".to_owned()], 300 * S));
    assert_eq!(next.until(400), told(&[(310, "-b")]));
    assert!(next.desk.take_up(b"{").is_err());
}

#[test]
fn a_channel_that_forgets_is_reminded_every_minute_and_no_other_is() {
    let both = Route { channels: vec!["log".to_owned(), "manager".to_owned()], repeat: None, ..route() };
    let mut desk = Desk::new(vec![both], Vec::new(), vec!["manager".to_owned()]);
    desk.take(&report("a", "n", "high", State::Firing), 0);
    let mut told = Vec::new();
    for at in 0..200 {
        told.extend(desk.tick(at * S).into_iter().map(|notice| (at, notice.channel, notice.again)));
    }
    let of = |at, channel: &str, again| (at, channel.to_owned(), again);
    let reminded = [70, 130, 190].map(|at| of(at, "manager", true));
    assert_eq!(told, [vec![of(10, "log", false), of(10, "manager", false)], reminded.to_vec()].concat());
    desk.take(&report("a", "n", "high", State::Resolved), 200 * S);
    assert_eq!(desk.tick(210 * S).len(), 2, "the end is for all, and reminders do not put it off");
}

#[test]
fn troubles_without_end_are_counted_and_come_in_parts() {
    let mut desk = Desk::new(vec![route()], Vec::new(), Vec::new());
    for at in 0..MAX_MEMBERS + 7 {
        desk.take(&report(&at.to_string(), "n", "high", State::Firing), 0);
    }
    assert_eq!(desk.take_dropped(), 7);
    let mut items = 0;
    for at in 10..200 {
        let notices = desk.tick(at * S);
        assert!(notices.iter().all(|notice| notice.items.len() <= MAX_ITEMS));
        items += notices.iter().map(|notice| notice.items.len()).sum::<usize>();
    }
    assert_eq!(items, MAX_MEMBERS);
}

#[test]
fn headlines_say_how_it_stands() {
    let mut desk = Desk::new(vec![route()], Vec::new(), Vec::new());
    desk.take(&report("a", "n", "high", State::Firing), 0);
    let one = desk.tick(10 * S).remove(0);
    assert_eq!(one.headline(), "[high] n: a is wrong");
    desk.take(&report("b", "n", "critical", State::Firing), 20 * S);
    desk.take(&report("c", "n", "low", State::Firing), 20 * S);
    desk.take(&report("a", "n", "info", State::Resolved), 20 * S);
    let three = desk.tick(100 * S).remove(0);
    assert_eq!(three.headline(), "[critical] 2 troubles, 1 are over (n)");
    assert_eq!(three.lines(), ["resolved: n: a is wrong", "critical: n: b is wrong", "low: n: c is wrong"]);
    assert_eq!(one.group, three.group);
    assert_ne!(one.id, three.id);
}

#[test]
fn what_became_worse_is_told_again_and_its_end_once() {
    let mut told = Told::new(vec![route()], Vec::new());
    told.desk.take(&report("x", "a", "medium", State::Firing), 0);
    assert_eq!(told.until(20), [(10, "x".to_owned())]);
    told.desk.take(&report("x", "a", "medium", State::Firing), 20 * S);
    told.desk.take(&report("x", "a", "critical", State::Firing), 21 * S);
    assert_eq!(told.until(100), [(70, "x".to_owned())], "no sooner than the group may be told");
    told.desk.take(&report("x", "a", "medium", State::Firing), 100 * S);
    told.desk.take(&report("x", "a", "critical", State::Firing), 101 * S);
    told.take("x", "a", State::Resolved);
    assert_eq!(told.until(300), [(130, "-x".to_owned())]);
}
