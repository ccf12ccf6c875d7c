//! One file a domain.

pub mod cgroup;
pub mod cpu;
pub mod process;
pub mod syscall;

pub mod mishap;

pub mod socket;

pub mod tcp;
