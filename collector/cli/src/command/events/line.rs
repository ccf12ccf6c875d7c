//! One event as a line, whether it came live from the wire or by SQL from history.

use serde_json::Value;
use skep_wire::chunk;
use skep_wire::tables::{Kind, Table};

use super::EventFormat;
use crate::output::{self, Layout, Paint, duration_ns};

/// Columns by name, from either source.
pub(super) trait Fields {
    fn int(&self, name: &str) -> Option<i64>;
    fn float(&self, name: &str) -> Option<f64>;
    fn text(&self, name: &str) -> Option<String>;
    fn texts(&self, name: &str) -> Option<Vec<String>>;
}

impl Fields for chunk::Row<'_> {
    fn int(&self, name: &str) -> Option<i64> {
        chunk::Row::int(self, name)
    }

    fn float(&self, name: &str) -> Option<f64> {
        chunk::Row::float(self, name)
    }

    fn text(&self, name: &str) -> Option<String> {
        chunk::Row::text(self, name).map(str::to_owned)
    }

    fn texts(&self, name: &str) -> Option<Vec<String>> {
        self.text_list(name).map(|items| items.into_iter().map(str::to_owned).collect())
    }
}

impl Fields for output::Row<'_> {
    fn int(&self, name: &str) -> Option<i64> {
        output::Row::int(self, name)
    }

    fn float(&self, name: &str) -> Option<f64> {
        output::Row::float(self, name)
    }

    fn text(&self, name: &str) -> Option<String> {
        output::Row::text(self, name)
    }

    fn texts(&self, name: &str) -> Option<Vec<String>> {
        output::Row::texts(self, name)
    }
}

pub(super) const CSV_HEADER: &str = "time,kind,node,workload,pid,comm,what\n";

/// What every event has; the rest is in `what`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) time_us: i64,
    pub(super) kind: String,
    node: String,
    workload: String,
    pid: Option<i64>,
    comm: String,
    what: String,
    severity: Option<String>,
    /// For programs; empty unless asked for.
    object: serde_json::Value,
}

impl Event {
    /// `node` is who sent it; a finding is about another one and says so itself.
    pub(super) fn read(table: &'static Table, sender: &str, row: &impl Fields, format: EventFormat) -> Self {
        let kind = if table.name == "findings" { Some("finding".to_owned()) } else { row.text("event") };
        let kind = kind.unwrap_or_default();
        let what = match kind.as_str() {
            "fork" => format!("from {} {}", or_unknown(row.text("parent_comm")), number(row.int("parent_pid"))),
            "exec" => command_line(row),
            "exit" => ending(row),
            "open" | "close" | "fail" => connection(&kind, row),
            "finding" => format!(
                "{} [{}] {}",
                or_unknown(row.text("title")),
                or_unknown(row.text("rule")),
                or_unknown(row.text("finding"))
            ),
            _ => String::new(),
        };
        Self {
            time_us: row.int("time").unwrap_or(0),
            node: row.text("target_node").unwrap_or_else(|| sender.to_owned()),
            workload: row.text("workload").unwrap_or_default(),
            pid: row.int("pid"),
            comm: row.text("comm").unwrap_or_default(),
            severity: row.text("severity"),
            object: if format == EventFormat::Json { object(table, sender, row, &kind) } else { Value::Null },
            kind,
            what,
        }
    }

    /// The event with its line end.
    pub(super) fn render(&self, format: EventFormat, layout: Layout) -> String {
        match format {
            EventFormat::Table => self.line(layout),
            EventFormat::Json => format!("{}\n", self.object),
            EventFormat::Csv => self.csv(),
        }
    }

