//! What the agent's own doctor says about this kernel.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Check, Status};
use crate::programs;
use crate::up::folder::pins_of;

/// It loads and unloads every probe.
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
struct Line {
    check: String,
    ok: bool,
    essential: bool,
    detail: String,
}

/// Runs `skep-agent doctor` when it is here and we may; its checks are named `kernel: ...`.
pub(super) async fn run(data: &Path) -> Vec<Check> {
    let program = programs::beside_this("skep-agent");
    if !program.exists() {
        return vec![Check::warn("kernel", format!("{} is not here to check it", program.display()))];
    }
    if !rustix::process::geteuid().is_root() {
        return vec![Check::ok("kernel", "not checked: run `skep doctor` as root")];
    }
    let mut command = Command::new(program);
    command.args(["doctor", "--format", "json", "--state-dir"]).arg(data.join("agent"));
    command.arg("--pin").arg(pins_of(data)).kill_on_drop(true);
    let output = match timeout(WITHIN, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return vec![Check::warn("kernel", format!("`skep-agent doctor` does not start: {error}"))],
        Err(_) => return vec![Check::warn("kernel", "`skep-agent doctor` does not end")],
    };
    match serde_json::from_slice::<Vec<Line>>(&output.stdout) {
        Ok(lines) => lines.into_iter().map(of_line).collect(),
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            vec![Check::warn("kernel", format!("`skep-agent doctor` gave no answer: {last}"))]
        }
    }
}

fn of_line(line: Line) -> Check {
    let status = match (line.ok, line.essential) {
        (true, _) => Status::Ok,
        (false, true) => Status::Fail,
        (false, false) => Status::Warn,
    };
    Check::new(format!("kernel: {}", line.check), status, line.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_essential_fails() {
        let text = r#"[{"check":"btf","ok":false,"essential":true,"detail":"none"},
                       {"check":"cgroup","ok":false,"essential":false,"detail":"none"},
                       {"check":"cpu","ok":true,"essential":false,"detail":""}]"#;
        let lines: Vec<Line> = serde_json::from_str(text).unwrap();
        let statuses: Vec<Status> = lines.into_iter().map(|line| of_line(line).status).collect();
        assert_eq!(statuses, [Status::Fail, Status::Warn, Status::Ok]);
    }
}
