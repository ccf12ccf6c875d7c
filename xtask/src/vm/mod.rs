//! `cargo xtask vm`: the agent and the kernel tests on other kernels, booted in qemu without help from the processor.
//!
//! [`BOOTS`] lists them. Each takes a kernel of a Debian release ([`debian`]), the programs built to run without any
//! library ([`programs`]), a file system of them ([`image`], [`systemd`]), runs it ([`machine`]) and judges what it said.
//! What the verifier went through for each program is compared with what is committed ([`verified`]).

mod debian;

mod programs;

mod image;

mod console;

mod machine;

mod transcript;

mod probes;

mod lockdown;

mod systemd;

mod verified;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use self::debian::Suite;
use self::programs::Programs;
use self::verified::Verified;
use crate::setup;

/// Everything that can be booted; the names are those of `--kernel`.
const BOOTS: [Boot; 6] = [
    Boot { name: "5.10", suite: Suite::BULLSEYE, what: What::Probes },
    Boot { name: "6.1", suite: Suite::BOOKWORM, what: What::Probes },
    Boot { name: "6.12", suite: Suite::TRIXIE, what: What::Probes },
    Boot { name: "newest", suite: Suite::SID, what: What::Probes },
    Boot { name: "lockdown", suite: Suite::TRIXIE, what: What::Lockdown },
    Boot { name: "systemd", suite: Suite::BOOKWORM, what: What::Systemd },
];

/// What `cargo xtask test` boots: the two releases in use, whose verifiers are furthest apart.
pub(crate) const IN_TESTS: [&str; 2] = ["6.1", "6.12"];

/// One boot.
struct Boot {
    name: &'static str,
    suite: Suite,
    what: What,
}

/// What is done in it.
#[derive(Clone, Copy)]
enum What {
    /// Doctor and kernel tests.
    Probes,
    /// Doctor and agent where the kernel lets nobody read its memory.
    Lockdown,
    /// Debian with systemd and the agent's unit.
    Systemd,
}

/// What the user chose.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// Names of boots; all if empty. One that is named must be possible.
    pub(crate) names: Vec<String>,
    /// Write the verifier's counts down rather than compare them.
    pub(crate) record: bool,
}

/// How a boot ended.
enum Outcome {
    /// Well, with what is worth saying.
    Passed(String),
    /// The kernel cannot be had.
    Skipped(String),
    Failed(String),
}

/// What all boots share.
struct Ground {
    programs: Programs,
    verified: Mutex<Verified>,
    /// `target/vm`.
    folder: PathBuf,
    /// The small file system, once it was made.
    small: Mutex<Option<PathBuf>>,
    /// Held by who fetches a kernel.
    fetching: Mutex<()>,
}

impl Ground {
    fn small(&self) -> Result<PathBuf> {
        let mut small = lock(&self.small);
        if small.is_none() {
            *small = Some(image::small(&self.programs, &self.folder)?);
        }
        small.clone().context("it was just made")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names, a line each.
pub(crate) fn list() {
    for boot in &BOOTS {
        let what = match boot.what {
            What::Probes => "doctor and kernel tests",
            What::Lockdown => "doctor and agent under lockdown=confidentiality",
            What::Systemd => "systemd and the agent's unit",
        };
        println!("{:9} kernel of {:9} {what}", boot.name, boot.suite.name);
    }
}

/// Boots what was chosen, as many side by side as there are processors, and says how each ended. Fails when one failed,
/// one that was named could not be had, or none ran.
pub(crate) fn run(choice: &Choice) -> Result<()> {
    let boots = choose(&choice.names)?;
    setup::ensure_build()?;
    setup::ensure_vm()?;
    let folder = setup::target_folder()?.join("vm");
    std::fs::create_dir_all(&folder)?;
    let without_libraries = boots.iter().any(|boot| matches!(boot.what, What::Systemd));
    let ground = Ground {
        programs: programs::build(without_libraries)?,
        verified: Mutex::new(Verified::read(choice.record)?),
        folder,
        small: Mutex::default(),
        fetching: Mutex::default(),
    };
    let ended = side_by_side(&boots, &ground);
    lock(&ground.verified).write()?;
    ended.iter().for_each(|(_, line, _)| println!("{line}"));
    let bad = ended.iter().filter(|(name, _, outcome)| match outcome {
        Outcome::Passed(_) => false,
        Outcome::Skipped(_) => choice.names.iter().any(|named| named == name),
        Outcome::Failed(_) => true,
    });
    let bad: Vec<&str> = bad.map(|(name, _, _)| *name).collect();
    ensure!(bad.is_empty(), "did not pass: {}", bad.join(", "));
    ensure!(ended.iter().any(|(_, _, outcome)| matches!(outcome, Outcome::Passed(_))), "no kernel could be had");
    Ok(())
}

/// Name, line to be said, and outcome of each, in the order of what was chosen.
fn side_by_side(boots: &[&'static Boot], ground: &Ground) -> Vec<(&'static str, String, Outcome)> {
    let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(boot) = boots.get(at) else { return };
            println!("== vm {}", boot.name);
            let begun = Instant::now();
            let outcome = boot.run(ground);
            let line = line(boot.name, &outcome, begun.elapsed().as_secs());
            lock(&ended).push((at, (boot.name, line, outcome)));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(boots.len()) {
            scope.spawn(work);
        }
    });
    let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by_key(|(at, _)| *at);
    ended.into_iter().map(|(_, ended)| ended).collect()
}

fn choose(names: &[String]) -> Result<Vec<&'static Boot>> {
    if names.is_empty() {
        return Ok(BOOTS.iter().collect());
    }
    let known = || BOOTS.map(|boot| boot.name).join(", ");
    let find = |name: &String| BOOTS.iter().find(|boot| boot.name == name);
    names
        .iter()
        .map(|name| find(name).ok_or_else(|| anyhow::anyhow!("no boot {name}: there are {}", known())))
        .collect()
}

fn line(name: &str, outcome: &Outcome, seconds: u64) -> String {
    match outcome {
        Outcome::Passed(what) => format!("passed: {name}: {what}, in {seconds} s"),
        Outcome::Skipped(why) => format!("skipped: {name}: {why}"),
        Outcome::Failed(why) => format!("failed: {name}: {why}"),
    }
}

impl Boot {
    fn run(&self, ground: &Ground) -> Outcome {
        let fetching = lock(&ground.fetching);
        let fetched = debian::kernel(self.suite, &ground.folder);
        drop(fetching);
        let kernel = match fetched {
            Ok(kernel) => kernel,
            Err(error) => return Outcome::Skipped(format!("{error:#}")),
        };
        println!("kernel {} of {}", kernel.release, self.suite.name);
        let judged = match self.what {
            What::Probes => probes::run(self.name, &kernel, ground),
            What::Lockdown => lockdown::run(self.name, &kernel, ground),
            What::Systemd => systemd::run(self.name, &kernel, ground),
        };
        match judged {
            Ok(what) => Outcome::Passed(format!("{}: {what}", kernel.release)),
            Err(error) => Outcome::Failed(format!("{}: {error:#}", kernel.release)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        assert_eq!(choose(&[]).unwrap().len(), BOOTS.len());
        assert_eq!(choose(&["6.1".to_owned()]).unwrap()[0].name, "6.1");
        let error = choose(&["2.6".to_owned()]).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "no boot 2.6: there are 5.10, 6.1, 6.12, newest, lockdown, systemd");
    }

    #[test]
    fn the_tests_boot_what_there_is() {
        assert!(choose(&IN_TESTS.map(str::to_owned)).is_ok());
    }
}
