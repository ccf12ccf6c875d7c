//! `PagerDuty`'s events, version 2: one for each trouble, which its key ties to its end.
//!
//! Source: developer.pagerduty.com, "Send an Alert Event".

use serde_json::{Value, json};

use crate::report::{Item, Notice, SEVERITIES, State, rfc3339};

/// Longest key and summary it takes.
const KEY_CHARACTERS: usize = 255;

const SUMMARY_CHARACTERS: usize = 1024;

pub(super) fn events(notice: &Notice, key: &str) -> Vec<Value> {
    notice.items.iter().map(|item| event(item, key)).collect()
}

fn event(item: &Item, key: &str) -> Value {
    let report = &item.report;
    let dedup_key: String = report.key.chars().take(KEY_CHARACTERS).collect();
    if report.state == State::Resolved {
        return json!({ "routing_key": key, "event_action": "resolve", "dedup_key": dedup_key });
    }
    let summary: String = report.title.chars().take(SUMMARY_CHARACTERS).collect();
    let label = |name: &str| report.labels.get(name).filter(|value| !value.is_empty());
    json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "payload": {
            "summary": summary,
            "source": label("node").map_or("skep", String::as_str),
            "component": label("workload"),
            "class": label("rule"),
            "severity": severity(SEVERITIES[report.rank()]),
            "timestamp": rfc3339(item.since_us),
            "custom_details": { "labels": report.labels, "details": report.details, "finding": report.finding },
        },
    })
}

/// Its four severities for our five.
fn severity(ours: &str) -> &'static str {
    match ours {
        "critical" => "critical",
        "high" => "error",
        "medium" | "low" => "warning",
        _ => "info",
    }
}
