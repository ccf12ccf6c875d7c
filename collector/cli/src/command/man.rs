//! `skep man`: one page for the program and one for each command.

use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueHint};

use crate::exit::Failure;
use crate::output::{OutputError, print, replace_file};

/// Arguments of `skep man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep man | man -l -
  skep man --to /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write every page into this folder instead of printing the first
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub to: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> Result<(), Failure> {
    let mut command = crate::args::Cli::command();
    command.build();
    let Some(folder) = &args.to else {
        let page = render(command, PathBuf::from("skep.1"))?;
        return Ok(print(&String::from_utf8_lossy(&page.1))?);
    };
    std::fs::create_dir_all(folder).map_err(|source| OutputError::File { path: folder.clone(), source })?;
    let mut pages = vec![render(command.clone(), folder.join("skep.1"))?];
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        pages.push(render(part.clone(), folder.join(format!("skep-{}.1", part.get_name())))?);
    }
    for (path, page) in pages {
        replace_file(&path, &page)?;
    }
    Ok(())
}

fn render(command: clap::Command, path: PathBuf) -> Result<(PathBuf, Vec<u8>), Failure> {
    let mut page = Vec::new();
    match clap_mangen::Man::new(command).render(&mut page) {
        Ok(()) => Ok((path, page)),
        Err(source) => Err(OutputError::File { path, source }.into()),
    }
}
