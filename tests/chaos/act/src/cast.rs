//! The processes that are acted on: this program, called in another way.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Works for so long, and rests for so long: a little of a core, more than a throttle leaves.
const WORK: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_millis(23);

/// Works a little, for ever.
pub(crate) fn burden() -> ! {
    loop {
        let begun = Instant::now();
        while begun.elapsed() < WORK {
            std::hint::spin_loop();
        }
        std::thread::sleep(REST);
    }
}

/// Writes its process id into `file` each time it is asked to end, and stays.
pub(crate) fn victim(file: &Path) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut asked = signal(SignalKind::terminate())?;
        while asked.recv().await.is_some() {
            let mut file = std::fs::File::options().append(true).create(true).open(file)?;
            file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
        }
        Ok(())
    })
}
