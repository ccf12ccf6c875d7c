//! Breaks a host's saturated resources one after the other, each under a skep of its own that has just learned what is
//! usual, and measures how long it takes until that is found, by which series, and whether it is one incident.
//!
//! * [`fault`]: what is broken, and what is to be said of it.
//! * [`job`]: what runs before, and how it is broken.
//! * [`disk`]: disks that can be slowed down or filled.
//! * [`trial`]: one fault from its beginning to what is said of it.

mod disk;

mod fault;

mod job;

mod trial;

use anyhow::Result;
use serde_json::{Value, json};

use fault::Fault;
pub(crate) use job::storm;

/// What is broken, and under which skep.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench found --json\n  \
    cargo xtask bench found --only cpu-hog,fd-leak --window 2s")]
pub(crate) struct FindArguments {
    /// Only these faults; all of them otherwise
    #[arg(long, value_name = "FAULT", value_delimiter = ',', value_parser = fault::parse)]
    only: Vec<Fault>,
    /// Length of the agent's windows
    #[arg(long, default_value = "10s")]
    window: String,
    /// Windows in which nothing is wrong yet
    #[arg(long, default_value_t = 14)]
    healthy_windows: u64,
    /// Seconds after which a fault counts as not found
    #[arg(long, default_value_t = 180)]
    within_s: u64,
    /// Seconds for which it goes on after it was found, for what is found later
    #[arg(long, default_value_t = 30)]
    linger_s: u64,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// All faults, one after the other.
pub(crate) fn run(arguments: &FindArguments) -> Result<()> {
    let chosen = Fault::ALL.into_iter().filter(|fault| arguments.only.is_empty() || arguments.only.contains(fault));
    let mut told: Vec<Value> = Vec::new();
    for fault in chosen {
        let figures = trial::take(fault, arguments)?;
        if arguments.json {
            eprintln!("{figures}");
        } else {
            println!("{figures}");
        }
        told.push(figures);
    }
    if arguments.json {
        let count = |is: fn(&Value) -> bool| told.iter().filter(|figures| is(figures)).count();
        let found = count(|figures| figures["found_after_s"].is_number());
        let grouped = count(|figures| figures["incidents"] == 1);
        let all = json!({
            "injected": told.len(), "found": found, "in_one_incident": grouped, "window": arguments.window, "faults": told,
        });
        println!("{all}");
    }
    Ok(())
}
