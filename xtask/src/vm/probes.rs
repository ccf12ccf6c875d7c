//! A boot with the small file system: doctor finds everything in order, the kernel tests pass, and the verifier has no
//! more to do than it had.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::Ground;
use super::debian::Kernel;
use super::machine::Machine;
use super::transcript::{Check, checks, section};

/// The tests that are run: what differs from kernel to kernel, and needs neither a Python nor a second nor a disk, none of
/// which the machine has. What is counted is counted the same way everywhere.
const TESTS: [&str; 12] = [
    "cpu::a_busy_loop",
    "hard::flips_under_load",
    "hard::untyped",
    "ledger::",
    "process::an_exec_tells",
    "process::an_exit_tells",
    "process::arguments_",
    "syscall::everything",
    "syscall::forks_and_exits",
    "tcp::a_refused",
    "tcp::both_ends",
    "verifier",
];

/// Those of the executor that need a memory controller of version 2.
const ACTS: [&str; 2] = ["cgroups::memory", "crash::a_limit_on_memory"];

/// What doctor says of a feature whose hook this kernel does not have. Such a kernel has the others.
const NO_HOOK: &str = "this kernel has no tracepoint";

/// What doctor may find wanting: the machine's disk is its memory, and no collector is in it.
const EXPECTED: [&str; 2] = ["disk", "collector"];

/// A root that is no tmpfs: the probes tell programs on one from others.
const ROOT: &str = "rootfstype=ramfs";

pub(super) fn run(name: &str, kernel: &Kernel, ground: &Ground) -> Result<String> {
    let file_system = ground.small()?;
    let machine = Machine {
        kernel,
        file_system: &file_system,
        memory_mib: 1024,
        arguments: &format!("{ROOT} machine=probes tests={} acts={}", TESTS.join(","), ACTS.join(",")),
        patience: Duration::from_secs(900),
    };
    let said = machine.run(&ground.folder.join("logs").join(name))?;
    let doctor = checks(section(&said, "doctor")?.text)?;
    all_in_order(&doctor)?;
    let programs = super::lock(&ground.verified).compare(name, &doctor)?;
    let tests = passed(&said, "tests")?;
    let acts = passed(&said, "acts")?;
    ensure!(acts == ACTS.len() as u64, "{acts} tests of the executor ran, not {}", ACTS.len());
    let absent: Vec<&str> = doctor
        .iter()
        .filter(|check| !check.ok && check.detail.contains(NO_HOOK))
        .map(|check| check.name.as_str())
        .collect();
    let without = if absent.is_empty() { String::new() } else { format!(", without {}", absent.join(" and ")) };
    Ok(format!("{programs}, {tests} kernel tests, {acts} of the executor{without}"))
}

/// Fails with everything doctor found wanting.
pub(super) fn all_in_order(doctor: &[Check]) -> Result<()> {
    let excused = |check: &Check| EXPECTED.contains(&check.name.as_str()) || check.detail.contains(NO_HOOK);
    let wanting = doctor.iter().filter(|check| !check.ok && !excused(check));
    let wanting: Vec<String> = wanting.map(|check| format!("{}: {}", check.name, check.detail)).collect();
    ensure!(wanting.is_empty(), "doctor finds wanting: {}", wanting.join("; "));
    ensure!(doctor.iter().any(|check| check.name == "verifier"), "doctor did not load the probes");
    Ok(())
}

/// How many tests of a section passed; fails when one did not, or none ran.
fn passed(said: &str, name: &str) -> Result<u64> {
    let tests = section(said, name)?;
    let failed: Vec<&str> = tests.text.lines().filter_map(|line| line.strip_suffix("FAILED")).collect();
    if tests.status != 0 {
        bail!("{} {name} failed (status {}):\n{}", failed.len(), tests.status, tests.text);
    }
    let result = tests.text.lines().find_map(|line| line.strip_prefix("test result: ok. "));
    let passed = result.and_then(|rest| rest.split(' ').next()).and_then(|count| count.parse().ok()).unwrap_or(0);
    ensure!(passed > 0, "no {name} ran:\n{}", tests.text);
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, ok: bool) -> Check {
        Check { name: name.to_owned(), ok, detail: "because".to_owned(), figures: Vec::new() }
    }

    #[test]
    fn one_probe_that_is_missing_is_enough_to_fail() {
        assert!(all_in_order(&[check("disk", false), check("verifier", true)]).is_ok());
        let error = all_in_order(&[check("tcp", false), check("verifier", true)]).unwrap_err();
        assert_eq!(error.to_string(), "doctor finds wanting: tcp: because");
        assert!(all_in_order(&[check("kernel", true)]).is_err(), "no probes were loaded");
    }

    #[test]
    fn tests_count_only_when_some_ran_and_all_passed() {
        let said = |text, status| format!("@@ tests\n{text}\n@@ tests ended {status}\n@@ end\n");
        assert_eq!(passed(&said("test result: ok. 30 passed; 0 failed", 0), "tests").unwrap(), 30);
        assert!(passed(&said("test result: ok. 0 passed; 0 failed", 0), "tests").is_err());
        assert!(
            passed(&said("test a ... FAILED", 101), "tests").unwrap_err().to_string().starts_with("1 tests failed")
        );
    }
}
