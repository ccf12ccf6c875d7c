//! What a quick look at a node's window says, as rows of `scores` and as findings.

use super::found::Found;
use super::minute::{Said, name, number};
use crate::detect::finding::Severity;
use crate::detect::series::glance::{Glimpse, Why};
use crate::detect::series::track::{STREAK, Score, Signal};

/// Behind a device in the title of a finding about it.
const TAKES: &str = " takes ";

impl Found<'_> {
    /// What was notable in a window of the batch's node.
    pub(super) fn glance(&mut self, glimpses: &[Glimpse]) {
        for glimpse in glimpses {
            let (about, value) = ((glimpse.workload.as_str(), glimpse.signal.as_str()), glimpse.value);
            match &glimpse.why {
                Why::Far(signal, score) => {
                    self.rows.glimpse(&self.origin.node, glimpse, score);
                    if score.streak == STREAK {
                        self.far_now(glimpse, *signal, score);
                    }
                }
                Why::OverLimit(limit, windows) if *windows == STREAK => {
                    let evidence = format!("{}={}, limit {}", glimpse.signal, number(value), number(*limit));
                    self.beyond_limit(about, value, glimpse.coverage, vec![evidence]);
                }
                Why::OverLimit(..) => {}
                // It rests on a minute or two.
                Why::Filling(until) => self.fills(about, value, glimpse.coverage, until, Severity::Medium),
            }
        }
    }

    fn far_now(&mut self, glimpse: &Glimpse, signal: Signal, score: &Score) {
        let whom = name(&glimpse.workload);
        let (value, usual) = (score.value, score.baseline);
        let device = label(&glimpse.signal);
        let title = match signal {
            Signal::ConnectionAttempts => format!("{whom} opens {value:.0} connections a second, {usual:.0} is usual"),
            Signal::BlockLatency => {
                let (value, usual) = (value / 1e6, usual / 1e6);
                format!("{whom}: {device}{TAKES}{value:.1} ms a request, {usual:.1} ms is usual")
            }
            _ => format!("{whom}: {value:.1} threads a CPU wait for one, {usual:.1} is usual"),
        };
        let mut evidence = vec![
            format!("{}={}", glimpse.signal, number(value)),
            format!("baseline={}", number(usual)),
            format!("spread={}", number(score.spread)),
            format!("score={:.1}", score.score),
            format!("windows_abnormal={}", score.streak),
            format!("windows_before={}", score.rests_on),
        ];
        evidence.extend(glimpse.most_by.as_ref().map(|workload| format!("most_by={workload}")));
        let is_grave = value - usual >= signal.grave_effect();
        self.say(Said {
            rule: signal.as_str(),
            workload: glimpse.workload.clone(),
            about: device.to_owned(),
            severity: if is_grave { Severity::Medium } else { Severity::Low },
            title,
            evidence,
            evidence_sql: self.score_sql(&glimpse.workload, &glimpse.signal),
            coverage: glimpse.coverage,
        });
    }
}

/// What stands in a signal's braces.
fn label(signal: &str) -> &str {
    signal.split_once('{').map_or("", |(_, label)| label.trim_end_matches('}'))
}

/// The device a finding of this title is about, for the hold.
pub(super) fn device_in(title: &str) -> &str {
    let after = title.split_once(": ").map_or(title, |(_, after)| after);
    after.split_once(TAKES).map_or("", |(device, _)| device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_in_the_signal_and_in_the_title() {
        assert_eq!(label("block_latency_mean_ns{sda}"), "sda");
        assert_eq!(label("run_queue_length_per_cpu"), "");
        assert_eq!(device_in("the node: sda takes 120.0 ms a request, 0.2 ms is usual"), "sda");
    }
}
