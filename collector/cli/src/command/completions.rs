//! `skep completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::exit::Failure;
use crate::output::print;

/// Arguments of `skep completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep completions bash > /usr/share/bash-completion/completions/skep
  skep completions fish > ~/.config/fish/completions/skep.fish")]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::Cli::command(), "skep", &mut text);
    Ok(print(&String::from_utf8_lossy(&text))?)
}
