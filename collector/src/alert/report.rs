//! A finding, and an incident, as a report. Pure.

use skep_alerts::report::{Labels, Report, State};

use crate::detect::finding::Finding;
use crate::incident::{self, Incident};

/// Kinds whose findings have an end that is a finding too.
const LASTING: [&str; 2] = ["check", "self"];

/// What a report says of a finding.
pub fn of(finding: &Finding) -> Report {
    let value = |name: &str| finding.evidence.iter().find_map(|item| item.strip_prefix(name));
    let lasts = LASTING.contains(&finding.kind);
    let state = match value("state=") {
        _ if !lasts => State::Happened,
        Some("over") => State::Resolved,
        _ => State::Firing,
    };
    let check = value("check=");
    let mut labels = Labels::new();
    let mut put = |name: &str, value: &str| drop(labels.insert(name.to_owned(), value.to_owned()));
    put("rule", &finding.rule);
    put("kind", finding.kind);
    put("severity", finding.severity.as_str());
    put("node", &finding.node);
    put("workload", &finding.workload);
    if let Some(check) = check {
        put("check", check);
    }
    if !finding.attack.is_empty() {
        put("attack", &finding.attack.join(","));
    }
    let key = match check {
        Some(check) => format!("{} {} {check}", finding.rule, finding.node),
        None if lasts => format!("{} {}", finding.rule, finding.node),
        None => format!("{} {} {}", finding.rule, finding.node, finding.workload),
    };
    Report {
        key,
        state,
        labels,
        title: finding.title.clone(),
        details: finding.evidence.clone(),
        time_us: finding.time_us,
        finding: finding.id.clone(),
    }
}

/// In front of the keys of incidents.
pub const INCIDENTS: &str = "incident ";

/// What a report says of an incident.
pub fn of_incident(incident: &Incident) -> Report {
    let over = incident.state == incident::State::Closed;
    let labels = [
        ("rule", "incident"),
        ("kind", "incident"),
        ("severity", incident.severity.as_str()),
        ("node", incident.node.as_str()),
        ("workload", incident.workload.as_str()),
        ("incident", incident.id.as_str()),
    ];
    Report {
        key: format!("{INCIDENTS}{}", incident.id),
        state: if over { State::Resolved } else { State::Firing },
        labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        title: incident.title.clone(),
        details: vec![format!("findings={}", incident.findings), format!("rules={}", incident.rules.join(","))],
        time_us: if over { incident.changed_us } else { incident.began_us },
        finding: String::new(),
    }
}

/// Puts the incident a finding belongs to into what is said of it.
pub fn in_incident(mut report: Report, incident: Option<String>) -> Report {
    if let Some(incident) = incident {
        report.labels.insert("incident".to_owned(), incident);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::finding::Severity;

    fn finding(kind: &'static str, evidence: &[&str]) -> Finding {
        Finding {
            id: "f".to_owned(),
            time_us: 1,
            kind,
            rule: "r".into(),
            severity: Severity::High,
            title: "t".to_owned(),
            node: "n".to_owned(),
            boot: String::new(),
            workload: "w".to_owned(),
            process: None,
            aim: None,
            attack: vec!["T1".to_owned()],
            evidence: evidence.iter().map(|&item| item.to_owned()).collect(),
            evidence_sql: String::new(),
            coverage: 1.0,
            used_cores: None,
        }
    }

    #[test]
    fn the_end_of_a_trouble_has_the_key_of_its_beginning() {
        let down = of(&finding("check", &["state=down", "check=db"]));
        let over = of(&finding("check", &["state=over", "check=db"]));
        assert_eq!((down.state, over.state), (State::Firing, State::Resolved));
        assert_eq!(down.key, over.key);
        assert_eq!(down.labels["check"], "db");
        assert_ne!(down.key, of(&finding("check", &["state=down", "check=shop"])).key);
        let silent = of(&finding("self", &["state=silent"]));
        assert_eq!((silent.state, &silent.key), (State::Firing, &of(&finding("self", &["state=over"])).key));
    }

    #[test]
    fn what_has_no_end_happens() {
        let event = of(&finding("event", &["state=x"]));
        assert_eq!((event.state, event.key.as_str()), (State::Happened, "r n w"));
        assert_eq!((event.labels["attack"].as_str(), event.labels["severity"].as_str()), ("T1", "high"));
    }
}
