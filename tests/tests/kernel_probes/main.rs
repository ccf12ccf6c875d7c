//! The probes against the running kernel. Needs root; a test without its privileges fails and says so.
//!
//! Every test loads its own probes and does something known in processes of its own; one runs at a time.

#[cfg(test)]
mod block;
#[cfg(test)]
mod cgroup;
#[cfg(test)]
mod cpu;
mod hard;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod mishap;
#[cfg(test)]
mod pin;
#[cfg(test)]
mod privilege;
#[cfg(test)]
mod process;
#[cfg(test)]
mod security;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod socket_option;
#[cfg(test)]
mod support;
#[cfg(test)]
mod syscall;
#[cfg(test)]
mod tcp;
#[cfg(test)]
mod verifier;
