//! What Prometheus' Alertmanager takes from its clients: every trouble, and when it ended.
//!
//! What has no end stands until it was not sent again for its `resolve_timeout`, so the desk has it sent again every minute:
//! of two ends that are named the later holds, so that none may be named ahead. What happened without an end stands for an
//! hour.
//!
//! Source: prometheus/alertmanager, `api/v2/openapi.yaml`, `postAlerts`.

use serde_json::{Map, Value, json};

use crate::report::{Item, Notice, State, rfc3339};

const HAPPENED_US: i64 = 3_600_000_000;

pub(super) fn alerts(notice: &Notice) -> Value {
    notice.items.iter().map(|item| alert(item, notice.time_us)).collect()
}

fn alert(item: &Item, now_us: i64) -> Value {
    let report = &item.report;
    let ends_us = match report.state {
        State::Resolved => Some(item.until_us.unwrap_or(now_us)),
        State::Happened => Some(item.since_us.saturating_add(HAPPENED_US)),
        State::Firing => None,
    };
    let mut labels: Map<String, Value> =
        report.labels.iter().map(|(name, value)| (label(name), json!(value))).collect();
    let rule = report.labels.get("rule").map_or("skep", String::as_str);
    labels.insert("alertname".to_owned(), json!(rule));
    // Alerts are told apart by their labels, and two checks of one workload differ in nothing else.
    labels.insert("trouble".to_owned(), json!(report.key));
    let mut alert = json!({
        "labels": labels,
        "annotations": { "summary": report.title, "description": report.details.join("\n"), "finding": report.finding },
        "startsAt": rfc3339(item.since_us),
    });
    if let Some(ends_us) = ends_us {
        alert["endsAt"] = json!(rfc3339(ends_us));
    }
    alert
}

/// A name it takes: letters, digits and underscores, no digit in front.
fn label(name: &str) -> String {
    let good = |(at, character): (usize, char)| {
        let is_good = character.is_ascii_alphabetic() || character == '_' || (at > 0 && character.is_ascii_digit());
        if is_good { character } else { '_' }
    };
    name.chars().enumerate().map(good).collect()
}
