//! `skep doctor`.

use clap::Args;

use crate::exit::Failure;
use crate::place::PlaceArgs;

/// Arguments of `skep doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn run(_args: DoctorArgs) -> Result<(), Failure> {
    Ok(())
}
