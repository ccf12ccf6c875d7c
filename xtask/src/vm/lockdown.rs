//! A boot in which the kernel lets nobody read its memory: the agent says so and why it cannot work, and ends.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::debian::Kernel;
use super::machine::Machine;
use super::transcript::{checks, section};
use super::{Ground, image};

const FAILED: i32 = 1;

pub(super) fn run(name: &str, kernel: &Kernel, ground: &mut Ground) -> Result<String> {
    let file_system = image::small(&ground.programs, &ground.folder)?;
    let machine = Machine {
        kernel,
        file_system: &file_system,
        memory_mib: 1024,
        arguments: "machine=lockdown lockdown=confidentiality",
        patience: Duration::from_secs(600),
    };
    let said = machine.run(&ground.folder.join("logs").join(name))?;
    judge(&said)?;
    Ok("doctor and agent name the lockdown and end".to_owned())
}

fn judge(said: &str) -> Result<()> {
    let doctor = section(said, "doctor")?;
    let checks = checks(doctor.text)?;
    let lockdown = checks.iter().find(|check| check.name == "lockdown");
    ensure!(
        lockdown.is_some_and(|check| !check.ok && check.detail.contains("confidentiality")),
        "doctor does not name the lockdown: {}",
        doctor.text
    );
    ensure!(doctor.status == FAILED, "doctor finds the host fit (status {})", doctor.status);
    let agent = section(said, "agent")?;
    ensure!(agent.status == FAILED, "the agent ended with {}:\n{}", agent.status, agent.text);
    ensure!(agent.text.contains("lockdown"), "the agent does not name the lockdown:\n{}", agent.text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ok: bool, agent: &str, status: i32) -> String {
        let check = format!("[{{\"check\":\"lockdown\",\"ok\":{ok},\"detail\":\"confidentiality: no\"}}]");
        format!("@@ doctor\n{check}\n@@ doctor ended 1\n@@ agent\n{agent}\n@@ agent ended {status}\n")
    }

    #[test]
    fn both_must_say_it_and_the_agent_must_end_by_itself() {
        assert!(judge(&said(false, "skep-agent: kernel lockdown", 1)).is_ok());
        assert!(judge(&said(true, "skep-agent: kernel lockdown", 1)).is_err());
        assert!(judge(&said(false, "skep-agent: no", 1)).is_err());
        assert!(judge(&said(false, "lockdown; killed by timeout", 143)).is_err());
    }
}
