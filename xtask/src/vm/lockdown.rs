//! A boot in which the kernel lets nobody copy its memory: the agent says so, and which probes it has to do without.
//!
//! Programs that only follow typed pointers are still accepted; those that copy are not.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Ground;
use super::debian::Kernel;
use super::machine::Machine;
use super::transcript::{checks, section};

/// How an agent may end: asked to, or because no probe is left to it.
const ENDS: [i32; 2] = [0, 1];

pub(super) fn run(name: &str, kernel: &Kernel, ground: &Ground) -> Result<String> {
    let file_system = ground.small()?;
    let machine = Machine {
        kernel,
        file_system: &file_system,
        memory_mib: 1024,
        arguments: "machine=lockdown lockdown=confidentiality",
        patience: Duration::from_secs(600),
    };
    judge(&machine.run(&ground.folder.join("logs").join(name))?)
}

fn judge(said: &str) -> Result<String> {
    let doctor = checks(section(said, "doctor")?.text)?;
    let lockdown = doctor.iter().find(|check| check.name == "lockdown");
    ensure!(
        lockdown.is_some_and(|check| !check.ok && check.detail.contains("confidentiality")),
        "doctor does not name the lockdown: {lockdown:?}"
    );
    let refused: Vec<_> = doctor.iter().filter(|check| check.detail.contains("refused the program")).collect();
    ensure!(!refused.is_empty(), "no probe was refused: the lockdown has no effect");
    let agent = section(said, "agent")?;
    ensure!(ENDS.contains(&agent.status), "the agent ended with {}:\n{}", agent.status, agent.text);
    for check in &refused {
        ensure!(
            check.detail.contains("lockdown"),
            "doctor does not say why {} is refused: {}",
            check.name,
            check.detail
        );
        let named = agent.text.lines().any(|line| line.contains(&check.name) && line.contains("lockdown"));
        ensure!(named, "the agent does not say why it has no {}:\n{}", check.name, agent.text);
    }
    let names: Vec<&str> = refused.iter().map(|check| check.name.as_str()).collect();
    Ok(format!("doctor and agent say why there is no {}, and go on with the rest", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ok: bool, agent: &str, status: i32) -> String {
        let lockdown = format!("{{\"check\":\"lockdown\",\"ok\":{ok},\"detail\":\"confidentiality: no\"}}");
        let tcp = "{\"check\":\"tcp\",\"ok\":false,\"detail\":\"the kernel refused the program: lockdown\"}";
        format!("@@ doctor\n[{lockdown},{tcp}]\n@@ doctor ended 0\n@@ agent\n{agent}\n@@ agent ended {status}\n")
    }

    #[test]
    fn both_must_say_it_and_the_agent_must_end_in_order() {
        assert!(judge(&said(false, "not watched: tcp: lockdown", 0)).is_ok());
        assert!(judge(&said(true, "not watched: tcp: lockdown", 0)).is_err());
        assert!(judge(&said(false, "not watched: tcp", 0)).is_err());
        assert!(judge(&said(false, "not watched: tcp: lockdown", 101)).is_err());
    }
}
