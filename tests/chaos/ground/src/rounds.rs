//! How many rounds, and from which seed: the same for every program that torments others.

use clap::Args;

use crate::figures::Figures;

/// How much, and how to repeat it.
#[derive(Debug, Clone, Args)]
pub struct Rounds {
    /// How many rounds
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Where chance begins; a round that failed prints the seed that repeats it [default: from the clock]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// One JSON object instead of a line each
    #[arg(long)]
    pub json: bool,
}

impl Rounds {
    /// The seed of the first round.
    pub fn first_seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |since| u64::from(since.subsec_nanos()))
        })
    }

    /// Says what came of it; whether all was as it must be.
    pub fn tell(&self, figures: &Figures) -> bool {
        if self.json {
            println!("{}", figures.json());
        } else {
            print!("{}", figures.lines());
        }
        figures.violations.is_empty()
    }
}
