//! `skep explain`: one finding, what it rests on, what was done about it, and how much was seen; or one action, why it was
//! chosen, and what came of it.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use clap::{Args, ValueEnum};

use super::CommandError;
use super::actions::{full_id, maybe_id};
use crate::connect::Source;
use crate::exit::{Failure, one_line};
use crate::output::{
    DataFormat, Layout, OutputError, Paint, Row, Style, escape, print, quoted, render, rows, share, time_us, to_json,
};
use crate::place::PlaceArgs;

/// Most evidence rows shown; the statement that returns all of them is printed too.
const EVIDENCE_ROWS: usize = 20;

/// What `skep explain --help` says above its options.
pub(crate) const ABOUT: &str = "One finding: what raised it, the rows it rests on, what skep did about it, and how much of what \
    happened skep saw.\n\nOf an action: why it was chosen and what else could have been, each with how often it helped \
    before, and every step of it.\n\nThe start of an id is enough.";

/// Arguments of `skep explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep explain 9c41
  skep explain 9c41 --format json | jq .actions")]
pub struct ExplainArgs {
    /// Id of the finding or of the action, or its start
    #[arg(value_name = "ID")]
    pub id: String,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ExplainFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// How an explanation is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ExplainFormat {
    /// For people
    #[default]
    Table,
    /// One object
    Json,
    /// The evidence rows only
    Csv,
}

