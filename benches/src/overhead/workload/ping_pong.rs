//! A byte to another thread and back.

use std::os::fd::OwnedFd;

use anyhow::{Result, ensure};

use super::Work;
use crate::overhead::arguments::OverheadArguments;
use crate::overhead::measure::{MEASURED_CPU, OTHER_CPU, pin};

/// Our ends of two pipes. Dropping them ends the other thread.
struct PingPong {
    to: OwnedFd,
    from: OwnedFd,
}

pub(super) fn on_one_cpu(_: &OverheadArguments) -> Result<Box<dyn Work>> {
    start(MEASURED_CPU)
}

pub(super) fn on_two_cpus(_: &OverheadArguments) -> Result<Box<dyn Work>> {
    start(OTHER_CPU)
}

fn start(cpu: usize) -> Result<Box<dyn Work>> {
    let (theirs_in, to) = rustix::pipe::pipe()?;
    let (from, theirs_out) = rustix::pipe::pipe()?;
    std::thread::spawn(move || {
        let mut byte = [0];
        // An error shows at the other end, as a pipe that is closed.
        if pin(cpu).is_err() {
            return;
        }
        while rustix::io::read(&theirs_in, &mut byte).is_ok_and(|length| length == 1) {
            if rustix::io::write(&theirs_out, &byte).is_err() {
                return;
            }
        }
    });
    Ok(Box::new(PingPong { to, from }))
}

impl Work for PingPong {
    fn repeat(&mut self, times: u32) -> Result<()> {
        let mut byte = [0];
        for _ in 0..times {
            rustix::io::write(&self.to, &byte)?;
            let length = rustix::io::read(&self.from, &mut byte)?;
            ensure!(length == 1, "the other thread is gone");
        }
        Ok(())
    }
}
