//! One file a domain.

pub mod block;
pub mod cgroup;
pub mod cpu;
pub mod exec;
pub mod process;
pub mod security;
pub mod syscall;

pub mod mishap;

pub mod socket;

pub mod tcp;