/// A statement's answer, kept for printing.
struct Part {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Part {
    async fn ask(source: &Source, sql: &str) -> Result<Self, Failure> {
        let answer = source.ask(sql).await?;
        Ok(Self { schema: answer.schema(), batches: answer.collect().await? })
    }

    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn json(&self) -> Result<serde_json::Value, Failure> {
        Ok(to_json(&self.batches)?)
    }
}

pub(super) async fn run(args: ExplainArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let id = match full_id(&source, "findings", "finding", &args.id).await {
        Ok(id) => id,
        Err(not_found @ Failure::Command(CommandError::NotFound { .. })) => {
            return match maybe_id(&source, &args.id).await? {
                Some(action) => explain_action(&source, &action, args.format).await,
                None => Err(not_found),
            };
        }
        Err(error) => return Err(error),
    };
    let literal = quoted(&id);
    let finding = Part::ask(&source, &format!("SELECT * FROM findings WHERE finding = {literal} LIMIT 1")).await?;
    let evidence_sql = rows(&finding.batches).next().and_then(|row| row.text("evidence_sql")).unwrap_or_default();
    let evidence = match evidence_sql.trim() {
        "" => Err("the finding names none".to_owned()),
        // Rows may have aged out or a statement of another version may not run here; the rest is still worth saying.
        sql => Part::ask(&source, sql).await.map_err(|failure| one_line(&failure)),
    };
    // People get what is enough to type, programs the whole id.
    let people = args.format == ExplainFormat::Table;
    let action = if people { "substr(action, 1, 12) AS action" } else { "action" };
    let actions = Part::ask(
        &source,
        &format!(
            "SELECT time, {action}, state, actor, verb, parameters, dry_run, detail FROM actions \
             WHERE finding = {literal} ORDER BY time, stream, seq"
        ),
    )
    .await?;
    // What was decided about the finding itself: what was held back, and who was asked.
    let decided = format!(
        "SELECT time, step, detail FROM audit WHERE subject = {literal} AND actor = 'policy' ORDER BY time, stream, seq"
    );
    let decided = Part::ask(&source, &decided).await?;
    match args.format {
        ExplainFormat::Table => for_people(&id, &finding, &evidence, (&decided, &actions)),
        ExplainFormat::Json => {
            let evidence = match &evidence {
                Ok(part) => part.json()?,
                Err(reason) => serde_json::json!({ "error": reason }),
            };
            let finding = finding.json()?;
            let object = serde_json::json!({
                "finding": finding.get(0),
                "evidence": evidence,
                "decisions": decided.json()?,
                "actions": actions.json()?,
            });
            Ok(print(&format!("{object:#}\n"))?)
        }
        ExplainFormat::Csv => {
            let part = evidence.as_ref().unwrap_or(&finding);
            let mut writer = crate::output::Writer::start(DataFormat::Csv, &part.schema, None)?;
            for batch in &part.batches {
                writer.push(batch)?;
            }
            writer.finish()?;
            Ok(())
        }
    }
}

/// Why an action was chosen, and what came of it.
async fn explain_action(source: &Source, id: &str, format: ExplainFormat) -> Result<(), Failure> {
    let literal = quoted(id);
    let newest = format!("SELECT * FROM actions WHERE action = {literal} ORDER BY time DESC, stream, seq DESC LIMIT 1");
    let action = Part::ask(source, &newest).await?;
    let finding_id = rows(&action.batches).next().and_then(|row| row.text("finding")).unwrap_or_default();
    let about = format!("SELECT * FROM findings WHERE finding = {} LIMIT 1", quoted(&finding_id));
    let finding = Part::ask(source, &about).await?;
    let steps =
        format!("SELECT time, actor, step, detail FROM audit WHERE subject = {literal} ORDER BY time, stream, seq");
    let steps = Part::ask(source, &steps).await?;
    match format {
        ExplainFormat::Json => {
            let (action, finding) = (action.json()?, finding.json()?);
            let object =
                serde_json::json!({ "action": action.get(0), "finding": finding.get(0), "steps": steps.json()? });
            Ok(print(&format!("{object:#}\n"))?)
        }
        ExplainFormat::Csv => {
            let mut writer = crate::output::Writer::start(DataFormat::Csv, &steps.schema, None)?;
            for batch in &steps.batches {
                writer.push(batch)?;
            }
            writer.finish()?;
            Ok(())
        }
        ExplainFormat::Table => Ok(print(&action_for_people(id, &action, &finding, &steps))?),
    }
}

fn action_for_people(id: &str, action: &Part, finding: &Part, steps: &Part) -> String {
    let layout = Layout::stdout();
    let style = layout.style;
    let mut text = String::new();
    if let Some(row) = rows(&action.batches).next() {
        let part = |name: &str| escape(&row.text(name).unwrap_or_default());
        let head = format!("{} {} on {}", part("verb"), part("workload"), part("target_node"));
        text.push_str(&format!(
            "{} {}\n",
            style.paint(Paint::Accent, &part("state")),
            style.paint(Paint::Strong, &head)
        ));
        for (name, value) in [("action", id.to_owned()), ("with", part("parameters")), ("mode", part("mode"))] {
            text.push_str(&format!("  {}{value}\n", style.paint(Paint::Faint, &format!("{name:<10}"))));
        }
    }
    text.push_str(&title(style, "Because of"));
    match rows(&finding.batches).next() {
        Some(row) => text.push_str(&head(&row.text("finding").unwrap_or_default(), &row, style)),
        None => text.push_str("  no finding: an operator ordered it\n"),
    }
    let chosen = rows(&steps.batches).find(|row| row.text("step").as_deref() == Some("chosen"));
    text.push_str(&title(style, "Chosen"));
    match chosen.and_then(|row| row.text("detail")) {
        // One alternative a line.
        Some(detail) => detail.split("; ").for_each(|line| text.push_str(&format!("  {}\n", escape(line)))),
        None => text.push_str("  by nobody but who ordered it\n"),
    }
    text.push_str(&title(style, "Step by step"));
    text.push_str(&render(&steps.schema, &steps.batches, layout));
    text
}

fn for_people(
    id: &str,
    finding: &Part,
    evidence: &Result<Part, String>,
    (decided, actions): (&Part, &Part),
) -> Result<(), Failure> {
    let layout = Layout::stdout();
    let style = layout.style;
    let mut text = String::new();
    if let Some(row) = rows(&finding.batches).next() {
        text.push_str(&head(id, &row, style));
    }
    text.push_str(&title(style, "Rests on"));
    match evidence {
        Err(reason) => text.push_str(&format!("  no rows: {reason}\n")),
        Ok(part) if part.rows() == 0 => text.push_str("  the rows are no longer kept\n"),
        Ok(part) => {
            let telling = telling(part)?;
            text.push_str(&render(&telling.schema, &first(&telling.batches, EVIDENCE_ROWS), layout));
            if part.rows() > EVIDENCE_ROWS {
                text.push_str(&format!("... {} rows in all\n", part.rows()));
            }
        }
    }
    if decided.rows() > 0 {
        text.push_str(&title(style, "Decided"));
        for row in rows(&decided.batches) {
            let part = |name: &str| escape(&row.text(name).unwrap_or_default());
            let time = time_us(row.int("time").unwrap_or(0));
            text.push_str(&format!("  {time} {}: {}\n", part("step"), part("detail")));
        }
    }
    text.push_str(&title(style, "Done about it"));
    if actions.rows() == 0 {
        let why = if decided.rows() == 0 { ": no policy asks for an action" } else { "" };
        text.push_str(&format!("  nothing{why}\n"));
    } else {
        text.push_str(&render(&actions.schema, &actions.batches, layout));
        if let Some(action) = waiting(actions) {
            text.push_str(&format!("it waits for you: skep actions approve {action}\n"));
        }
    }
    Ok(print(&text)?)
}

fn title(style: Style, text: &str) -> String {
    format!("\n{}\n", style.paint(Paint::Strong, text))
}

fn head(id: &str, row: &Row<'_>, style: Style) -> String {
    let text = |name: &str| escape(&row.text(name).unwrap_or_default());
    let severity = text("severity");
    let paint = match severity.as_str() {
        "critical" | "high" => Paint::Bad,
        "medium" => Paint::Warn,
        _ => Paint::Accent,
    };
    let mut lines = vec![format!("{} {}", style.paint(paint, &severity), style.paint(Paint::Strong, &text("title")))];
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("  {}{value}", style.paint(Paint::Faint, &format!("{name:<10}"))));
        }
    };
    line("finding", id.to_owned());
    line("raised", time_us(row.int("time").unwrap_or(0)));
    line("node", text("target_node"));
    line("workload", text("workload"));
    line("process", row.int("pid").map_or(String::new(), |pid| pid.to_string()));
    line("cgroup", text("cgroup"));
    line("rule", format!("{} ({})", text("rule"), text("kind")));
    line("ATT&CK", row.texts("attack").unwrap_or_default().join(" "));
    for (at, evidence) in row.texts("evidence").unwrap_or_default().iter().enumerate() {
        line(if at == 0 { "evidence" } else { "" }, escape(evidence));
    }
    line("seen", coverage_in_words(row.float("coverage")));
    line("query", text("evidence_sql"));
    lines.join("\n") + "\n"
}

