//! What is done about which fault: the policy an operator of these services would write.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::Arguments;
use crate::kind::Kind;
use crate::settings::{self, Subject};
use crate::subject::files;

/// How long it is watched whether something helped.
const VERIFY_S: u32 = 8;

/// Budgets and brake are for hosts on which not everything breaks at once; limits of restarts are as they come.
fn limits(arguments: &Arguments) -> String {
    format!(
        "[budget]\nmax_concurrent = 100\nmax_per_hour = 10000\nnode_concurrent = 100\nnode_per_hour = 10000\n\
         target_per_hour = 20\n[storm]\nfindings = 1000\n[restart]\nlimit = {}\ncool_down_s = {}\n",
        arguments.restart_limit, arguments.restart_cool_down_s
    )
}

/// Writes it.
pub(crate) fn write(arguments: &Arguments, subjects: &[Subject], folder: &Path) -> Result<PathBuf> {
    let mut text = limits(arguments);
    for kind in [Kind::HungUnit, Kind::FdLeak, Kind::MemoryLeak] {
        rule(&mut text, kind.name(), "check-failed", &all_of(kind))?;
        restart(&mut text, 2)?;
    }
    rule(&mut text, "lost-cause", "check-failed", &all_of(Kind::LostCause))?;
    restart(&mut text, 100)?;
    for subject in subjects {
        let (workload, port) = (subject.workload(), subject.port());
        match subject.kind {
            // What it keeps may be lost, if two restarts did not help.
            Kind::CrashLoop => {
                rule(&mut text, &format!("crash-loop-{port}"), "check-failed", &workload)?;
                restart(&mut text, 2)?;
                let state = subject.folder.join(files::STATE);
                rung(&mut text, "clean", &format!("folder={} older_than_s=0", state.display()))?;
                restart(&mut text, 2)?;
            }
            Kind::BadRollout => {
                rule(&mut text, &format!("bad-rollout-{port}"), "check-failed", &workload)?;
                restart(&mut text, 1)?;
                rung(&mut text, "run", &format!("name=roll-back-{port}"))?;
                restart(&mut text, 2)?;
            }
            Kind::DiskFilling => {
                rule(&mut text, &format!("disk-{port}"), "check-failed", &workload)?;
                let disk = subject.disk();
                let when = "when=disk_used_ratio at_least=0.8";
                rung(&mut text, "clean", &format!("folder={} older_than_s=0 {when}", disk.display()))?;
                restart(&mut text, 1)?;
            }
            _ => {}
        }
    }
    let shells = "[\"reverse-shell\", \"shell-inet-stdio\", \"shell-connects\"]";
    write!(text, "[[rule]]\nname = \"shell\"\nfinding = {shells}\n{}", about(&all_of(Kind::ReverseShell)))?;
    rung(&mut text, "kill", "scope=tree grace_s=1")?;
    rule(&mut text, "scan", "port-scan", &all_of(Kind::PortScan))?;
    rung(&mut text, "kill", "scope=process grace_s=1")?;
    rule(&mut text, "hog", "cpu_cores", &format!("cgroup:/heal-{}-*", Kind::CpuHog.name()))?;
    writeln!(text, "[[rule.rung]]\naction = \"throttle\"\ncpu_share = 0.25\nlease_s = 120\nverify_s = {VERIFY_S}")?;
    settings::written(folder, "policy.toml", &text)
}

fn all_of(kind: Kind) -> String {
    format!("unit:heal-{}@*", kind.name())
}

fn about(workload: &str) -> String {
    format!("workload = \"{workload}\"\nmode = \"auto\"\n")
}

fn rule(text: &mut String, name: &str, finding: &str, workload: &str) -> Result<()> {
    Ok(write!(text, "[[rule]]\nname = \"{name}\"\nfinding = \"{finding}\"\n{}", about(workload))?)
}

fn rung(text: &mut String, action: &str, parameters: &str) -> Result<()> {
    let what = format!("action = \"{action}\"\nparameters = \"{parameters}\"\nverify_s = {VERIFY_S}");
    Ok(writeln!(text, "[[rule.rung]]\n{what}")?)
}

fn restart(text: &mut String, attempts: u32) -> Result<()> {
    let what = format!("action = \"restart_unit\"\nattempts = {attempts}\nbackoff_s = 1\nverify_s = {VERIFY_S}");
    Ok(writeln!(text, "[[rule.rung]]\n{what}")?)
}
