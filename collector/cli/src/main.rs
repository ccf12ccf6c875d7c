//! The `skep` command; everything is in the library so that it can be tested.

use std::process::ExitCode;

fn main() -> ExitCode {
    skep::run(std::env::args_os())
}