/// What a coverage means for whoever reads the finding.
fn coverage_in_words(coverage: Option<f64>) -> String {
    match coverage {
        None => "how much was seen is not known".to_owned(),
        Some(all) if all >= 1.0 => "everything that happened in its window".to_owned(),
        Some(most) if most >= 0.99 => format!("{} of what happened in its window; enough to rely on", share(most)),
        Some(part) => {
            format!("only {} of what happened in its window; the rest was lost, see the table `loss`", share(part))
        }
    }
}

/// Start of the id of an action that nobody has decided on yet.
fn waiting(actions: &Part) -> Option<String> {
    let last = rows(&actions.batches).last()?;
    let id = last.text("action")?;
    (last.text("state").as_deref() == Some("pending")).then(|| id.chars().take(12).collect())
}

/// Without the columns that say nothing here: those of the envelope, and those that are empty in every row.
fn telling(part: &Part) -> Result<Part, Failure> {
    let empty = |at: usize| part.batches.iter().all(|batch| batch.column(at).null_count() == batch.num_rows());
    // Of rows the collector made, `node` is the collector itself.
    let made_here = part.schema.field_with_name("target_node").is_ok();
    let hidden = if made_here { &["boot", "stream", "seq", "node"][..] } else { &["boot", "stream", "seq"][..] };
    let fields = part.schema.fields().iter().enumerate();
    let kept: Vec<usize> = fields
        .filter(|(at, field)| !hidden.contains(&field.name().as_str()) && !empty(*at))
        .map(|(at, _)| at)
        .collect();
    let schema = part.schema.project(&kept).map_err(OutputError::Arrow)?;
    let batches = part.batches.iter().map(|batch| batch.project(&kept)).collect::<Result<_, _>>();
    Ok(Part { schema: schema.into(), batches: batches.map_err(OutputError::Arrow)? })
}

/// At most `limit` rows from the start.
fn first(batches: &[RecordBatch], limit: usize) -> Vec<RecordBatch> {
    let mut left = limit;
    let mut kept = Vec::new();
    for batch in batches {
        let rows = batch.num_rows().min(left);
        if rows > 0 {
            kept.push(batch.slice(0, rows));
        }
        left -= rows;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_is_said_in_words() {
        assert!(coverage_in_words(Some(1.0)).starts_with("everything"));
        assert!(coverage_in_words(Some(0.995)).contains("99.50%"));
        assert!(coverage_in_words(Some(0.4)).starts_with("only 40%"));
        assert!(coverage_in_words(None).contains("not known"));
    }
}
