//! What Slack's incoming webhooks take, and those of Mattermost, Rocket.Chat and Discord's `/slack`.
//!
//! Source: docs.slack.dev, "Sending messages using incoming webhooks" and "Formatting message text".

use serde_json::{Value, json};

use crate::report::Notice;

pub(super) fn body(notice: &Notice) -> Value {
    let color = match (notice.is_over(), notice.severity()) {
        (true, _) => "good",
        (false, "high" | "critical") => "danger",
        (false, _) => "warning",
    };
    json!({
        "text": escaped(&notice.headline()),
        "attachments": [{ "color": color, "text": escaped(&notice.lines().join("\n")) }],
    })
}

/// The three characters that mean something there.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