    /// On a terminal an event is one line there too; elsewhere nothing is cut.
    fn line(&self, layout: Layout) -> String {
        let style = layout.style;
        let clock = output::time_us(self.time_us - self.time_us.rem_euclid(1_000));
        let who = match (self.pid, self.comm.is_empty()) {
            (Some(pid), false) => format!("{}({pid})", self.comm),
            (Some(pid), true) => format!("pid {pid}"),
            (None, _) => self.workload.clone(),
        };
        let what = self.severity.as_ref().map_or(self.what.clone(), |severity| format!("{severity}: {}", self.what));
        let who = output::escape(&who);
        let room = layout.width.map_or(usize::MAX, |width| {
            width.saturating_sub(24 + 7 + self.node.len().max(12) + who.chars().count().max(22) + 4).max(20)
        });
        let parts = [
            style.paint(Paint::Faint, &format!("{clock:<24}")),
            style.paint(self.paint(), &format!("{:<7}", self.kind)),
            format!("{:<12}", self.node),
            style.paint(Paint::Strong, &format!("{who:<22}")),
            output::cut(&output::escape(&what), room),
        ];
        format!("{}\n", parts.join(" ").trim_end())
    }

    fn paint(&self) -> Paint {
        match (self.kind.as_str(), self.severity.as_deref()) {
            ("finding", Some("critical" | "high")) => Paint::Bad,
            ("finding" | "fail", _) => Paint::Warn,
            ("exec", _) => Paint::Good,
            ("open", _) => Paint::Accent,
            _ => Paint::Faint,
        }
    }

    fn csv(&self) -> String {
        let pid = self.pid.map_or(String::new(), |pid| pid.to_string());
        let cells =
            [&output::rfc3339_us(self.time_us), &self.kind, &self.node, &self.workload, &pid, &self.comm, &self.what];
        let cells: Vec<String> = cells.into_iter().map(|cell| csv_cell(cell)).collect();
        format!("{}\n", cells.join(","))
    }
}

/// Every column that holds something, under its name, with its kind in front.
fn object(table: &'static Table, sender: &str, row: &impl Fields, kind: &str) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("kind".to_owned(), kind.into());
    object.insert("node".to_owned(), sender.into());
    for column in table.columns() {
        // Named `kind` already.
        if matches!(column.name, "event" | "kind") {
            continue;
        }
        let value: Option<Value> = match column.kind {
            Kind::Time => row.int(column.name).map(|us| output::rfc3339_us(us).into()),
            Kind::Bool => row.int(column.name).map(|bit| (bit != 0).into()),
            Kind::Int => row.int(column.name).map(Value::from),
            Kind::Float => row.float(column.name).map(Value::from),
            Kind::Text => row.text(column.name).map(Value::from),
            Kind::TextList => row.texts(column.name).map(Value::from),
            Kind::Histogram => None,
        };
        if let Some(value) = value {
            object.insert(column.name.to_owned(), value);
        }
    }
    object.into()
}

fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn or_unknown(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "?".to_owned())
}

fn number(value: Option<i64>) -> String {
    value.map_or("?".to_owned(), |value| value.to_string())
}

