//! One file a domain.

pub mod cgroup;
pub mod cpu;
pub mod exec;
pub mod process;
pub mod syscall;

pub mod tcp;
