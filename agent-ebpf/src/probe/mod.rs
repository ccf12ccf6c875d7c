//! One file a domain.

pub mod cpu;
pub mod process;
pub mod syscall;

pub mod tcp;
