//! Does what [`skep_tests::generator::FULL`] says and prints the truth as one line of JSON.
//!
//! It waits for a line on standard input before it ends, so that the process is still there to be looked at.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let truth = skep_tests::generator::run(skep_tests::generator::FULL)?;
    let mut out = std::io::stdout();
    writeln!(out, "{truth}")?;
    out.flush()?;
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
