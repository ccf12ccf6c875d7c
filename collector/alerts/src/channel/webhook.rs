//! JSON of our own: the whole notice.

use serde_json::{Value, json};

use crate::report::{Item, Notice, SEVERITIES, State, rfc3339};

pub(super) fn body(notice: &Notice) -> Value {
    json!({
        "id": notice.id,
        "group": notice.group,
        "labels": notice.labels,
        "status": status(notice.is_over()),
        "severity": notice.severity(),
        "headline": notice.headline(),
        "repeated": notice.again,
        "time": rfc3339(notice.time_us),
        "alerts": notice.items.iter().map(item).collect::<Vec<_>>(),
    })
}

fn item(item: &Item) -> Value {
    let report = &item.report;
    json!({
        "key": report.key,
        "status": status(report.state == State::Resolved),
        "severity": SEVERITIES[report.rank()],
        "title": report.title,
        "labels": report.labels,
        "details": report.details,
        "finding": report.finding,
        "starts_at": rfc3339(item.since_us),
        "ends_at": item.until_us.map(rfc3339),
    })
}

fn status(is_over: bool) -> &'static str {
    if is_over { "resolved" } else { "firing" }
}