/// The argument vector as one would type it, then what is remarkable about the image.
fn command_line(row: &impl Fields) -> String {
    let argv = row.texts("argv").unwrap_or_default();
    let mut text = if argv.is_empty() {
        or_unknown(row.text("filename").or_else(|| row.text("exe")))
    } else {
        argv.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
    };
    if row.int("argv_truncated") == Some(1) {
        text.push_str(" ...");
    }
    let flags = row.texts("flags").unwrap_or_default();
    if !flags.is_empty() {
        text.push_str(&format!(" [{}]", flags.join(" ")));
    }
    text
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn ending(row: &impl Fields) -> String {
    let how = match (row.int("exit_signal").unwrap_or(0), row.int("exit_code")) {
        (0, code) => format!("code {}", number(code)),
        (signal, _) => format!("signal {signal}"),
    };
    match row.int("run_time_ns") {
        Some(ns) => format!("{how} after {}", duration_ns(ns as f64)),
        None => how,
    }
}

fn connection(kind: &str, row: &impl Fields) -> String {
    let end = |address: &str, port: &str| {
        let address = or_unknown(row.text(address));
        let port = number(row.int(port));
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    };
    let (local, remote) = (end("local_address", "local_port"), end("remote_address", "remote_port"));
    let arrow = match row.text("direction").as_deref() {
        Some("connect") => "->",
        Some("accept") => "<-",
        _ => "--",
    };
    let mut text = format!("{local} {arrow} {remote}");
    match kind {
        "open" => {
            if let Some(ns) = row.int("connect_latency_ns") {
                text.push_str(&format!(" in {}", duration_ns(ns as f64)));
            }
        }
        "close" => {
            if let (Some(sent), Some(received)) = (row.int("sent_bytes"), row.int("received_bytes")) {
                text.push_str(&format!(" {sent} B out {received} B in"));
            }
            if let Some(ns) = row.int("duration_ns") {
                text.push_str(&format!(" after {}", duration_ns(ns as f64)));
            }
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use skep_wire::chunk::Builder;
    use skep_wire::tables;
    use skep_wire::v1;

    use super::*;

    fn exec() -> v1::Chunk {
        let mut rows = Builder::new(&tables::PROCESSES);
        rows.int("time", 1_700_000_000_123_456).text("event", "exec").int("pid", 7).int("start_ns", 9);
        rows.text("comm", "sh").text("workload", "unit:ssh.service").text("attribution", "exact");
        rows.int("parent_pid", 1).text_list("argv", &["sh", "-c", "echo 'a\x1b[2J'"]).bool("argv_truncated", true);
        rows.text_list("flags", &["memfd"]);
        rows.end_row().unwrap();
        rows.finish().unwrap()
    }

    fn render(chunk: &v1::Chunk, format: EventFormat) -> String {
        let row = chunk::rows(chunk).next().unwrap();
        Event::read(tables::find(&chunk.table).unwrap(), "host1", &row, format).render(format, Layout::WIDE)
    }

    #[test]
    fn an_exec_shows_its_arguments_and_no_control_characters() {
        let line = render(&exec(), EventFormat::Table);
        assert!(line.starts_with("2023-11-14 22:13:20.123Z exec    host1        sh(7)"), "{line}");
        assert!(line.ends_with("sh -c 'echo '\\''a\\u{1b}[2J'\\''' ... [memfd]\n"), "{line}");
    }

    #[test]
    fn json_and_csv_have_the_same_fields() {
        let value: serde_json::Value = serde_json::from_str(&render(&exec(), EventFormat::Json)).unwrap();
        assert_eq!((&value["kind"], &value["pid"], &value["node"]), (&"exec".into(), &7.into(), &"host1".into()));
        let csv = render(&exec(), EventFormat::Csv);
        assert_eq!(value["argv"][1], "-c");
        assert_eq!(value["time"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(value["argv_truncated"], true);
        assert!(csv.starts_with("2023-11-14T22:13:20.123456Z,exec,host1,unit:ssh.service,7,sh,"), "{csv}");
    }

    #[test]
    fn a_connection_says_who_called_whom() {
        let mut rows = Builder::new(&tables::CONNECTIONS);
        rows.int("time", 0).text("event", "close").text("direction", "connect").int("socket_id", 1).int("pid", 7);
        rows.int("start_ns", 9).text("comm", "curl").text("workload", "host").text("attribution", "exact");
        rows.text("local_address", "::1").int("local_port", 40_000).text("remote_address", "::1");
        rows.int("remote_port", 80).int("duration_ns", 1_500_000).int("sent_bytes", 10).int("received_bytes", 20);
        rows.end_row().unwrap();
        let line = render(&rows.finish().unwrap(), EventFormat::Table);
        assert!(line.contains("[::1]:40000 -> [::1]:80 10 B out 20 B in after 1.5ms"), "{line}");
    }
}
