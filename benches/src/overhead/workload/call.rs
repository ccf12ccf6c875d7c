//! System calls that do next to nothing.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::Work;
use crate::overhead::arguments::OverheadArguments;
use crate::overhead::measure::{OTHER_CPU, pin, step_back};

struct Getppid;

pub(super) fn getppid(_: &OverheadArguments) -> Result<Box<dyn Work>> {
    Ok(Box::new(Getppid))
}

impl Work for Getppid {
    fn repeat(&mut self, times: u32) -> Result<()> {
        for _ in 0..times {
            std::hint::black_box(rustix::process::getppid());
        }
        Ok(())
    }
}

/// A thread that does the same on the other CPU, until this is dropped.
struct GetppidOnBoth {
    go_on: Arc<AtomicBool>,
}

pub(super) fn getppid_on_both(_: &OverheadArguments) -> Result<Box<dyn Work>> {
    let go_on = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&go_on);
    std::thread::spawn(move || {
        // It must not keep the CPU from others: a fault here would stop the machine.
        if pin(OTHER_CPU).is_ok() && step_back().is_ok() {
            while flag.load(Ordering::Relaxed) {
                std::hint::black_box(rustix::process::getppid());
            }
        }
    });
    Ok(Box::new(GetppidOnBoth { go_on }))
}

impl Work for GetppidOnBoth {
    fn repeat(&mut self, times: u32) -> Result<()> {
        Getppid.repeat(times)
    }
}

impl Drop for GetppidOnBoth {
    fn drop(&mut self) {
        self.go_on.store(false, Ordering::Relaxed);
    }
}

struct ReadOneByte {
    file: File,
}

pub(super) fn read_one_byte(_: &OverheadArguments) -> Result<Box<dyn Work>> {
    let path = "/dev/zero";
    Ok(Box::new(ReadOneByte { file: File::open(path).context(path)? }))
}

impl Work for ReadOneByte {
    fn repeat(&mut self, times: u32) -> Result<()> {
        let mut byte = [0];
        for _ in 0..times {
            self.file.read_exact(&mut byte)?;
        }
        Ok(())
    }
}
