//! The `skep` command line.
//!
//! A command decides where to ask ([`place`]), opens it ([`connect`]: a running collector, or the collector program over
//! a folder), asks in SQL, and prints ([`output`]). [`up`] is the exception: it starts the other programs and looks
//! after them. [`exit`] maps every failure to the process's exit code.
//!
//! Nothing here links the query engine: answers arrive as Arrow IPC, whoever computes them.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub mod args;

pub mod place;

pub mod programs;

pub mod connect;

pub mod output;

pub mod command;

pub mod top;

pub mod up;

pub mod exit;

use exit::{Code, Failure};

/// Parses, runs and reports: the whole process but for its memory.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match args::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe while printing help is nobody's fault; there is nothing left to report it to.
            if error.print().is_err() {
                return ExitCode::from(Code::Failed as u8);
            }
            let code = if error.use_stderr() { Code::Usage } else { Code::Ok };
            return ExitCode::from(code as u8);
        }
    };
    match start(cli) {
        Ok(()) => ExitCode::from(Code::Ok as u8),
        Err(failure) if failure.is_closed_pipe() => ExitCode::from(Code::Ok as u8),
        Err(failure) => {
            let style = output::Style::stderr();
            eprintln!("{} {}", style.paint(output::Paint::Bad, "error:"), failure.line());
            ExitCode::from(failure.code() as u8)
        }
    }
}

fn start(cli: args::Cli) -> Result<(), Failure> {
    // A second call finds one installed already, which is as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(command::CommandError::runtime)?;
    let result = runtime.block_on(command::run(cli.command));
    // A blocked read of the keyboard must not hold the process.
    runtime.shutdown_background();
    result
}
