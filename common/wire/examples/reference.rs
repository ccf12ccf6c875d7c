//! Prints docs/TABLES.md. `cargo xtask generate` runs it: a program of its own, because xtask must build when this crate
//! does not.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(skep_wire::reference::page().as_bytes())
}
