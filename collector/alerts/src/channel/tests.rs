use serde_json::json;

use super::*;
use crate::report::{Item, Labels, Report, State};

const S: i64 = 1_000_000;

fn notice(state: State) -> Notice {
    let labels = [("node", "n"), ("rule", "check-failed"), ("severity", "critical"), ("1x-y", "z"), ("workload", "")];
    let labels: Labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let report = Report {
        key: "check n db".to_owned(),
        state,
        labels,
        title: "db is <down> & out".to_owned(),
        details: vec!["failures=3".to_owned()],
        time_us: 5 * S,
        finding: "abc".to_owned(),
    };
    let until_us = (state == State::Resolved).then_some(9 * S);
    Notice {
        id: "1-1".to_owned(),
        channel: "c".to_owned(),
        group: "all:node=n".to_owned(),
        labels: Labels::from([("node".to_owned(), "n".to_owned())]),
        items: vec![Item { report, since_us: 5 * S, until_us }],
        again: false,
        time_us: 10 * S,
    }
}

#[test]
fn a_webhook_gets_all_there_is() {
    let body = webhook::body(&notice(State::Firing));
    assert_eq!(
        (&body["id"], &body["status"], &body["severity"]),
        (&json!("1-1"), &json!("firing"), &json!("critical"))
    );
    assert_eq!(body["headline"], "[critical] n: db is <down> & out");
    assert_eq!(body["alerts"][0]["starts_at"], "1970-01-01T00:00:05Z");
    assert_eq!(body["alerts"][0]["ends_at"], json!(null));
    let body = webhook::body(&notice(State::Resolved));
    assert_eq!((&body["status"], &body["alerts"][0]["ends_at"]), (&json!("resolved"), &json!("1970-01-01T00:00:09Z")));
}

#[test]
fn slack_gets_text_in_which_nothing_means_anything() {
    let body = slack::body(&notice(State::Firing));
    assert_eq!(body["text"], "[critical] n: db is &lt;down&gt; &amp; out");
    assert_eq!(body["attachments"][0]["color"], "danger");
    assert_eq!(slack::body(&notice(State::Resolved))["attachments"][0]["color"], "good");
}

#[test]
fn pagerduty_gets_an_event_whose_key_ties_the_end_to_the_beginning() {
    let [begin] = &pagerduty::events(&notice(State::Firing), "k")[..] else { panic!("one trouble is one event") };
    assert_eq!((&begin["event_action"], &begin["dedup_key"]), (&json!("trigger"), &json!("check n db")));
    assert_eq!((&begin["payload"]["severity"], &begin["payload"]["source"]), (&json!("critical"), &json!("n")));
    assert_eq!(begin["payload"]["component"], json!(null));
    let [end] = &pagerduty::events(&notice(State::Resolved), "k")[..] else { panic!("one trouble is one event") };
    assert_eq!(*end, json!({ "routing_key": "k", "event_action": "resolve", "dedup_key": "check n db" }));
}

#[test]
fn alertmanager_gets_labels_it_takes_and_when_it_is_over() {
    let body = alertmanager::alerts(&notice(State::Firing));
    let labels = &body[0]["labels"];
    assert_eq!((&labels["alertname"], &labels["_x_y"]), (&json!("check-failed"), &json!("z")));
    assert_eq!(body[0].get("endsAt"), None);
    assert_eq!(alertmanager::alerts(&notice(State::Resolved))[0]["endsAt"], "1970-01-01T00:00:09Z");
    assert_eq!(alertmanager::alerts(&notice(State::Resolved))[0]["labels"], *labels, "the same alert");
    assert_eq!(alertmanager::alerts(&notice(State::Happened))[0]["endsAt"], "1970-01-01T01:00:05Z");
}

#[test]
fn what_a_server_will_never_take_is_told_from_what_it_may() {
    let answer = |code| TellError::Answer { status: StatusCode::from_u16(code).unwrap(), said: String::new() };
    let permanent = [400, 401, 403, 404, 408, 413, 429, 500, 503].map(|code| answer(code).is_permanent());
    assert_eq!(permanent, [true, false, false, true, false, true, false, false, false]);
}
