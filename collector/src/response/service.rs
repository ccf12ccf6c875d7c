//! Services that are down, as findings; and so is their end, as one for the record. Between the two nothing is raised.

use std::sync::Arc;

use skep_wire::chunk::Row;
use skep_wire::envelope::Origin;

use super::rows::Rows;
use crate::detect::finding::{Finding, Severity, quoted};
use crate::detect::service::{Gone, Services, Turn, Who};
use crate::dispatch::Draw;

/// A check failed more often in a row than is let pass.
const CHECK_FAILED: &str = "check-failed";

/// `findings.kind` of it.
pub(super) const KIND: &str = "check";

/// In front of the check's name in a finding's evidence.
const NAME: &str = "check=";

/// In front of what a finding says of it.
const STATE: &str = "state=";

const DOWN: &str = "down";

const OVER: &str = "over";

/// Takes a row of `checks`; a finding if it is the beginning or the end of a trouble.
pub(super) fn row(
    services: &mut Services,
    origin: &Origin,
    row: &Row<'_>,
    now_us: i64,
    draw: &mut Draw,
    rows: &mut Rows,
) -> Option<Finding> {
    let turn = services.row(origin, row, now_us)?;
    let name = row.text("name").unwrap_or_default();
    let error = row.text("error").unwrap_or("it did not say why");
    let (severity, state, title) = match turn {
        Turn::Down if row.int("critical") == Some(1) => (Severity::Critical, DOWN, format!("{name} is down: {error}")),
        Turn::Down => (Severity::Medium, DOWN, format!("{name} is down: {error}")),
        Turn::Up { after_us } => {
            (Severity::Info, OVER, format!("{name} is well again after {} s", after_us / 1_000_000))
        }
    };
    let mut evidence = vec![format!("{STATE}{state}"), format!("{NAME}{name}")];
    let texts = ["kind", "target", "error"].into_iter();
    evidence.extend(texts.filter_map(|column| Some(format!("{column}={}", row.text(column)?))));
    evidence.extend(row.int("failures").map(|failures| format!("failures={failures}")));
    evidence.extend(row.text_list("figures").unwrap_or_default().into_iter().map(str::to_owned));
    let about = About {
        who: Who { node: origin.node.clone(), name: name.to_owned() },
        boot: origin.boot.clone(),
        workload: row.text("workload").unwrap_or("host").to_owned(),
    };
    Some(about.raise(severity, title, evidence, now_us, draw, rows))
}

/// A check that was down and is no longer made.
pub(super) fn gone(gone: Gone, now_us: i64, draw: &mut Draw, rows: &mut Rows) -> Finding {
    let Gone { who, workload, after_us } = gone;
    let title = format!("{} is no longer checked; it was down for {} s", who.name, after_us / 1_000_000);
    let evidence = vec![format!("{STATE}{OVER}"), format!("{NAME}{}", who.name)];
    About { who, boot: String::new(), workload }.raise(Severity::Info, title, evidence, now_us, draw, rows)
}

/// Takes up what a finding raised before this start said.
pub(super) fn restore(services: &mut Services, finding: &Row<'_>, now_us: i64) {
    let evidence = finding.text_list("evidence").unwrap_or_default();
    let value = |name: &str| evidence.iter().find_map(|item| item.strip_prefix(name));
    let (Some(name), Some(state), Some(node)) = (value(NAME), value(STATE), finding.text("target_node")) else {
        return;
    };
    let who = Who { node: node.to_owned(), name: name.to_owned() };
    let workload = finding.text("workload").unwrap_or("host");
    services.restore(who, state == DOWN, workload, finding.int("time").unwrap_or(now_us), now_us);
}

struct About {
    who: Who,
    boot: String,
    workload: String,
}

impl About {
    fn raise(
        self,
        severity: Severity,
        title: String,
        evidence: Vec<String>,
        now_us: i64,
        draw: &mut Draw,
        rows: &mut Rows,
    ) -> Finding {
        let Self { who: Who { node, name }, boot, workload } = self;
        let finding = Finding {
            id: draw.hex(),
            time_us: now_us,
            kind: KIND,
            rule: Arc::from(CHECK_FAILED),
            severity,
            title,
            evidence_sql: format!(
                "SELECT time, ok, latency_ns, error, failures, figures FROM checks WHERE node = {} AND name = {} \
                 ORDER BY time DESC LIMIT 20",
                quoted(&node),
                quoted(&name)
            ),
            node,
            boot,
            workload,
            process: None,
            aim: None,
            attack: Vec::new(),
            evidence,
            coverage: 1.0,
            used_cores: None,
        };
        rows.finding(&finding);
        finding
    }
}
