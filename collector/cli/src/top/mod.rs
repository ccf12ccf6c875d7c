//! `skep top`.

use clap::Args;

use crate::exit::Failure;
use crate::place::PlaceArgs;

/// Arguments of `skep top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Runs until q.
///
/// # Errors
/// [`Failure`].
pub async fn run(_args: TopArgs) -> Result<(), Failure> {
    Ok(())
}
